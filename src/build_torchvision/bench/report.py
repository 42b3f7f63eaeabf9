"""Timings as a table and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

from build_torchvision.bench.comparison import AGAIN, STOCK, Candidate, Timing
from build_torchvision.bench.intervals import Ratio, Verdict, geometric_mean, paired_ratio
from build_torchvision.inputs.cache import sha256_of

PARITY = 2**-15
"""The largest difference from the stock wheel's result, relative to its largest value: rounding of float32.

A sample's place on the map is a float32 too. Beside pixel 128 it is right to 2**-17, and moves the sample by so much of
the difference of neighbouring pixels: the large maps here are off by 2**-16, those of half their size by half of that.
"""
QUANTUM = 0.02
"""The same for quantized results, whose rounding to one of 256 steps can fall on the other side."""
MARKS = {Verdict.FASTER: "faster", Verdict.SLOWER: "SLOWER", Verdict.SAME: "no difference"}


@dataclass(frozen=True, kw_only=True)
class ComparisonRow:
    """One case and variant, compared."""

    timing: Timing
    variant: str
    ratio: Ratio
    noise: Ratio
    verdict: Verdict
    error: float

    @property
    def agrees(self) -> bool:
        """Whether the variant's result is the stock wheel's, within rounding. A codec's pixels are not compared."""
        if self.timing.group == "codec":
            return True
        return self.error <= (QUANTUM if "quantized" in self.timing.name else PARITY)


def rows(timings: Iterable[Timing]) -> list[ComparisonRow]:
    """Every variant of every case beside stock; the stock wheel against itself is the noise floor."""
    found = []
    for timing in timings:
        stock = timing.seconds[STOCK]
        noise = paired_ratio(stock, timing.seconds[AGAIN])
        for variant, seconds in timing.seconds.items():
            if variant in (STOCK, AGAIN):
                continue
            ratio = paired_ratio(stock, seconds)
            found.append(
                ComparisonRow(
                    timing=timing,
                    variant=variant,
                    ratio=ratio,
                    noise=noise,
                    verdict=ratio.verdict(noise.value),
                    error=timing.errors[variant],
                )
            )
    return found


def means(timings: Sequence[Timing], variant: str) -> dict[str, Ratio]:
    """Geometric means over the operators' cases: all, and by direction."""
    found = {}
    for label, directions in (("all", ("forward", "backward")), ("forward", ("forward",)), ("backward", ("backward",))):
        chosen = [t for t in timings if t.group == "op" and t.direction in directions]
        if chosen:
            found[label] = geometric_mean([(t.seconds[STOCK], t.seconds[variant]) for t in chosen])
    return found


def to_json(
    timings: Sequence[Timing], contenders: Sequence[Candidate], imports: dict[str, list[float]], about: dict[str, Any]
) -> dict[str, Any]:
    """The documented shape of `bench --json`."""
    variants = list(dict.fromkeys(name for each in timings for name in each.seconds if name not in (STOCK, AGAIN)))
    cases = []
    for row in rows(timings):
        timing = row.timing
        cases.append(
            {
                "name": timing.name,
                "size": timing.size,
                "direction": timing.direction,
                "group": timing.group,
                "threads": timing.threads,
                "device": timing.device,
                "variant": row.variant,
                "stock_seconds": spread(timing.seconds[STOCK]),
                "seconds": spread(timing.seconds[row.variant]),
                "ratio": _ratio(row.ratio),
                "noise": _ratio(row.noise),
                "verdict": row.verdict,
                "error": row.error,
                "agrees": row.agrees,
            }
        )
    return {
        "about": about,
        "cases": cases,
        "means": {
            variant: {
                where: {
                    label: _ratio(ratio)
                    for label, ratio in means([t for t in timings if where_of(vars(t)) == where], variant).items()
                }
                for where in dict.fromkeys(where_of(vars(timing)) for timing in timings)
            }
            for variant in variants
        },
        "import_seconds": {name: spread(values) for name, values in imports.items()},
        "sha256": {contender.name: sha256_of(contender.wheel) for contender in contenders if contender.wheel},
        "bytes": {contender.name: contender.sizes for contender in contenders if contender.name != AGAIN},
    }


def where_of(case: Mapping[str, Any]) -> str:
    """Where a case ran, as `means` has it: a number of threads ("1"), or "cuda"."""
    return "cuda" if case["device"] == "cuda" else str(case["threads"])


def where_title(result: Mapping[str, Any], where: str) -> str:
    """The same for people: "2 threads", or the GPU's name."""
    return str(result["about"]["gpu"]) if where == "cuda" else f"{where} thread{'' if where == '1' else 's'}"


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles, in seconds, and the number of rounds."""
    low, _, high = quantiles(values, n=4)
    return {"median": median(values), "low": low, "high": high, "rounds": len(values)}


def _ratio(ratio: Ratio) -> dict[str, float]:
    return {"value": round(ratio.value, 4), "low": round(ratio.low, 4), "high": round(ratio.high, 4)}


def markdown(result: dict[str, Any]) -> str:
    """The table, for people: a row a case, ratios with their intervals."""
    variants = list(result["means"])
    about = result["about"]
    lines = [f"Machine: {about['machine']}. torch {about['torch']}. Stock: torchvision {about['stock']}.", ""]
    lines += [
        "Stock's time over the variant's: above 1 the variant is faster. In brackets the 95 % bootstrap interval of"
    ]
    lines += ["the median ratio of interleaved rounds; † marks a result that differs by more than rounding.", ""]
    for where in dict.fromkeys(where_of(case) for case in result["cases"]):
        lines += [f"### {where_title(result, where)}", ""]
        lines += ["| case | stock | " + " | ".join(variants) + " | stock against itself |"]
        lines += ["| --- | --- |" + " --- |" * (len(variants) + 1)]
        here = [case for case in result["cases"] if where_of(case) == where]
        keys = dict.fromkeys((case["name"], case["size"], case["direction"]) for case in here)
        for case_name, size, direction in keys:
            key = (case_name, size, direction)
            same = {c["variant"]: c for c in here if (c["name"], c["size"], c["direction"]) == key}
            first = next(iter(same.values()))
            cells = [_cell(same[variant]) for variant in variants]
            noise = f"{first['noise']['value']:.2f}"
            stock = duration(first["stock_seconds"])
            lines += [f"| {case_name}, {size}, {direction} | {stock} | {' | '.join(cells)} | {noise} |"]
        for label in ("all", "forward", "backward"):
            values = [result["means"][variant][where].get(label) for variant in variants]
            if all(values):
                cells = [f"**{v['value']:.2f}** ({v['low']:.2f}-{v['high']:.2f})" for v in values]
                lines += [f"| **operators, geometric mean, {label}** | | {' | '.join(cells)} | |"]
        lines += [""]
    lines += ["| | " + " | ".join(result["bytes"]) + " |", "| --- |" + " --- |" * len(result["bytes"])]
    for part in ("wheel", "unpacked", "_C.so"):
        sizes = [size[part] for size in result["bytes"].values()]
        lines += [f"| {part}, MiB | " + " | ".join(f"{size / 2**20:.2f}" if size else "" for size in sizes) + " |"]
    if result["import_seconds"]:
        cells = [f"{result['import_seconds'][name]['median']:.2f}" for name in result["bytes"]]
        lines += ["| import torchvision, CPU s | " + " | ".join(cells) + " |"]
    return "\n".join(lines) + "\n"


def _cell(case: dict[str, Any]) -> str:
    ratio, mark = case["ratio"], "" if case["agrees"] else " †"
    text = f"{ratio['value']:.2f} ({ratio['low']:.2f}-{ratio['high']:.2f})"
    return {"faster": f"**{text}**", "slower": f"{text} slower"}.get(case["verdict"], f"{text} no difference") + mark


def duration(spread_of: dict[str, float]) -> str:
    """Median and half the distance between the quartiles, in the unit that reads best."""
    value, half = spread_of["median"], (spread_of["high"] - spread_of["low"]) / 2
    scale, unit = (1e6, "µs") if value < 1e-3 else (1e3, "ms") if value < 1 else (1, "s")
    return f"{value * scale:.3g} ± {half * scale:.2g} {unit}"

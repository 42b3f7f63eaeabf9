"""The benchmark as a picture: one row a case, a dot and an interval each variant, on a logarithmic axis around 1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from build_torchvision.bench.report import where_of, where_title
from build_torchvision.errors import MissingInput

# Okabe and Ito's colours, told apart with every kind of colour blindness, on white and on near-black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
MARKERS = ("o", "D", "s", "^")
INK = "#1f2328"
SIZES = ("small", "typical", "large")


def draw(result: dict[str, Any], base: Path, *, where: str = "1") -> list[Path]:
    """Write `base`.svg and `base`.png from `bench --json`: what ran at `where` (report.where_of). Returns them.

    Raises MissingInput without matplotlib.
    """
    try:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
        from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
    except ImportError as error:
        raise MissingInput(
            "drawing the benchmark", "matplotlib is not installed.", "Type `pip install 'build-torchvision[bench]'`."
        ) from error
    variants = list(result["means"])
    groups = _groups(result, where)
    plt.rcParams.update({"font.family": "DejaVu Sans", "font.size": 9, "svg.hashsalt": "bench", "text.color": INK})
    figure, axes = plt.subplots(figsize=(8.2, 0.34 * sum(len(g) for _, g in groups) + 0.6 * len(groups) + 1.9))
    figure.patch.set_facecolor("white")
    y, labels, ends = 0.0, [], [1.0]
    for title, keys in groups:
        axes.text(-0.30, y, title, transform=axes.get_yaxis_transform(), weight="bold", va="center", fontsize=9.5)
        y += 0.9
        for name, cases in keys:
            labels.append((y, f"{name}"))
            axes.axhspan(y - 0.5, y + 0.5, color="#f3f5f7" if len(labels) % 2 else "white", zorder=0, lw=0)
            for number, variant in enumerate(variants):
                for place, size in enumerate(SIZES):
                    case = cases.get((variant, size))
                    if case is None:
                        continue
                    ratio, at = case["ratio"], y + (number - (len(variants) - 1) / 2) * 0.3 + (place - 1) * 0.085
                    colour, sure = COLOURS[number], case["verdict"] != "no difference"
                    ends += [ratio["low"], ratio["high"]]
                    axes.plot([ratio["low"], ratio["high"]], [at, at], color=colour, lw=1.3, alpha=0.75, zorder=2)
                    axes.plot(
                        ratio["value"],
                        at,
                        MARKERS[number],
                        ms=(3.2, 4.6, 6.0)[place],
                        mfc=colour if sure else "white",
                        mec=colour,
                        mew=1.1,
                        zorder=3,
                    )
            y += 1
        y += 0.25
    axes.axvline(1, color=INK, lw=1, zorder=1)
    axes.set_xscale("log")
    low, high, ticks = ratio_axis(ends)
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axes.grid(axis="x", color="#d0d7de", lw=0.7, zorder=0.5)
    axes.set_yticks([at for at, _ in labels], [text for _, text in labels])
    axes.tick_params(length=0, colors=INK)
    axes.set_ylim(y, -0.6)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.set_xlabel(
        f"speed beside the stock wheel, {where_title(result, where)} "
        "(time of stock / time of the variant); line: 95 % interval"
    )
    for number, variant in enumerate(variants):
        mean = result["means"][variant][where].get("all")
        text = variant + (f": operators {mean['value']:.2f}x in the geometric mean" if mean else "")
        axes.plot([], [], MARKERS[number], color=COLOURS[number], ms=6, label=text)
    axes.plot([], [], "o", mfc="white", mec=INK, ms=5, label="hollow: no difference beyond the noise")
    figure.legend(loc="upper left", bbox_to_anchor=(0.02, 0.955), frameon=False, ncols=1, fontsize=8.5)
    about = result["about"]
    here = "GPU" if where == "cuda" else "CPU"
    figure.suptitle(
        f"TorchVision {about['torchvision']} built for this {here}, beside the stock wheel",
        x=0.02,
        ha="left",
        weight="bold",
    )
    figure.text(
        0.02,
        0.006,
        f"{about['machine']}, torch {about['torch']}, stock {about['stock']}. Marker size: small, typical, large.",
        fontsize=7.5,
    )
    top = 1 - (0.75 + 0.2 * len(variants)) / figure.get_figheight()
    figure.subplots_adjust(left=0.235, right=0.975, top=top, bottom=0.75 / figure.get_figheight())
    written = []
    for suffix, options in ((".svg", {"metadata": {"Date": None}}), (".png", {"dpi": 160})):
        path = base.with_suffix(suffix)
        figure.savefig(path, facecolor="white", **options)
        written.append(path)
    plt.close(figure)
    return written


def ratio_axis(ends: Sequence[float]) -> tuple[float, float, list[float]]:
    """(lowest ratio, highest, those that are labelled) of an axis with room for every value of `ends`."""
    low, high = min(0.8, min(ends) * 0.95), max(1.25, max(ends) * 1.05)
    near, far = (
        (0.6, 0.7, 0.8, 0.9, 1, 1.25, 1.5, 2, 3, 4, 5, 6),
        (0.25, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20, 50, 100, 200),
    )
    return low, high, [float(tick) for tick in (near if high < 7 else far) if low <= tick <= high]


def _groups(result: dict[str, Any], where: str) -> list[tuple[str, list[tuple[str, dict[tuple[str, str], Any]]]]]:
    """(title, rows), a row (name, cases by variant and size)."""
    titles = {"forward": "forward", "backward": "backward", "decode": "images", "encode": "images"}
    found: dict[str, dict[tuple[str, str], dict[tuple[str, str], Any]]] = {}
    for case in result["cases"]:
        if where_of(case) == where:
            row = found.setdefault(titles[case["direction"]], {}).setdefault((case["name"], case["direction"]), {})
            row[case["variant"], case["size"]] = case
    order = [title for title in ("forward", "backward", "images") if title in found]
    return [(title, [(name, cases) for (name, _), cases in found[title].items()]) for title in order]

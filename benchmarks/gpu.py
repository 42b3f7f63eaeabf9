"""CUDA wheels on the GPU that is here: each verified, then timed beside the torchvision that the environment has.

    python benchmarks/gpu.py WHEEL... --python ENVIRONMENT [--beside WHEEL] [--upstream-tests] [--json FILE]

WHEELs are ours: each goes through `verify --device`, with upstream's CUDA tests where its cubins serve the GPU, and one
that the GPU cannot run must be refused. Those that hold are timed, and so is any --beside wheel, which is laid over the
environment unverified (another build of TorchVision, by nvcc say), and the installed one, which is the measure. All in
one run on one GPU: in every round each operator is timed with each package in turn, and the order turns. Printed are
medians over the rounds with their quartiles, and the ratio to the installed package, taken round by round.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from build_torchvision.cli.screens import proof_table
from build_torchvision.cli.verify import present
from build_torchvision.errors import BadInput, BuildTorchvisionError
from build_torchvision.proof.checks import Proof
from build_torchvision.proof.gpu import Gpu, choose, groups_of
from build_torchvision.proof.gpu_run import on
from build_torchvision.proof.package import Package
from build_torchvision.proof.place import Environment, Place, existing, laid_over
from build_torchvision.trial import Trial, prove_all

WORKER = Path(__file__).with_name("_gpu_worker.py")
POOLING = ("roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d")
CASES = [("nms", "forward"), *((op, direction) for op in POOLING for direction in ("forward", "backward"))]
OUT, ERR = Console(width=180), Console(stderr=True, width=180)


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Milliseconds a call with one package: the median over the rounds and the quartiles; `ratio` to the installed."""

    package: str
    op: str
    direction: str
    ms: float
    low: float
    high: float
    ratio: float
    ratio_low: float
    ratio_high: float


class Worker:
    """A process that times operators of one package, in turn with others."""

    def __init__(self, name: str, place: Place) -> None:
        self.name = name
        self.process = subprocess.Popen(
            list(map(str, place.command(WORKER))),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **place.env},
        )
        self.said = self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the timing of {self.name} stopped with exit code {self.process.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def ms(self, op: str, direction: str, samples: int) -> float:
        """The median of `samples` samples, in milliseconds a call."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"op": op, "direction": direction, "samples": samples}) + "\n")
        self.process.stdin.flush()
        return statistics.median(self._read()["ms"])

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)


def label(wheel: Path) -> str:
    """What a wheel is called in the table: its local version and, where it says so, its CUDA compiler."""
    version = wheel.name.split("-")[1]
    compiler = Package(wheel).descriptor.get("cuda_compiler")
    return (version.partition("+")[2] or version) + (f", {compiler}" if compiler else "")


@contextmanager
def workers(wheels: Sequence[Path], environment: Environment, gpu: Gpu) -> Iterator[list[Worker]]:
    """The installed package's worker, then each wheel's."""
    with ExitStack() as stack:
        places = [(f"installed {environment.torchvision}", Place(python=environment.python))]
        for wheel in wheels:
            places.append((label(wheel), stack.enter_context(laid_over(wheel, environment))))
        running = []
        for name, place in places:
            running.append(Worker(name, on(place, gpu, jit=True)))
            stack.callback(running[-1].close)
        yield running


def time_all(running: Sequence[Worker], rounds: int, samples: int) -> list[Timing]:
    found: dict[tuple[str, str, str], list[float]] = {}
    for number in range(rounds):
        for op, direction in CASES:
            turned = [*running[number % len(running) :], *running[: number % len(running)]]
            for worker in turned:
                found.setdefault((worker.name, op, direction), []).append(worker.ms(op, direction, samples))
        ERR.print(f"round {number + 1} of {rounds}", highlight=False)
    stock = running[0].name
    timings = []
    for (name, op, direction), times in found.items():
        low, middle, high = statistics.quantiles(times, n=4)
        ratios = [own / other for own, other in zip(times, found[stock, op, direction], strict=True)]
        ratio_low, ratio, ratio_high = statistics.quantiles(ratios, n=4)
        timings.append(
            Timing(
                package=name,
                op=op,
                direction=direction,
                ms=middle,
                low=low,
                high=high,
                ratio=ratio,
                ratio_low=ratio_low,
                ratio_high=ratio_high,
            )
        )
    return timings


def table_of(timings: Sequence[Timing]) -> Table:
    names = list(dict.fromkeys(timing.package for timing in timings))
    table = Table("operator", "direction", *names, title="ms a call, median (quartiles); ratio to the installed")
    for op, direction in CASES:
        row = {timing.package: timing for timing in timings if (timing.op, timing.direction) == (op, direction)}
        cells = [f"{t.ms:.4f} ({t.low:.4f}-{t.high:.4f})" for t in row.values()]
        beside = ["", *(f" x{t.ratio:.2f} ({t.ratio_low:.2f}-{t.ratio_high:.2f})" for t in list(row.values())[1:])]
        table.add_row(op, direction, *(cell + ratio for cell, ratio in zip(cells, beside, strict=True)))
    return table


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheels", nargs="+", type=Path)
    parser.add_argument("--python", type=Path, required=True, help="an environment with torch and a torchvision")
    parser.add_argument("--beside", type=Path, action="append", default=[], help="a wheel that is timed only")
    parser.add_argument("--upstream-tests", action="store_true", help="run upstream's CUDA tests too")
    parser.add_argument("--source", type=Path, help="upstream's source, instead of the download")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--samples", type=int, default=5, help="in each round, whose median counts")
    parser.add_argument("--json", type=Path, help="write everything there")
    return parser.parse_args()


def main() -> int:
    asked = arguments()
    called = Counter(label(wheel) for wheel in (*asked.wheels, *asked.beside))
    if twice := [name for name, times in called.items() if times > 1]:
        raise BadInput("timing these wheels", f"Two of them are called {twice[0]}.", "Give one of the two.")
    host, environment = present(), existing(asked.python)
    host.require("these wheels")
    proofs: list[Proof] = []
    runnable: list[Path] = []
    held = True
    for wheel in asked.wheels:
        served = choose(groups_of(Package(wheel).extensions), host)
        trial = Trial(
            upstream_tests=asked.upstream_tests and served is not None and served[1] == "cubin",
            python=asked.python,
            gpus=host,
            source=asked.source,
        )
        (proof,) = prove_all([(wheel, None)], trial)
        proofs.append(proof)
        OUT.print(proof_table(proof))
        if served is None:
            OUT.print(f"{wheel.name}: no GPU here runs it, and it was {'REFUSED' if not proof.ok else 'ACCEPTED'}\n")
        held = held and proof.ok == (served is not None)
        runnable += [wheel] if served else []
    gpu = host.gpus[0]
    with workers([*runnable, *asked.beside], environment, gpu) as running:
        for worker in running:
            ERR.print(worker.name, worker.said, highlight=False)
        timings = time_all(running, asked.rounds, asked.samples)
        said = {worker.name: worker.said for worker in running}
    OUT.print(f"{gpu}, driver {host.driver}")
    OUT.print(table_of(timings))
    if asked.json:
        everything = {
            "gpu": str(gpu),
            "driver": host.driver,
            "packages": said,
            "proofs": [proof.to_json() for proof in proofs],
            "rounds": asked.rounds,
            "timings": [asdict(timing) for timing in timings],
        }
        asked.json.write_text(json.dumps(everything, indent=1) + "\n")
    return 0 if held else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BuildTorchvisionError as error:
        sys.exit(f"{error.asked}: {error.obstacle} {error.remedy}")

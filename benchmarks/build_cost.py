"""What a build costs, beside upstream's own `setup.py bdist_wheel` on the same machine in the same run.

    python benchmarks/build_cost.py [--torchvision 0.21.0] [--source DIR] [--environment VENV] [--jobs 2] [--cuda]
                                    [--skip-upstream] [--skip-kinds] [--json FILE]

Prints CPU seconds (user and system, of the process and all that it started), wall seconds, and the largest process's
memory, each as measured now. Compilers' caches are kept out of both sides; what either has to download is there before
the clocks start. Needs what `./bootstrap` installs, about 10 GB of disk for an environment with torch, and 15 minutes.

The floor is what no arrangement of one compiler's work goes below: the headers parsed once, every unit's code generated
once, and one link. Front ends and code generators are told apart by running each compile again with -fsyntax-only.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import _cuda_cost as cuda
from rich.console import Console
from rich.table import Table
from uv import find_uv_bin

from build_torchvision import pipeline
from build_torchvision.errors import BuildTorchvisionError
from build_torchvision.execute.runner import RunOutcome
from build_torchvision.facts import Release
from build_torchvision.graph.actions import Action, ActionKind, shell
from build_torchvision.inputs.resolve import BuildRequest, resolve_inputs
from build_torchvision.inputs.source import fetch_source
from build_torchvision.inputs.torch_sdk import read_sdk
from build_torchvision.process import run
from build_torchvision.releases import release_named
from build_torchvision.variants import Variant, enumerate_variants, select
from build_torchvision.verify.environments import find_python

CPU = "avx512"
GOAL_ONE, GOAL_FURTHER, GOAL_MEMORY = 1 / 4, 1 / 8, 1536  # of upstream's CPU seconds; MiB a process
BUILD_TOOLS = ("setuptools>=70,<80", "wheel", "ninja", "numpy")  # a setup.py of that time imports pkg_resources
COLD = {"CCACHE_DISABLE": "1", "SCCACHE_RECACHE": "1"}  # torch's build takes ccache from PATH by itself
ERR = Console(stderr=True)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """CPU and wall seconds of one build; `peak_mib` is its largest process's memory."""

    name: str
    cpu: float
    wall: float
    peak_mib: float


@contextmanager
def clock() -> Iterator[Callable[[], tuple[float, float]]]:
    """Yields a function that returns (CPU seconds with all children's, wall seconds) since the start."""

    def spent() -> float:
        usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)

    cpu, wall = spent(), time.monotonic()
    yield lambda: (spent() - cpu, time.monotonic() - wall)


def upstream(
    known: Release,
    python: str,
    jobs: int,
    scratch: Path,
    environment: dict[str, str],
    name: str,
    *,
    source: Path | None = None,
    given: Path | None = None,
) -> Cost:
    """Run the release's own setup.py for `python` beside its torch, in `scratch`; installing is not counted.

    `given` is the folder of an environment that has that torch and setuptools, `source` an unpacked source tree.
    """
    uv, venv = find_uv_bin(), given or scratch / "venv"
    action = f"building TorchVision {known.torchvision} by its own setup.py"
    if not venv.exists():
        ERR.print(f"installing torch {known.torch} for upstream's build")
        run([uv, "venv", "-q", "--no-project", "--python", find_python(python), venv], action=action)
        install = [uv, "pip", "install", "-q", "--python", venv / "bin" / "python"]
        run([*install, f"torch=={known.torch}", *BUILD_TOOLS], action=action)
    tree = scratch / f"upstream-{name.replace(' ', '-')}"
    shutil.copytree(source or fetch_source(known).root, tree)
    env = {**os.environ, **COLD, **environment, "MAX_JOBS": str(jobs), "BUILD_VERSION": known.torchvision}
    env["PATH"] = f"{venv / 'bin'}:{env['PATH']}"
    ERR.print(f"building {name}: {shell(['setup.py', 'bdist_wheel'])}, {jobs} jobs")
    # In a process of its own, so that its largest child's memory can be told from ours.
    code = (
        "import json, resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], check=True, stdout=sys.stderr)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    with clock() as spent:
        done = run(
            [sys.executable, "-c", code, venv / "bin" / "python", "setup.py", "bdist_wheel"],
            action=action,
            cwd=tree,
            env=env,
        )
        cpu, wall = spent()
    wheels = list((tree / "dist").glob("*.whl"))
    if len(wheels) != 1:
        sys.exit(f"{action}: it left {len(wheels)} wheels")
    return Cost(name=name, cpu=cpu, wall=wall, peak_mib=float(done.stdout.split()[-1]) / 1024)


def ours(
    variants: list[Variant], known: Release, jobs: int, folder: Path, **options: object
) -> tuple[Cost, RunOutcome]:
    """Build `variants` from nothing in `folder`, packing and proving included."""
    request = BuildRequest(
        variants=tuple(variants), release=known, jobs=jobs, out=folder / "dist", launcher="none", **options
    )  # type: ignore[arg-type]  # the options are BuildRequest's own fields
    os.environ.update(COLD)
    name = f"ours: {', '.join(dict.fromkeys(variant.short for variant in variants))}"
    with clock() as spent:
        result = pipeline.build_all([request], ERR, folder=folder / "objects")
        cpu, wall = spent()
    (outcome,) = result.outcomes
    return Cost(name=name, cpu=cpu, wall=wall, peak_mib=outcome.peak_mib), outcome


def by_kind(outcome: RunOutcome) -> Counter[str]:
    """CPU seconds of each kind of action, one at a time, each once more; a compile is split at its syntax tree."""
    seconds: Counter[str] = Counter()
    for action in outcome.graph.actions:
        whole = _again(action.command, outcome.folder)
        if action.kind is ActionKind.COMPILE:
            front = _again(_syntax_only(action), outcome.folder)
            seconds["front ends"] += front
            seconds["code generation"] += max(0.0, whole - front)
        else:
            seconds[_TITLES[action.kind]] += whole
    return seconds


_TITLES = {
    ActionKind.PCH: "headers",
    ActionKind.FRONTEND: "front ends",
    ActionKind.OPTIMISE: "code generation",
    ActionKind.CODEGEN: "code generation",
    ActionKind.REWRITE: "rewriting",
    ActionKind.DEVICE: "device code",
    ActionKind.ASSEMBLE: "device code",
    ActionKind.NASM: "code generation",
    ActionKind.LINK: "linking",
}


def _syntax_only(action: Action) -> tuple[str, ...]:
    command = list(action.command)
    at = command.index("-o")
    return (*command[:at], *command[at + 2 :], "-fsyntax-only")


def _again(command: tuple[str, ...], folder: Path) -> float:
    with clock() as spent:
        subprocess.run(shell(command), shell=True, cwd=folder, check=True, capture_output=True)
        return spent()[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torchvision", default="0.21.0")
    parser.add_argument("--python", default="313")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--cuda", action="store_true", help="CUDA 13.0 and torch 2.11: one, nine, thirty-six variants")
    parser.add_argument("--skip-upstream", action="store_true", help="measure ours alone, without ratios")
    parser.add_argument("--skip-kinds", action="store_true", help="leave out where ours of one variant goes")
    parser.add_argument("--source", type=Path, help="an unpacked source tree of the release, for both")
    parser.add_argument("--environment", type=Path, help="a virtual environment with the release's torch, for both")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    known = release_named(options.torchvision)
    given = options.environment
    if given is not None:
        torch = read_sdk(next((given / "lib").glob("python3*/site-packages")), str(given))
        options.python = torch.root.parent.name.removeprefix("python").replace(".", "")
    if options.cuda:
        with tempfile.TemporaryDirectory(prefix="build-cost-") as name:
            costs = measure_cuda(known, options.python, options.jobs, Path(name), skip_upstream=options.skip_upstream)
        if options.json:
            options.json.write_text(json.dumps({"costs": [asdict(cost) for cost in costs]}, indent=1))
        return
    with tempfile.TemporaryDirectory(prefix="build-cost-") as name:
        costs, kinds = measure(
            known,
            options.python,
            options.jobs,
            Path(name),
            skip_upstream=options.skip_upstream,
            skip_kinds=options.skip_kinds,
            source=options.source,
            given=given,
            torch=str(torch.root) if given else None,
        )
    report(costs, kinds)
    if options.json:
        options.json.write_text(json.dumps({"costs": [asdict(cost) for cost in costs], "by_kind": kinds}, indent=1))


def measure(
    known: Release,
    python: str,
    jobs: int,
    scratch: Path,
    *,
    skip_upstream: bool,
    skip_kinds: bool,
    source: Path | None,
    given: Path | None,
    torch: str | None,
) -> tuple[list[Cost], Counter[str]]:
    """[upstream's build, ours of one variant, of all four], and where ours of one went."""
    inputs = {"source": source, "torch": torch}
    universe = enumerate_variants(python, ("cpu",))
    variants = [variant for variant in select(["cpu-avx*"], universe) if variant.platform == "x86_64"]
    resolve_inputs(BuildRequest(variants=tuple(variants), release=known, source=source, torch=torch))
    one, outcome = ours([v for v in variants if v.isa == CPU], known, jobs, scratch / "one", **inputs)
    every, _ = ours(variants, known, jobs, scratch / "every", **inputs)
    kinds = Counter[str]() if skip_kinds else by_kind(outcome)
    # Last: the largest child's memory that the system reports is that of all children so far.
    costs = []
    if not skip_upstream:
        env = {"FORCE_CUDA": "0"}
        costs.append(upstream(known, python, jobs, scratch, env, "upstream", source=source, given=given))
    return [*costs, one, every], kinds


def measure_cuda(known: Release, python: str, jobs: int, scratch: Path, *, skip_upstream: bool) -> list[Cost]:
    """[upstream's build for one SM, ours of each step], each printed as it is measured."""
    console, costs, spent = Console(width=110), list[Cost](), dict[str, float]()

    def note(cost: Cost) -> None:
        costs.append(cost)
        line = f"{cost.name}: {cost.cpu:.1f} CPU s, {cost.wall:.1f} s wall, largest process {cost.peak_mib:.0f} MiB"
        console.print(line, highlight=False)

    home, _ = cuda.toolkit_home(scratch / "cuda")
    for pattern, _ in cuda.STEPS:
        variants = cuda.variants_of(pattern, python)
        made, _ = ours(variants, known, jobs, scratch / f"ours-{len(variants)}", torch=cuda.TORCH, allow_unpaired=True)
        note(replace(made, name=f"ours: {cuda.TRACK}-{pattern}, {len(variants)} wheels"))
        spent[pattern] = made.cpu
        shutil.rmtree(scratch / f"ours-{len(variants)}")
    if not skip_upstream:
        note(upstream(cuda.pair(known), python, jobs, scratch, cuda.upstream_environment(home), "upstream, sm_90"))
        for line in cuda.verdicts(costs[-1].cpu, spent.__getitem__):
            console.print(line, highlight=False)
    return costs


def report(costs: list[Cost], kinds: Counter[str]) -> None:
    """Print the table, the ratios beside their goals, and the distance from the floor."""
    console = Console(width=110)
    table = Table("build", "CPU s", "wall s", "largest process, MiB", box=None)
    for cost in costs:
        table.add_row(cost.name, f"{cost.cpu:.1f}", f"{cost.wall:.1f}", f"{cost.peak_mib:.0f}")
    console.print(table)
    *before, one, every = costs
    further = (every.cpu - one.cpu) / 3
    for base in before:
        for title, value, goal in (
            ("one variant from nothing", one.cpu, GOAL_ONE),
            ("each further ISA", further, GOAL_FURTHER),
            ("one of four variants, on average", every.cpu / 4, GOAL_FURTHER),
        ):
            verdict = "met" if value / base.cpu <= goal else "NOT MET"
            share = f"1/{base.cpu / value:.1f} of upstream's {base.cpu:.0f}"
            console.print(f"{title}: {value:.1f} CPU s, {share} (goal 1/{1 / goal:.0f}: {verdict})", highlight=False)
    peak = max(one.peak_mib, every.peak_mib)
    verdict = "met" if peak <= GOAL_MEMORY else "NOT MET"
    console.print(f"peak of a process: {peak:.0f} MiB (goal {GOAL_MEMORY}: {verdict})", highlight=False)
    if not kinds:
        return
    console.print("one variant, each action once more, alone:", highlight=False)
    for title, seconds in kinds.most_common():
        console.print(f"  {title:16} {seconds:5.1f} CPU s", highlight=False)
    floor = sum(kinds.values()) - kinds["front ends"]
    console.print(
        f"floor (headers, code generation, linking): {floor:.1f} CPU s; one variant takes {one.cpu / floor:.2f} times "
        f"that, of which packing and proof are {max(0.0, one.cpu - sum(kinds.values())):.1f} CPU s",
        highlight=False,
    )


if __name__ == "__main__":
    try:
        main()
    except BuildTorchvisionError as error:
        sys.exit(str(error))

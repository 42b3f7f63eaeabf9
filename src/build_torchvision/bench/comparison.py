"""A comparison: the stock wheel and variants of the same release, a process each, timed in turns.

Two TorchVisions cannot share a process, since they register the same operators. They share a torch: each wheel is
unpacked into a folder of its own, and a worker puts that folder first on its path.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

from build_torchvision.errors import BadInput, ProcessFailed
from build_torchvision.inputs.cache import check_cache, held, publish
from build_torchvision.inputs.registry import download
from build_torchvision.process import run
from build_torchvision.requests import running_python
from build_torchvision.verify.environments import fill, find_python
from build_torchvision.verify.package import Package, parse_file_name
from build_torchvision.verify.target import PythonTarget

WORKER = Path(__file__).with_name("_worker.py")
LEAST_ROUNDS = 5
SLICE = 0.01
"""Seconds of one timing, at least: many calls where one takes less."""
STOCK, AGAIN = "stock", "stock, again"
NO_ENV: Mapping[str, str] = MappingProxyType({})
IMPORT = "import time, sys; sys.path.insert(0, sys.argv[1]); import torch; t = time.process_time(); import torchvision"
IMPORT += "; print(time.process_time() - t)"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A TorchVision in `folder`, unpacked from `wheel` unless it is an environment's own."""

    name: str
    wheel: Path | None
    folder: Path

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of the wheel (0 without one), of what it unpacks to, and of its operators (`_C_stable` among them)."""
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return {
            "wheel": self.wheel.stat().st_size if self.wheel else 0,
            "unpacked": sum(path.stat().st_size for path in files),
            "_C.so": sum(path.stat().st_size for path in (self.folder / "torchvision").glob("_C*.so")),
        }


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of one call, a round each, by contender; `errors`: the largest difference from the stock wheel's result.

    CPU seconds of the calling thread with one thread, seconds of the wall clock with more and on a GPU ("cuda").
    """

    name: str
    size: str
    direction: str
    group: str
    threads: int
    device: str
    seconds: dict[str, list[float]]
    errors: dict[str, float] = field(default_factory=dict)


@contextlib.contextmanager
def arena(
    wheels: Sequence[Path], *, torch: str, python: Path | None = None, installed: PythonTarget | None = None
) -> Iterator[tuple[Path, list[Candidate]]]:
    """An interpreter with torch, and the contenders: the stock wheel twice, then `wheels`.

    `torch` is a version; `python` an interpreter that has it already, else an environment is made and kept in the
    cache. With `installed` that environment's torchvision is the stock one, of whatever release. Raises BadInput unless
    the wheels are of one release and Python and have names of their own, FetchFailed without the stock wheel.
    """
    names = [parse_file_name(wheel.name) for wheel in wheels]
    for wheel in wheels:
        if not wheel.is_file():
            raise BadInput(f"bench {wheel}", "there is no such file.", "Check the path; `build` prints it.")
    releases = {name.version.partition("+")[0] for name in names}
    tags = {name.python for name in names}
    if len(releases) != 1 or len(tags) != 1:
        raise BadInput(
            "bench",
            f"the wheels are of {sorted(releases)} for {sorted(tags)}.",
            "Give wheels of one release and Python.",
        )
    (release_name,), version = releases, next(iter(tags)).removeprefix("cp")
    if names[0].any_python:
        version = _version_of(python) if python else running_python()
    labels = [name.version.partition("+")[2] or name.version for name in names]
    if len(set(labels)) != len(labels):
        labels = [f"{label}, {_compiler(wheel)}" for label, wheel in zip(labels, wheels, strict=True)]
    if len(set(labels)) != len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise BadInput("bench", f"two wheels are called {twice}.", "Give one of the two.")
    platform = "aarch64" if names[0].platform.endswith("aarch64") else "x86_64"
    with contextlib.ExitStack() as stack:
        interpreter = python or stack.enter_context(_environment(torch, version))
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
        stock = Candidate(name=STOCK, wheel=None, folder=Path(scratch, STOCK))
        if installed is None:
            stock = replace(stock, wheel=_stock_wheel(release_name, version, platform))
        else:
            for folder in (name for name in ("torchvision", "torchvision.libs") if (installed.site / name).is_dir()):
                shutil.copytree(installed.site / folder, stock.folder / folder)
        ours = [
            Candidate(name=label, wheel=wheel, folder=Path(scratch, str(number)))
            for number, (label, wheel) in enumerate(zip(labels, wheels, strict=True))
        ]
        for contender in (stock, *ours):
            if contender.wheel:
                shutil.unpack_archive(contender.wheel, contender.folder, "zip")
        yield interpreter, [stock, replace(stock, name=AGAIN), *ours]


def _compiler(wheel: Path) -> str:
    return described.cuda.compiler if (described := Package(wheel).descriptor) and described.cuda else "none"


def _version_of(python: Path) -> str:
    """The version of an interpreter as tags have it ("313"): what runs a wheel for every Python."""
    asked = "import sys; print(*sys.version_info[:2], sep='')"
    return run([python, "-I", "-c", asked], action=f"asking the version of {python}", timeout=30).stdout.strip()


def _stock_wheel(release_name: str, version: str, platform: str) -> Path:
    """The published wheel of a release for Python `version` ("313"), kept in the cache."""
    wanted, action = f"torchvision=={release_name}", f"fetching the stock torchvision {release_name}"

    def fetch(folder: Path) -> None:
        folder.mkdir()
        download(wanted, folder, platform=platform, python=version, action=action, hint="Check the network.")

    def fault(folder: Path) -> str | None:
        return None if any(folder.glob("torchvision-*.whl")) else "it holds no wheel"

    kept = publish(check_cache() / "stock" / f"{release_name}-{version}-{platform}", fetch, fault)
    return next(kept.glob("torchvision-*.whl"))


@contextlib.contextmanager
def _environment(torch: str, python: str) -> Iterator[Path]:
    """The interpreter of an environment with `torch`, kept in the cache; two that time beside it take turns."""

    def install(folder: Path) -> None:
        action = f"installing torch {torch} to measure beside it"
        fill(folder, find_python(python), f"torch=={torch}", action=action)

    venv = publish(check_cache() / "bench" / f"{python}-torch-{torch}", install)
    with held(venv):
        yield venv / "bin" / "python"


class Worker:
    """One contender's process, with torch and its torchvision loaded."""

    def __init__(self, python: Path, contender: Candidate, threads: int, device: str, env: Mapping[str, str]) -> None:
        self.name = contender.name
        self.process = subprocess.Popen(
            [str(python), "-I", str(WORKER), str(contender.folder), str(threads), device],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **env},
        )

    def ask(self, **command: Any) -> Any:
        """Send one command. Raises ProcessFailed when the worker is gone: what it printed stands above."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        line = ""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            raise ProcessFailed(
                f"timing {self.name}, {command}", f"its process ended with {code}.", "`verify` the wheel."
            )
        return json.loads(line)

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def comparison(
    python: Path,
    contenders: Sequence[Candidate],
    *,
    threads: int = 1,
    device: str = "cpu",
    seconds: float,
    only: Sequence[str] = (),
    env: Mapping[str, str] = NO_ENV,
    report: Callable[[str], None] = lambda _: None,
) -> list[Timing]:
    """Time every case whose key holds a word of `only` (all when empty), about `seconds` a case and contender.

    `device` is "cpu", or "cuda" for the first GPU that is visible with `env` beside this process's variables.
    """
    timings = []
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(Worker(python, contender, threads, device, env)) for contender in contenders]
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        for name, size, direction, group in workers[0].ask(list=True):
            key = f"{name}/{size}/{direction}"
            if only and not any(word in key for word in only):
                continue
            report(key)
            for worker in workers:
                worker.ask(make=key)
            workers[0].ask(save=str(scratch / "stock.pt"))
            errors = {worker.name: worker.ask(compare=str(scratch / "stock.pt")) for worker in workers[1:]}
            rounds = in_turns(workers, seconds, clock=0 if threads == 1 and device == "cpu" else 1)
            timings.append(
                Timing(
                    name=name,
                    size=size,
                    direction=direction,
                    group=group,
                    threads=threads,
                    device=device,
                    seconds=rounds,
                    errors=errors,
                )
            )
    return timings


def versions(python: Path, contender: Candidate) -> dict[str, str]:
    """What a contender's worker says it is: "torch" and "torchvision"."""
    with Worker(python, contender, 1, "cpu", NO_ENV) as worker:
        said: dict[str, str] = worker.ask(about=True)
        return said


def in_turns(workers: Sequence[Worker], seconds: float, *, clock: int) -> dict[str, list[float]]:
    """Rounds in which every worker takes one turn of the same number of calls; who begins moves on each round."""
    once = max(1e-6, min(workers[0].ask(time=1)[clock] for _ in range(2)))
    calls = max(1, int(SLICE / once))
    found: dict[str, list[float]] = {worker.name: [] for worker in workers}
    end, turn = time.monotonic() + seconds * len(workers), 0
    while turn < LEAST_ROUNDS or time.monotonic() < end:
        start = turn % len(workers)
        for worker in (*workers[start:], *workers[:start]):
            found[worker.name].append(worker.ask(time=calls)[clock] / calls)
        turn += 1
    return found


def import_seconds(python: Path, contenders: Sequence[Candidate], rounds: int = 5) -> dict[str, list[float]]:
    """CPU seconds of `import torchvision` after `import torch`, in fresh processes in turns."""
    contenders = [contender for contender in contenders if contender.name != AGAIN]
    found: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for _ in range(rounds):
        for contender in contenders:
            done = run([python, "-I", "-c", IMPORT, contender.folder], action=f"importing {contender.name}")
            found[contender.name].append(float(done.stdout))
    return found

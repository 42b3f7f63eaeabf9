"""Runs a graph with ninja: progress, a log per action, resumable, and units that do not compile fall back per file."""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import ninja
import psutil
from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from build_torchvision.errors import BadInput, ProcessFailed
from build_torchvision.execute.launcher import STATISTICS, Launcher
from build_torchvision.execute.ninja_file import ninja_file
from build_torchvision.graph.actions import Action, Graph, done_instead, shell
from build_torchvision.process import stream
from build_torchvision.progress import following

JOB_MEMORY = 1.5 * 2**30  # bytes: what one unit takes at most (measured; see benchmarks/build_cost.py)
STATUS = re.compile(r"^\[(\d+)/(\d+)\] (.*)$")
FAILED = re.compile(r"^FAILED: (?:\[code=\d+\] )?(.*)$")
SPLIT_FILE = "split-units.json"


@dataclass(frozen=True, kw_only=True)
class FailedAction:
    """An action that failed: what the compiler printed, and where."""

    action: Action
    printed: str
    folder: Path

    def error(self, target: str | None = None) -> ProcessFailed:
        """The error that shows the compiler's own lines and the command that repeats the action."""
        return ProcessFailed(
            f"compiling {self.action.label}" + (f" (needed by {target})" if target else ""),
            f"the compiler stopped:\n{self.printed}\n",
            f"Repeat it: (cd {shlex.quote(str(self.folder))} && {shell(self.action.command)})",
        )


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """What a run cost: actions run, CPU seconds (user and system) and the largest process's memory in MiB.

    `failed` has the targets that could not be built, each with the first action that failed of those it needs.
    """

    graph: Graph
    ran: int
    cpu_seconds: float
    peak_mib: float
    folder: Path
    split: frozenset[str] = frozenset()
    failed: Mapping[str, FailedAction] = field(default_factory=dict)

    def extensions(self, target: str) -> dict[str, Path]:
        """Module -> finished shared object of `target` (actions.target_name). Raises ProcessFailed if it failed."""
        if target in self.failed:
            raise self.failed[target].error(target)
        return {module: self.folder / path for module, path in self.graph.extensions[target].items()}


def default_jobs() -> int:
    """Jobs from the cores this process may use and the memory that is free, at least one."""
    return max(1, min(len(os.sched_getaffinity(0)), int(psutil.virtual_memory().available // JOB_MEMORY)))


@contextmanager
def exclusive(folder: Path, console: Console) -> Iterator[None]:
    """Keep every other build out of `folder`, waiting for the one that is in it: two would write the same objects."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        console.print(f"waiting for another build in {folder}", highlight=False)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def run_graph(
    plan: Callable[[Set[str]], Graph],
    folder: Path,
    *,
    jobs: int | None,
    console: Console,
    verbose: bool = False,
    launcher: Launcher | None = None,
) -> RunOutcome:
    """Build in `folder` what `plan(split)` describes, where `split` names units that failed as one (kept in `folder`).

    `launcher` is a compiler cache.
    A target that cannot be built does not keep the others from it: see `RunOutcome.failed`. Raises ProcessFailed, with
    the compiler's own lines and the command that repeats the action, where none can. Ctrl-C leaves finished outputs in
    place; the next run goes on from there.
    """
    if jobs is not None and jobs < 1:
        raise BadInput(f"--jobs {jobs}", "a build needs at least one job.", "Leave --jobs out to let memory decide.")
    folder.mkdir(parents=True, exist_ok=True)
    known = folder / SPLIT_FILE
    split: set[str] = set(json.loads(known.read_text(encoding="utf-8"))) if known.exists() else set()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ran = 0
    while True:
        graph = plan(frozenset(split))
        _write_files(graph, folder, launcher)
        finished, failures = _ninja(graph, folder, jobs or default_jobs(), console, verbose, launcher)
        ran += finished
        units = {failure.action.unit for failure in failures} - {None} - split
        if not units:
            break
        for unit in sorted(filter(None, units)):
            console.print(done_instead(unit))
            split.add(unit)
        known.write_text(json.dumps(sorted(split)), encoding="utf-8")
    failed = failed_targets(graph, failures)
    if failures and len(failed) == len(graph.extensions):
        raise next(iter(failed.values())).error()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return RunOutcome(
        graph=graph,
        ran=ran,
        cpu_seconds=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        peak_mib=after.ru_maxrss / 1024,
        folder=folder,
        split=frozenset(split),
        failed=failed,
    )


def failed_targets(graph: Graph, failures: Sequence[FailedAction]) -> dict[str, FailedAction]:
    """The targets of `graph` that need an action of `failures`, each with the first such."""
    by_output = {action.output: action for action in graph.actions}
    first = {failure.action.output: failure for failure in reversed(failures)}
    failed: dict[str, FailedAction] = {}
    for target, modules in graph.extensions.items():
        waiting, seen = list(modules.values()), set[str]()
        while waiting:
            output = waiting.pop()
            if output in seen or output not in by_output:
                continue
            seen.add(output)
            waiting += by_output[output].inputs
        if met := [failure for output, failure in first.items() if output in seen]:
            failed[target] = min(met, key=failures.index)
    return failed


def _write_files(graph: Graph, folder: Path, launcher: Launcher | None) -> None:
    if launcher is not None:
        (folder / STATISTICS).unlink(missing_ok=True)
    for name, text in {**graph.files, "build.ninja": ninja_file(graph, launcher)}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
        if text.startswith("#!"):
            path.chmod(0o755)


def _ninja(
    graph: Graph,
    folder: Path,
    jobs: int,
    console: Console,
    verbose: bool,
    launcher: Launcher | None,
) -> tuple[int, list[FailedAction]]:
    """Run ninja once. Returns how many actions finished, and those that failed, in that order.

    Where several targets are built, what does not need a failed action goes on.
    """
    keep_going = ("-k0",) if len(graph.extensions) > 1 else ()
    command = [str(Path(ninja.BIN_DIR) / "ninja"), "-C", str(folder), f"-j{jobs}", *keep_going]
    env = {**os.environ, "NINJA_STATUS": "[%f/%t] ", **(launcher.env if launcher else {})}
    by_output = {action.output: action for action in graph.actions}
    finished = 0
    lines: list[str] = []
    columns = (TextColumn("{task.description:<44.44}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
        nullcontext(_ignore) if console.is_terminal or console.quiet else following("Compile") as tell,
    ):
        task = progress.add_task("starting", total=None)

        def show(line: str) -> None:
            nonlocal finished
            status = STATUS.match(line)
            if status:
                finished = int(status[1])
                progress.update(task, completed=finished, total=int(status[2]), description=status[3])
                tell(f"{finished} of {status[2]}, {status[3]}")
                if verbose:
                    console.print(line, highlight=False, markup=False)
            lines.append(line)

        code = stream(command, show, action=f"building in {folder}", env=env)
    if code == 0:
        return finished, []
    outputs = [found[1].strip() for line in lines if (found := FAILED.match(line))]
    failures = [_failure(by_output[output], folder) for output in outputs if output in by_output]
    if not failures or len(failures) != len(outputs):
        raise ProcessFailed(
            f"building in {folder}",
            f"ninja stopped with exit code {code}:\n" + "\n".join(lines[-20:]) + "\n",
            f"Look at {folder}/build.ninja.",
        )
    return finished, failures


def _ignore(_: str) -> None:
    """A terminal has a bar instead."""


def _failure(action: Action, folder: Path) -> FailedAction:
    log = folder / f"{action.output}.log"
    printed = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.is_file() else []
    return FailedAction(action=action, printed="\n".join(printed[:60]), folder=folder)

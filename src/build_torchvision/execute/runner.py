"""Runs a graph with ninja: progress, a log per action, resumable, and units that do not compile fall back per file."""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import ninja
import psutil
from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from build_torchvision.errors import BadInput, ProcessFailed
from build_torchvision.execute.launcher import STATISTICS, Launcher
from build_torchvision.execute.ninja_file import ninja_file
from build_torchvision.graph.actions import Action, Graph, shell

JOB_MEMORY = 1.5 * 2**30  # bytes: what one unit takes at most (measured; see benchmarks/build_cost.py)
STATUS = re.compile(r"^\[(\d+)/(\d+)\] (.*)$")
SPLIT_FILE = "split-units.json"


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """What a run cost: actions run, CPU seconds (user and system) and the largest process's memory in MiB."""

    graph: Graph
    ran: int
    cpu_seconds: float
    peak_mib: float
    folder: Path
    split: frozenset[str] = frozenset()

    def extensions(self, isa: str) -> dict[str, Path]:
        """Module -> finished shared object."""
        return {module: self.folder / path for module, path in self.graph.extensions[isa].items()}


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
    Raises ProcessFailed with the compiler's own lines and the command that repeats the action. Ctrl-C leaves finished
    outputs in place; the next run goes on from there.
    """
    if jobs is not None and jobs < 1:
        raise BadInput(f"--jobs {jobs}", "a build needs at least one job.", "Leave --jobs out to let memory decide.")
    folder.mkdir(parents=True, exist_ok=True)
    known = folder / SPLIT_FILE
    split: set[str] = set(json.loads(known.read_text())) if known.exists() else set()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ran = 0
    while True:
        graph = plan(frozenset(split))
        _write_files(graph, folder, launcher)
        finished, failed = _ninja(graph, folder, jobs or default_jobs(), console, verbose, launcher)
        ran += finished
        if failed is None:
            break
        action, output = failed
        if action.unit is None or action.unit in split:
            raise ProcessFailed(
                f"compiling {action.label}",
                f"the compiler stopped:\n{output}\n",
                f"Repeat it: (cd {shlex.quote(str(folder))} && {shell(action.command)})",
            )
        console.print(f"{action.unit} does not compile as one unit here; its files are compiled one by one")
        split.add(action.unit)
        known.write_text(json.dumps(sorted(split)))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return RunOutcome(
        graph=graph,
        ran=ran,
        cpu_seconds=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        peak_mib=after.ru_maxrss / 1024,
        folder=folder,
        split=frozenset(split),
    )


def _write_files(graph: Graph, folder: Path, launcher: Launcher | None) -> None:
    if launcher is not None:
        (folder / STATISTICS).unlink(missing_ok=True)
    for name, text in {**graph.files, "build.ninja": ninja_file(graph, launcher)}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
        if text.startswith("#!"):
            path.chmod(0o755)


def _ninja(
    graph: Graph,
    folder: Path,
    jobs: int,
    console: Console,
    verbose: bool,
    launcher: Launcher | None,
) -> tuple[int, tuple[Action, str] | None]:
    """Run ninja once. Returns how many actions finished and, if one failed, that action and what it printed."""
    command = [str(Path(ninja.BIN_DIR) / "ninja"), "-C", str(folder), f"-j{jobs}"]
    env = {**os.environ, "NINJA_STATUS": "[%f/%t] ", **(launcher.env if launcher else {})}
    by_output = {action.output: action for action in graph.actions}
    finished = 0
    lines: list[str] = []
    columns = (TextColumn("{task.description:<44.44}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env) as process,
    ):
        assert process.stdout is not None
        task = progress.add_task("starting", total=None)
        try:
            for line in process.stdout:
                status = STATUS.match(line)
                if status:
                    finished = int(status[1])
                    progress.update(task, completed=finished, total=int(status[2]), description=status[3])
                    if verbose:
                        console.print(line.rstrip(), highlight=False, markup=False)
                lines.append(line.rstrip())
            code = process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            process.wait()
            raise
    if code == 0:
        return finished, None
    for line in lines:
        if line.startswith("FAILED: "):
            output = re.sub(r"^FAILED: (\[code=\d+\] )?", "", line).strip()
            action = by_output[output]
            printed = (folder / f"{output}.log").read_text(errors="replace").strip().splitlines()
            return finished, (action, "\n".join(printed[:60]))
    raise ProcessFailed(
        f"building in {folder}", "ninja stopped:\n" + "\n".join(lines[-20:]) + "\n", f"Look at {folder}/build.ninja."
    )

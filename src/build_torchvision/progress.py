"""Show on standard error what is being waited for, with amounts and rates.

On a terminal one line is written over itself. Elsewhere, as in the log of a CI job, plain lines come at long intervals.
Nothing is shown of what ends soon, nor with --quiet; of waits within a wait the innermost is shown.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

SOON = 1.0  # seconds; of what ends in less nothing is shown
TERMINAL_EVERY, LOG_EVERY = 0.25, 20.0  # seconds between two updates
CLEAR = "\r\x1b[2K"
_active: list[object] = []  # the waits that go on, the innermost last


@contextmanager
def waiting(what: str, path: Path | None = None, whole: int | None = None) -> Iterator[None]:
    """Show that `what` ("Fetch torch 2.6.0") goes on: for how long, and how far the file or folder `path` has grown.

    `path` need not exist yet; what stands beside it under its name with a suffix counts too. `whole` is its final size
    in bytes, where that is known.
    """

    def state(seconds: float) -> str:
        return ", ".join([*([_amount(_size(path), seconds, whole)] if path else []), _time(seconds)])

    with _showing(what, state):
        yield


@contextmanager
def counting(what: str, whole: int) -> Iterator[Callable[[], None]]:
    """Show how many of `whole` things are done; what is yielded is called for each."""
    done = 0

    def one_more() -> None:
        nonlocal done
        done += 1

    with _showing(what, lambda seconds: f"{done} of {whole}, {done / max(seconds, 0.001):.1f}/s, {_time(seconds)}"):
        yield one_more


@contextmanager
def following(what: str) -> Iterator[Callable[[str], None]]:
    """Show how far `what` is; what is yielded is called with each new state ("12 of 168")."""
    state = "starting"

    def tell(text: str) -> None:
        nonlocal state
        state = text

    with _showing(what, lambda seconds: f"{state}, {_time(seconds)}"):
        yield tell


def clear_line() -> None:
    """Clear the line that a terminal shows of a wait, for something else to be printed in its place."""
    if _active and sys.stderr.isatty():
        _write(sys.stderr, CLEAR)


@contextmanager
def _showing(what: str, state: Callable[[float], str], stream: TextIO | None = None) -> Iterator[None]:
    stream = stream or sys.stderr
    if logging.getLogger().level > logging.WARNING:  # --quiet
        yield
        return
    terminal, start, ended = stream.isatty(), time.monotonic(), threading.Event()
    every, shown = (TERMINAL_EVERY, CLEAR) if terminal else (LOG_EVERY, "")
    token = object()
    _active.append(token)

    def show() -> None:
        wait = SOON
        while not ended.wait(wait):
            if _active[-1] is token:
                _write(stream, f"{shown}{what}: {state(time.monotonic() - start)}" + ("" if terminal else "\n"))
            wait = every

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    finished = False
    try:
        yield
        finished = True
    finally:
        ended.set()
        thread.join()
        _active.remove(token)
        seconds = time.monotonic() - start
        if seconds >= SOON:
            end = f"{what}: {state(seconds)}\n" if finished else ""
            _write(stream, f"{shown}{end}")


def _write(stream: TextIO, text: str) -> None:
    with suppress(OSError, ValueError):  # a terminal that went away is no reason to stop
        stream.write(text)
        stream.flush()


def _size(path: Path) -> int:
    """Bytes of `path` and of what stands beside it under its name with a suffix; files that vanish count nothing."""
    total = 0
    with suppress(OSError):
        for top in path.parent.glob(f"{path.name}*"):
            for found in [top, *(top.rglob("*") if top.is_dir() else ())]:
                with suppress(OSError):
                    total += found.lstat().st_size if found.is_file() else 0
    return total


def _amount(size: int, seconds: float, whole: int | None) -> str:
    if not size:
        return "nothing yet"
    unit, bytes_of_it = ("MB", 1e6) if max(size, whole or 0) >= 1e6 else ("kB", 1e3)
    of = f" of {whole / bytes_of_it:.1f}" if whole else ""
    return f"{size / bytes_of_it:.1f}{of} {unit}, {size / bytes_of_it / max(seconds, 0.001):.1f} {unit}/s"


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"

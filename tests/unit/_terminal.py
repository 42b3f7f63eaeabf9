"""Run a command in a terminal of a given width, and return what a person would see there."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

TOOL = (sys.executable, "-m", "build_torchvision.cli.main")
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
PLAIN = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")}


def in_terminal(
    words: Sequence[str | Path], columns: int, *, colour: bool = True, env: Mapping[str, str] | None = None
) -> str:
    """What `build-torchvision WORDS` prints in a terminal that is `columns` wide, escape sequences included."""
    try:
        parent, child = pty.openpty()
    except OSError as error:
        pytest.skip(f"there are no pseudoterminals here ({error}): mount devpts on /dev/pts")
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    full = {**PLAIN, "TERM": "xterm-256color", **({} if colour else {"NO_COLOR": "1"}), **(env or {})}
    process = subprocess.Popen(
        [*TOOL, *map(str, words)], stdin=child, stdout=child, stderr=child, env=full, start_new_session=True
    )
    os.close(child)
    parts = []
    while True:
        try:
            part = os.read(parent, 65536)
        except OSError:  # the other end is closed: Linux says EIO
            break
        if not part:
            break
        parts.append(part)
    os.close(parent)
    process.wait()
    return b"".join(parts).decode("utf-8", errors="replace").replace("\r\n", "\n")


def piped(words: Sequence[str | Path], *, env: Mapping[str, str] | None = None) -> str:
    """The same with both outputs going to a pipe."""
    done = subprocess.run(
        [*TOOL, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        check=False,
        env={**PLAIN, **(env or {})},
    )
    return done.stdout.decode("utf-8")


def seen(text: str) -> str:
    """`text` as a person sees it: without colours, and of a line that was overwritten the last state."""
    return "\n".join(line.rpartition("\r")[2] for line in ESCAPE.sub("", text).split("\n"))

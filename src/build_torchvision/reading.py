"""Read files and folders that somebody else wrote: whatever is unreadable, endless or looped counts as absent."""

from __future__ import annotations

import os
from pathlib import Path

TEXT_LIMIT = 4 << 20
"""Bytes that are read of a text file; metadata of real packages is far smaller."""


def home_expanded(path: str | Path) -> Path:
    """`path` with ~ and ~user replaced; as it is where there is no such user. Never raises, as pathlib's does."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - pathlib raises RuntimeError


def working_folder() -> Path:
    """The working folder; the root where it was removed, from which nothing is imported."""
    try:
        return Path.cwd()
    except OSError:
        return Path("/")


def is_file(path: Path) -> bool:
    """Whether `path` is a regular file, links followed. Never raises: a loop of links or a forbidden folder is none."""
    return os.path.isfile(path)  # noqa: PTH113 - pathlib's own raises PermissionError


def is_folder(path: Path) -> bool:
    """Whether `path` is a folder, links followed. Never raises."""
    return os.path.isdir(path)  # noqa: PTH112 - as above


def is_there(path: Path) -> bool:
    """Whether something of that name lies there, a link that leads nowhere included. Never raises."""
    return os.path.lexists(path)


def real(path: Path) -> Path:
    """`path` with all links followed, as far as they lead. Never raises."""
    try:
        return Path(os.path.realpath(path))
    except (OSError, ValueError):
        return path


def names_in(folder: Path) -> tuple[str, ...]:
    """The sorted names in `folder`; none where it cannot be read."""
    try:
        return tuple(sorted(os.listdir(folder)))  # noqa: PTH208 - names, not paths
    except (OSError, ValueError):
        return ()


def read_text(path: Path, limit: int = TEXT_LIMIT) -> str | None:
    """The first `limit` bytes of the regular file `path` as text; None where it cannot be read."""
    if not is_file(path):  # a pipe would wait for ever
        return None
    try:
        with path.open("rb") as stream:
            return stream.read(limit).decode("utf-8", errors="replace")
    except (OSError, ValueError):
        return None


def printable(text: str) -> str:
    """`text` with what a terminal would act on, or cannot show, written as escapes: file names are others' bytes."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)

"""Write files so that a failure leaves what was there and says why: CannotWrite, never a traceback."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from build_torchvision.errors import CannotWrite

REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is mounted read-only",
    errno.EACCES: "this user may not write there",
    errno.EPERM: "this user may not write there",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EEXIST: "a file is there where a folder should be",
    errno.EISDIR: "a folder is there where a file should be",
    errno.ENAMETOOLONG: "the name is too long for this file system",
    errno.EFBIG: "the file is too large for this file system",
    errno.ELOOP: "symbolic links there form a loop",
}
"""What can keep a file from being written, and is the user's to change."""


def cannot_write(
    error: OSError, action: str, where: Path | None = None, *, hint: str | None = None
) -> CannotWrite | None:
    """The CannotWrite that `error` stands for; None where it is about something else than writing below `where`."""
    reason = REASONS.get(error.errno or 0)
    if reason is None or (where is not None and not _concerns(error.filename, where)):
        return None
    place = where or error.filename
    at = f"{place}: " if place else ""
    return CannotWrite(
        action,
        f"{at}{reason} ({error.strerror or os.strerror(error.errno or 0)}); nothing half-written was kept.",
        hint or "Free space there, change its permissions, or name another folder.",
    )


@contextmanager
def writing(action: str, where: Path, *, hint: str | None = None) -> Iterator[None]:
    """Turn a failure to write below `where` into CannotWrite with `action` and `hint`; other errors pass."""
    try:
        yield
    except OSError as error:
        found = cannot_write(error, action, where, hint=hint)
        if found is None:
            raise
        raise found from error


def write_whole(path: Path, data: bytes | str, *, action: str) -> Path:
    """Write `path` in one step: it holds all of `data` (text as UTF-8), or what it held before. Raises CannotWrite."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    with writing(action, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(data.encode() if isinstance(data, str) else data)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    return path


def is_full(folder: Path) -> bool:
    """Whether the file system of `folder`, or of the nearest folder above that exists, has less than a MiB left."""
    return _free(folder) < 2**20


def full_disk(action: str, folder: Path, *, hint: str) -> CannotWrite:
    """The error for a disk that turned out to be full."""
    return CannotWrite(action, f"{folder}: {REASONS[errno.ENOSPC]}; nothing half-written was kept.", hint)


def check_room(folder: Path, needed: int, *, action: str, hint: str) -> None:
    """Raises CannotWrite unless `needed` bytes are free where `folder` is or will be."""
    free = _free(folder)
    if free < needed:
        problem = f"It needs {needed / 2**20:.0f} MiB, and {free / 2**20:.0f} MiB are free in {folder}."
        raise CannotWrite(action, problem, hint)


def _free(folder: Path) -> int:
    """Bytes that this user may still write where `folder` is or will be."""
    there = next((path for path in (folder, *folder.parents) if path.exists()), Path("/"))
    status = os.statvfs(there)
    return status.f_bavail * status.f_frsize


def _concerns(filename: object, where: Path) -> bool:
    """Whether an error about `filename` (None: unknown) is about `where`: something beside or below it, or above it."""
    if not isinstance(filename, str):
        return True
    path, there = Path(filename).absolute(), where.absolute()
    return path.is_relative_to(there.parent) or there.is_relative_to(path)

"""Put a finished folder in the place of another in one step, so that an interruption loses neither."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h
UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)
"""What a kernel or file system answers that cannot exchange two names (renameat2(2))."""


def exchange(part: Path, out: Path) -> None:
    """Move the folder `part` to `out`; where something is at `out`, the two change places.

    Both are on one file system. At every moment either the old or the new folder is at `out`, but on a file system
    that cannot exchange names: there the old one stands for an instant under `out`'s name with a dot before and
    ".old" behind, and goes back to its place if the second step fails.
    """
    if not out.exists():
        part.replace(out)
        return
    try:
        _exchange_names(part, out)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        _in_two_steps(part, out)


def _exchange_names(part: Path, out: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):  # glibc before 2.28, musl before 1.2.6
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if libc.renameat2(AT_FDCWD, os.fsencode(part), AT_FDCWD, os.fsencode(out), RENAME_EXCHANGE) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(out))


def aside(out: Path) -> Path:
    """Where the old folder stands between the two steps; a run that was killed leaves it there."""
    return out.with_name(f".{out.name}.old")


def _in_two_steps(part: Path, out: Path) -> None:
    old = aside(out)
    try:
        out.rename(old)
        part.rename(out)
    finally:
        if old.exists():
            old.rename(part if out.exists() else out)  # the caller removes `part` with its scratch folder

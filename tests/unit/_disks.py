"""Folders that cannot be written: on a full file system, on a read-only one, and where a file stands in the way."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

FULL = 'mount -t tmpfs -o size={size} tmpfs "$0" && shift 0 && exec "$@"'
READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'


def _namespace(script: str, folder: Path, command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    """Run `command` in a mount namespace of its own, in which `script` has changed `folder` ("$0")."""
    if shutil.which("unshare") is None:
        pytest.skip("unshare (util-linux) is not here")
    shell = ["unshare", "-rm", "sh", "-c", script, str(folder), *map(str, command)]
    done = subprocess.run(shell, capture_output=True, text=True, check=False)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no mount namespace can be made here: {done.stderr.strip()[:200]}")
    return done


def on_full_disk(folder: Path, size: str, command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    """Run `command` with a tmpfs of `size` ("64k") at `folder`; nothing of it outlives the command.

    What stood in `folder` before is hidden, so `command` may be a shell that copies it in first.
    """
    return _namespace(FULL.format(size=size), folder, command)


def on_read_only_disk(folder: Path, command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    """Run `command` with `folder` mounted read-only."""
    return _namespace(READ_ONLY, folder, command)

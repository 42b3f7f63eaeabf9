"""Measure and prune the cache: what was fetched, and the objects and environments that builds and benchmarks left."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from build_torchvision.errors import BadInput
from build_torchvision.inputs.cache import cache_dir, lock_of, remove

DAY = 86_400.0  # seconds


@dataclass(frozen=True, kw_only=True)
class CacheEntry:
    """One entry. `kind` is its folder ("builds"), `size` is in bytes on disk, `idle` in seconds since its last use."""

    path: Path
    kind: str
    size: int
    idle: float


def cache_entries(now: float | None = None) -> list[CacheEntry]:
    """Everything in the cache, the largest first. An entry's last use is the newest change of it or of its lock."""
    root, at = cache_dir(), time.time() if now is None else now
    entries = []
    for path in _paths(root):
        kind = path.relative_to(root).parts[0]
        entries.append(CacheEntry(path=path, kind=kind, size=_size(path), idle=max(0.0, at - _last_use(path))))
    return sorted(entries, key=lambda entry: (-entry.size, str(entry.path)))


def prune(*, idle_days: float, kinds: Collection[str] = ()) -> list[CacheEntry]:
    """Remove the entries that were not used for `idle_days` days, of `kinds` alone if any are named; returns them.

    An entry that a running command holds locked is left. Everything in the cache is fetched or made again when it is
    needed. Raises BadInput for a kind that is not there.
    """
    entries = cache_entries()
    known = sorted({entry.kind for entry in entries})
    for kind in kinds:
        if kind not in known:
            raise BadInput(f"Prune {kind}", f"The cache holds {', '.join(known) or 'nothing'}.", "Name one of these.")
    chosen = [entry for entry in entries if entry.idle >= idle_days * DAY and (not kinds or entry.kind in kinds)]
    return [entry for entry in chosen if _remove_unlocked(entry.path)]


def _paths(root: Path) -> Iterator[Path]:
    """The entries: what lies in the folders of the cache."""
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        if folder.is_dir():
            yield from (path for path in sorted(folder.iterdir()) if not path.name.endswith(".lock"))
        elif not folder.name.endswith(".lock"):
            yield folder


def _locks(path: Path) -> tuple[Path, ...]:
    """The locks that guard an entry: that of `cache.publish` beside it, that of a build inside it."""
    return lock_of(path), path / ".lock"


def _last_use(path: Path) -> float:
    times = [0.0]
    for candidate in (path, *_locks(path)):
        with suppress(OSError):
            times.append(candidate.lstat().st_mtime)
    return max(times)


def _size(path: Path) -> int:
    """Bytes on disk, a file with several names in the entry counted once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for file in (path, *path.rglob("*")) if path.is_dir() and not path.is_symlink() else (path,):
        with suppress(OSError):
            stat = file.lstat()
            if (stat.st_dev, stat.st_ino) not in seen:
                seen.add((stat.st_dev, stat.st_ino))
                total += stat.st_blocks * 512
    return total


def _remove_unlocked(path: Path) -> bool:
    """Remove an entry unless somebody holds one of its locks; whether it is gone."""
    held: list[FileLock] = []
    try:
        for lock in _locks(path):
            if lock.exists():
                held.append(FileLock(lock))
                held[-1].acquire(timeout=0)
        remove(path)
    except Timeout:
        held.pop()
        return False
    finally:
        for lock_held in held:
            lock_held.release()
    return True

"""A cache whose entries are whole or absent: filled beside their place, moved in with one rename, under a lock."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from build_torchvision.errors import FetchFailed, ProcessFailed
from build_torchvision.progress import waiting
from build_torchvision.reading import home_expanded
from build_torchvision.writing import cannot_write, check_room, full_disk, is_full, writing

log = logging.getLogger(__name__)
_DIGEST = re.compile(r"-[0-9a-f]{8,}$")  # of an entry's name: what it is made of, nothing for people
ENVIRONMENT = "BUILD_TORCHVISION_CACHE"
MINIMUM_ROOM = 16 * 2**20  # bytes: less than any build or environment takes
ROOM = f"Free some space, or point {ENVIRONMENT} at a folder on a larger disk that you may write."


def cache_dir() -> Path:
    """The folder that holds everything fetched: $BUILD_TORCHVISION_CACHE, or the user's own cache folder."""
    import platformdirs  # imported where it is used, as filelock below: `detect` fetches nothing

    chosen = os.environ.get(ENVIRONMENT)
    return home_expanded(chosen).absolute() if chosen else platformdirs.user_cache_path("build-torchvision")


def check_cache() -> Path:
    """The cache folder, made if it is not there. Raises CannotWrite where it cannot be written or has no room at all.

    Whoever is about to fetch something asks this first, so that a full disk is not met as the failure of a download.
    """
    folder = cache_dir()
    action, hint = "Use the cache", f"Free some space, or point {ENVIRONMENT} at another folder that you may write."
    with writing(action, folder, hint=hint):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    check_room(folder, MINIMUM_ROOM, action=action, hint=hint)
    return folder


def publish(dest: Path, fill: Callable[[Path], None], fault: Callable[[Path], str | None] | None = None) -> Path:
    """Make `dest` (file or folder) exist, whole, and return it.

    `fill` gets a path beside `dest` that does not exist yet and creates it; one rename then moves it in. Of several
    callers at once, one fills and the others wait for it. `fault` looks at an entry already there and says what is
    wrong with it, if anything: such an entry is thrown away and filled again. A fill that fails leaves nothing; what
    a killed one left is swept by the next. Raises CannotWrite when the disk is full or the
    folder cannot be written, and whatever `fill` raises.
    """
    from filelock import FileLock

    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock_of(dest)):
            for leftover in dest.parent.glob(f".{dest.name}.*.part*"):
                log.warning("%s: sweeping what an interrupted run left behind", dest)
                remove(leftover)
            if dest.exists():
                complaint = fault(dest) if fault else None
                if complaint is None:
                    os.utime(lock_of(dest))  # when it was last used: see cache_use
                    return dest
                log.warning("%s: %s; it is fetched again", dest, complaint)
                remove(dest)
            part = dest.parent / f".{dest.name}.{uuid.uuid4().hex}.part"
            try:
                with waiting(f"Fetch {dest.parent.name}/{_DIGEST.sub('', dest.name)}", part):
                    fill(part)
                part.replace(dest)
            finally:
                for rest in dest.parent.glob(f"{part.name}*"):  # downloaders add suffixes of their own
                    remove(rest)
    except (FetchFailed, ProcessFailed) as error:
        if is_full(dest.parent):  # the real reason, whatever the program that met it said
            raise full_disk(f"Write {dest}", dest.parent, hint=ROOM) from error
        raise
    except OSError as error:
        found = cannot_write(error, f"Write {dest}", dest, hint=ROOM)
        if found is None:
            raise
        raise found from error
    return dest


def lock_of(entry: Path) -> Path:
    """The lock beside an entry: held while it is made, and while it must stay."""
    return entry.parent / f".{entry.name}.lock"


@contextmanager
def held(entry: Path) -> Iterator[None]:
    """Keep `entry` from being pruned, and others from holding it: the second waits, and says so."""
    from filelock import FileLock

    lock = FileLock(lock_of(entry))
    with waiting(f"Wait for another command that uses {entry}"):
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def remove(path: Path) -> None:
    """Remove a file or a folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """The hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size_of(path: Path) -> str:
    """The size of a file in bytes, as an inventory holds it where the content was checked when it came."""
    return str(path.stat().st_size)


def write_inventory(entry: Path, facts: dict[str, str | None], measure: Callable[[Path], str]) -> None:
    """Write `entry`/entry.json: `facts`, and what `measure` says of each file under `entry`/tree."""
    tree = entry / "tree"
    files = {str(path.relative_to(tree)): measure(path) for path in sorted(tree.rglob("*")) if _is_plain(path)}
    (entry / "entry.json").write_text(json.dumps({"facts": facts, "files": files}, indent=1), encoding="utf-8")


def read_facts(entry: Path) -> dict[str, str | None]:
    """The `facts` that write_inventory wrote."""
    facts: dict[str, str | None] = json.loads((entry / "entry.json").read_text(encoding="utf-8"))["facts"]
    return facts


def inventory_fault(entry: Path, measure: Callable[[Path], str]) -> str | None:
    """What differs between `entry` and its inventory, or None. Files added later (bytecode) are no fault."""
    try:
        files: dict[str, str] = json.loads((entry / "entry.json").read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return "its inventory cannot be read"
    for name, expected in files.items():
        path = entry / "tree" / name
        if not _is_plain(path):
            return f"{name} is gone"
        if measure(path) != expected:
            return f"{name} was changed"
    return None


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()

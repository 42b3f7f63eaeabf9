"""Read and write wheels: RECORD, and a zip whose bytes depend on nothing but its contents."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import shutil
import zipfile
import zlib
from pathlib import Path

from build_torchvision.errors import BadInput

EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can hold
LEVEL = 6  # of deflate; 9 makes a wheel 0.2 % smaller for more than twice the CPU time


def record(tree: Path, dist_info: str) -> str:
    """RECORD's text for every file of `tree` (Binary distribution format, "The .dist-info directory")."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    own = f"{dist_info}/RECORD"
    for path in _files(tree):
        if path != own:
            with (tree / path).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").digest()
            encoded = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
            writer.writerow([path, f"sha256={encoded}", (tree / path).stat().st_size])
    writer.writerow([own, "", ""])
    return text.getvalue()


def digest_without(record: str, name: str) -> str:
    """The sha256 of RECORD's text without the line of the file `name`: what a report inside the wheel is bound to."""
    lines = [line for line in record.splitlines(keepends=True) if not line.startswith(f"{name},")]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def pack(tree: Path, wheel: Path, *, compress: bool = True) -> Path:
    """Write RECORD and zip `tree` into `wheel`: sorted, dated 1980, dist-info last, replaced in one step.

    Without `compress` the files are stored as they are: for a wheel that is read again right away.
    """
    dist_info = find_dist_info(tree)
    (tree / dist_info / "RECORD").write_text(record(tree, dist_info), encoding="utf-8")
    wheel.parent.mkdir(parents=True, exist_ok=True)
    part = wheel.with_name(f".{wheel.name}.{os.getpid()}.part")
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    try:
        with zipfile.ZipFile(part, "w") as archive:
            for path in sorted(_files(tree), key=lambda name: (name.startswith(dist_info), name)):
                info = zipfile.ZipInfo(path, EPOCH)
                info.compress_type = method
                info.create_system = 3
                info.external_attr = (0o100755 if ".so" in path.rpartition("/")[2] else 0o100644) << 16
                archive.writestr(info, (tree / path).read_bytes(), compresslevel=LEVEL)
        part.replace(wheel)
    finally:
        part.unlink(missing_ok=True)
    return wheel


def unpack(wheel: Path, tree: Path) -> Path:
    """Unzip `wheel` into `tree`. Raises BadInput when it is no readable zip or holds a path outside itself."""
    action, hint = f"Read {wheel}", "Build or download it again."
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.startswith("/") or "\\" in name or ".." in name.split("/"):
                    raise BadInput(action, f"It holds the path {name}, outside the wheel.", "Do not use it.")
            archive.extractall(tree)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        shutil.rmtree(tree, ignore_errors=True)
        raise BadInput(action, f"It is not a whole wheel ({error}).", hint) from error
    except FileNotFoundError as error:
        if Path(str(error.filename)) != wheel:
            raise
        raise BadInput(action, "There is no such file.", hint) from error
    return tree


def find_dist_info(tree: Path) -> str:
    """The name of the one .dist-info folder. Raises BadInput when there is none or more."""
    folders = sorted(path.name for path in tree.glob("*.dist-info"))
    if len(folders) != 1:
        raise BadInput(f"Read the wheel in {tree}", f"It has {len(folders)} .dist-info folders.", "Build it again.")
    return folders[0]


def _files(tree: Path) -> list[str]:
    return sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file())

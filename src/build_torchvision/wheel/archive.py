"""Folders and wheels: RECORD, and a zip whose bytes depend on nothing but its contents."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import zipfile
from pathlib import Path

from build_torchvision.errors import BadInput

EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can hold


def record(tree: Path, dist_info: str) -> str:
    """RECORD's text for every file of `tree` (Binary distribution format, "The .dist-info directory")."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    own = f"{dist_info}/RECORD"
    for path in _files(tree):
        if path != own:
            data = (tree / path).read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            writer.writerow([path, f"sha256={digest}", len(data)])
    writer.writerow([own, "", ""])
    return text.getvalue()


def digest_without(record: str, name: str) -> str:
    """The sha256 of RECORD's text without the line of the file `name`: what a proof inside the wheel is a proof of."""
    lines = [line for line in record.splitlines(keepends=True) if not line.startswith(f"{name},")]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def pack(tree: Path, wheel: Path) -> Path:
    """Write RECORD and zip `tree` into `wheel`: sorted, dated 1980, dist-info last, replaced in one step."""
    dist_info = find_dist_info(tree)
    (tree / dist_info / "RECORD").write_text(record(tree, dist_info))
    wheel.parent.mkdir(parents=True, exist_ok=True)
    part = wheel.with_name(f".{wheel.name}.{os.getpid()}.part")
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for path in sorted(_files(tree), key=lambda name: (name.startswith(dist_info), name)):
                info = zipfile.ZipInfo(path, EPOCH)
                info.compress_type = zipfile.ZIP_DEFLATED
                info.create_system = 3
                info.external_attr = (0o100755 if ".so" in path.rpartition("/")[2] else 0o100644) << 16
                archive.writestr(info, (tree / path).read_bytes())
        part.replace(wheel)
    finally:
        part.unlink(missing_ok=True)
    return wheel


def unpack(wheel: Path, tree: Path) -> Path:
    """Unzip `wheel` into `tree`. Raises BadInput when it is no readable zip or holds a path outside itself."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.startswith("/") or ".." in name.split("/"):
                    raise BadInput(
                        f"reading {wheel}", f"it holds the path {name}, outside the wheel.", "Do not use it."
                    )
            archive.extractall(tree)
    except (OSError, zipfile.BadZipFile) as error:
        raise BadInput(
            f"reading {wheel}", f"it is not a whole wheel ({error}).", "Build or download it again."
        ) from error
    return tree


def find_dist_info(tree: Path) -> str:
    """The name of the one .dist-info folder. Raises BadInput when there is none or more."""
    found = sorted(path.name for path in tree.glob("*.dist-info"))
    if len(found) != 1:
        raise BadInput(f"reading the wheel in {tree}", f"it has {len(found)} .dist-info folders.", "Build it again.")
    return found[0]


def _files(tree: Path) -> list[str]:
    return sorted(str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file())

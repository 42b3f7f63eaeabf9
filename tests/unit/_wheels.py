"""Small wheels with a true RECORD."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

from build_torchvision.wheel import archive


def record_of(members: Mapping[str, bytes], stem: str) -> str:
    """The RECORD of a wheel called `stem` ("nvidia_x-1") with `members`."""
    rows = []
    for name, data in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        rows.append(f"{name},sha256={digest},{len(data)}")
    return "\n".join([*rows, f"{stem}.dist-info/RECORD,,", ""])


def wheel_of(folder: Path, members: Mapping[str, bytes], stem: str) -> Path:
    """Such a wheel in `folder`, stored unpacked."""
    wheel = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        for name, data in members.items():
            file.writestr(name, data)
        file.writestr(f"{stem}.dist-info/RECORD", record_of(members, stem))
    return wheel


def pack(tree: Path, wheel: Path) -> Path:
    """The files of `tree` as `wheel`, with a RECORD that is right."""
    files = {path.relative_to(tree).as_posix(): path.read_bytes() for path in tree.rglob("*") if path.is_file()}
    return archive.write({name: archive.Member(data) for name, data in files.items()}, wheel)

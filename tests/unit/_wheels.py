"""Small wheels with a true RECORD."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path


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
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        archive.writestr(f"{stem}.dist-info/RECORD", record_of(members, stem))
    return wheel

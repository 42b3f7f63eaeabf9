"""SHA256SUMS, as `sha256sum -c` reads it."""

from __future__ import annotations

import hashlib
from pathlib import Path

NAME = "SHA256SUMS"


def sha256sums(site: Path) -> str:
    """One line a file of `site`, paths relative to it, sorted; SHA256SUMS itself left out."""
    paths = sorted(path for path in site.rglob("*") if path.is_file() and path != site / NAME)
    return "".join(f"{sha256_of(path)}  {path.relative_to(site).as_posix()}\n" for path in paths)


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

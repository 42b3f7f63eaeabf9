"""SHA256SUMS, as `sha256sum -c` reads it."""

from __future__ import annotations

from pathlib import Path

from build_torchvision.inputs.source import sha256_of

NAME = "SHA256SUMS"


def sha256sums(site: Path) -> str:
    """One line a file of `site`, paths relative to it, sorted; SHA256SUMS itself left out."""
    paths = sorted(path for path in site.rglob("*") if path.is_file() and path != site / NAME)
    return "".join(f"{sha256_of(path)}  {path.relative_to(site).as_posix()}\n" for path in paths)

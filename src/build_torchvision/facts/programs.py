"""Typed loader of programs.toml."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from build_torchvision.facts._schema import PLATFORM, PLATFORMS, SHA256, VERSION, FactError, rows
from build_torchvision.facts.pinned_wheels import PinnedWheel


@cache
def program_wheels() -> Mapping[str, PinnedWheel]:
    """Package -> its wheel."""
    found = {}
    for package, row in rows("programs"):
        found[package] = PinnedWheel(
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

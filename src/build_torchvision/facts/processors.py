"""Typed loader of processors.toml: processors by the names that people use -> archspec's names for them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from build_torchvision.facts._schema import rows


@cache
def processors() -> Mapping[str, str]:
    """ "graviton3" -> "neoverse_v1"."""
    found: dict[str, str] = {}
    for name, row in rows("processors"):
        found[name] = row.text("archspec", r"\w+")
        row.text("source")
        row.done()
    return MappingProxyType(found)

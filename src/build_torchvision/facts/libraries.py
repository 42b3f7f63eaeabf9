"""Typed loader of libraries.toml: the libraries that a wheel may bundle, with their licences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from build_torchvision.facts._schema import rows


@dataclass(frozen=True, kw_only=True)
class Library:
    """One library: its own name, its licence (SPDX), and the codec that it serves, if any."""

    name: str
    licence: str
    source: str
    codec: str | None = None


@cache
def libraries() -> Mapping[str, Library]:
    """All libraries by the start of their file names ("libpng")."""
    found: dict[str, Library] = {}
    for stem, row in rows("libraries"):
        found[stem] = Library(
            name=row.text("name"),
            licence=row.text("licence"),
            source=row.text("source"),
            codec=row.optional("codec"),
        )
        row.done()
    return MappingProxyType(found)


def library_of(file_name: str) -> Library | None:
    """The library of a bundled file such as "libpng16-0a0c6ccf.so.16.39.0"; None for one that no row describes."""
    return next((row for stem, row in libraries().items() if file_name.startswith(stem)), None)

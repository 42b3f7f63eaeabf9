"""The libraries that a wheel may bundle, with their licences."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources


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
    text = resources.files("build_torchvision.facts").joinpath("libraries.toml").read_text(encoding="utf-8")
    return {stem: Library(**row) for stem, row in tomllib.loads(text).items()}


def library_of(file_name: str) -> Library | None:
    """The library of a bundled file such as "libpng16-0a0c6ccf.so.16.39.0"; None for one that no row describes."""
    return next((row for stem, row in libraries().items() if file_name.startswith(stem)), None)

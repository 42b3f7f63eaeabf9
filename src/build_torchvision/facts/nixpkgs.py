"""Typed loader of nixpkgs.toml: what nixpkgs allows, and where the companion's recipes are pinned."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """For which CUDA versions nixpkgs accepts a capability; `jetson` ones on aarch64-linux only, and alone."""

    first: str
    last: str | None = None
    jetson: bool = False


@dataclass(frozen=True, kw_only=True)
class Pin:
    """A source tree: where its tarball is and the NAR hash of what that unpacks to."""

    rev: str
    url: str
    sha256: str
    source: str


@cache
def nixpkgs_bounds() -> Mapping[str, Bounds]:
    """SM -> what nixpkgs says of its capability. An SM without a row is one that nixpkgs is not known to accept."""
    rows = {key: row for key, row in _tables()["capabilities"].items() if key != "source"}
    return MappingProxyType({sm: Bounds(**row) for sm, row in rows.items()})


@cache
def build_pytorch() -> Pin:
    """The pinned companion."""
    return Pin(**_tables()["build_pytorch"])


def _tables() -> dict[str, Any]:
    return tomllib.loads(resources.files("build_torchvision.facts").joinpath("nixpkgs.toml").read_text("utf-8"))

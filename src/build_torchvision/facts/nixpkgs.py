"""Typed loader of nixpkgs.toml: what nixpkgs allows, and where the companion's recipes are pinned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from build_torchvision.facts._schema import SM, Row, rows


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


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """An overlay of nixpkgs: where it is to be had, and its path in a checkout of that."""

    url: str
    overlay: str
    source: str


@cache
def nixpkgs_bounds() -> Mapping[str, Bounds]:
    """SM -> what nixpkgs says of its capability. An SM without a row is one that nixpkgs is not known to accept."""
    table = dict(rows("nixpkgs"))["capabilities"]
    table.text("source")
    found: dict[str, Bounds] = {}
    for sm, row in table.tables(SM):
        found[sm] = Bounds(
            first=row.text("first", r"\d+\.\d+"), last=row.optional("last", r"\d+\.\d+"), jetson=row.flag("jetson")
        )
        row.done()
    return MappingProxyType(found)


@cache
def build_pytorch() -> Pin:
    """The pinned companion."""
    row: Row = dict(rows("nixpkgs"))["build_pytorch"]
    pin = Pin(
        rev=row.text("rev", r"[0-9a-f]{40}"),
        url=row.text("url", r"https://\S+"),
        sha256=row.text("sha256", r"sha256-\S+="),
        source=row.text("source"),
    )
    row.done()
    return pin


@cache
def cuda_legacy() -> Overlay:
    """Where the toolkits are kept that nixpkgs has removed."""
    row: Row = dict(rows("nixpkgs"))["cuda_legacy"]
    found = Overlay(
        url=row.text("url", r"https://\S+"), overlay=row.text("overlay", r"[\w./-]+"), source=row.text("source")
    )
    row.done()
    return found

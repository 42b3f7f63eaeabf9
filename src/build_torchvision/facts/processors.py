"""Processors by the names that people use -> archspec's names for them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType


@cache
def processors() -> Mapping[str, str]:
    """ "graviton3" -> "neoverse_v1"."""
    text = resources.files("build_torchvision.facts").joinpath("processors.toml").read_text(encoding="utf-8")
    return MappingProxyType({name: str(row["archspec"]) for name, row in tomllib.loads(text).items()})

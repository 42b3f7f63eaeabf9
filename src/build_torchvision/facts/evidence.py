"""Typed loader of evidence.toml."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal, get_args

from build_torchvision.facts import FactError

Column = Literal["recipe", "wheel", "run"]
COLUMNS: tuple[Column, ...] = get_args(Column)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What one test does with some variants: `variants` are patterns, `test` is "path::function"."""

    name: str
    column: Column
    does: str
    variants: tuple[str, ...]
    test: str
    nightly: bool


@cache
def evidence() -> tuple[Evidence, ...]:
    """All rows, in their order: of two for one variant and column the first stands. Raises FactError for a bad row."""
    text = resources.files("build_torchvision.facts").joinpath("evidence.toml").read_text(encoding="utf-8")
    found = []
    for name, row in tomllib.loads(text).items():
        if row["column"] not in COLUMNS or "::" not in row["test"]:
            raise FactError(
                f"evidence.toml [{name}]: column must be one of {', '.join(COLUMNS)}, test a path::function."
            )
        patterns = tuple(row.pop("variants"))
        found.append(Evidence(name=name, variants=patterns, nightly=row.pop("nightly", False), **row))
    return tuple(found)

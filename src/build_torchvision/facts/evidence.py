"""Typed loader of evidence.toml."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal, cast, get_args

from build_torchvision.facts._schema import rows

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
    found = []
    for name, row in rows("evidence"):
        found.append(
            Evidence(
                name=name,
                column=cast(Column, row.text("column", "|".join(COLUMNS))),
                does=row.text("does"),
                variants=row.words("variants"),
                test=row.text("test", r"\S+\.py::\w+"),
                nightly=row.flag("nightly"),
            )
        )
        row.done()
    return tuple(found)

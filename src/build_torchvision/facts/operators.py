"""Typed loader of operators.toml: the operators that each release registers with torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from build_torchvision.facts._releases import releases
from build_torchvision.facts._schema import VERSION, rows, version_key

NAME = r"\w+::\w+"


@dataclass(frozen=True, kw_only=True)
class Operator:
    """An operator, "torchvision::nms": the first release that has it, and the last (None: it still has it)."""

    name: str
    since: str
    until: str | None
    source: str

    def is_in(self, release: str) -> bool:
        """Whether `release` ("0.28.0") registers it."""
        key = version_key(release)
        return version_key(self.since) <= key and (self.until is None or key <= version_key(self.until))


@cache
def operators() -> Mapping[str, Operator]:
    """All operators by name."""
    found: dict[str, Operator] = {}
    for name, row in rows("operators"):
        found[name] = Operator(
            name=name,
            since=row.text("since", VERSION),
            until=row.optional("until", VERSION),
            source=row.text("source"),
        )
        row.done()
    return MappingProxyType(found)


def operators_of(release: str) -> frozenset[str] | None:
    """The operators of the listed `release`; None for one that no row lists ("0.30.0a0"): nothing is known of it."""
    if release not in releases():
        return None
    return frozenset(row.name for row in operators().values() if row.is_in(release))

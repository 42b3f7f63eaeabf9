"""Typed loader of actions.toml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from build_torchvision.facts._schema import rows


@dataclass(frozen=True, kw_only=True)
class Action:
    """One GitHub Action, pinned: `name` ("actions/checkout") at `commit` (40 hex digits), which bears `version`."""

    name: str
    version: str
    commit: str
    source: str

    @property
    def reference(self) -> str:
        """What follows `uses:`, with the version as a comment."""
        return f"{self.name}@{self.commit} # {self.version}"


@cache
def actions() -> Mapping[str, Action]:
    """All actions by name. Raises FactError for one that is not pinned by a whole commit."""
    found: dict[str, Action] = {}
    for name, row in rows("actions"):
        found[name] = Action(
            name=name,
            version=row.text("version", r"v\d+\.\d+\.\d+"),
            commit=row.text("commit", r"[0-9a-f]{40}"),
            source=row.text("source"),
        )
        row.done()
    return MappingProxyType(found)

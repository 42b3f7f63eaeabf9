"""Typed loader of actions.toml."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType

from build_torchvision.facts import FactError


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
    text = resources.files("build_torchvision.facts").joinpath("actions.toml").read_text(encoding="utf-8")
    found = {name: Action(name=name, **row) for name, row in tomllib.loads(text).items()}
    for action in found.values():
        if not re.fullmatch(r"[0-9a-f]{40}", action.commit) or not re.fullmatch(r"v\d+\.\d+\.\d+", action.version):
            raise FactError(f"actions.toml [{action.name}]: needs a whole commit and a vN.N.N version.")
    return MappingProxyType(found)

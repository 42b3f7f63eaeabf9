"""Typed loader of driver_packages.toml: how a distribution installs NVIDIA's driver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from build_torchvision.facts._schema import rows


@dataclass(frozen=True, kw_only=True)
class DriverPackage:
    """A distribution's package of the driver. `newest` maps a release of the distribution to its newest branch."""

    command: str
    newest: Mapping[str, str]


@cache
def driver_packages() -> Mapping[str, DriverPackage]:
    """All rows by the distribution's ID ("debian")."""
    found: dict[str, DriverPackage] = {}
    for name, row in rows("driver_packages"):
        found[name] = DriverPackage(command=row.text("command"), newest=row.mapping("newest", r"[\d.]+", r"\d+"))
        row.text("source")
        row.done()
    return MappingProxyType(found)

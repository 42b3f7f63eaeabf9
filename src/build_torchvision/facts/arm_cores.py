"""Typed loader of arm_cores.toml: the names of Arm cores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from build_torchvision.facts._schema import rows


@dataclass(frozen=True, kw_only=True)
class ArmVendor:
    """Who implements a core, and its names by part number ("0xd08" -> "Cortex-A72")."""

    name: str
    cores: Mapping[str, str]


@cache
def arm_vendors() -> Mapping[str, ArmVendor]:
    """Implementer as /proc/cpuinfo states it ("0x41") -> vendor."""
    found: dict[str, ArmVendor] = {}
    for code, row in rows("arm_cores"):
        name, cores = row.text("vendor"), row.mapping("cores", r"0x[0-9a-f]{3}", r".+", required=True)
        row.text("source")
        row.done()
        found[code] = ArmVendor(name=name, cores=cores)
    return MappingProxyType(found)


def arm_core(implementer: str, part: str) -> str | None:
    """The name of a core ("Cortex-A72"); None for one that the table does not know."""
    vendor = arm_vendors().get(implementer)
    return vendor.cores.get(part) if vendor else None

"""Typed loader of isas.toml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from build_torchvision.facts._schema import PLATFORM, FactError, rows


@dataclass(frozen=True, kw_only=True)
class Isa:
    """A CPU instruction set: the compiler's flags for it, and what a CPU must have to run the result."""

    name: str
    platform: str
    flags: tuple[str, ...]
    contains: str | None
    """The next lower ISA: whatever is built for it runs here too."""
    features: tuple[str, ...]
    """All features a CPU needs (those of `contains` included), as archspec spells them."""
    properties: tuple[str, ...]
    """What variant-aware installers call it: PEP 825's `namespace :: feature :: value`."""
    told_apart: bool
    """Whether these properties are not also those of the ISA that it contains."""
    first_cpus: str
    same_code_as: str | None
    """A lower ISA from which TorchVision's own machine code does not differ; None for one that changes it."""
    note: str
    source: str


@cache
def isas() -> Mapping[str, Isa]:
    """All CPU ISAs by name, each after the one it contains."""
    found: dict[str, Isa] = {}
    for name, row in rows("isas"):
        contains = row.optional("contains")
        lower = found.get(contains) if contains else None
        if contains and lower is None:
            raise FactError(f"{row.where}: contains {contains}, which no row above describes.")
        properties = row.words("properties", r"\w+ :: \w+ :: [\w.]+")
        isa = Isa(
            name=name,
            platform=row.text("platform", PLATFORM),
            flags=row.words("flags", r"-m\S+"),
            contains=contains,
            features=(lower.features if lower else ()) + row.words("adds", r"[a-z0-9_]+"),
            properties=properties,
            told_apart=lower is None or lower.properties != properties,
            first_cpus=row.text("first_cpus"),
            same_code_as=row.optional("same_code_as"),
            note=row.optional("note") or "",
            source=row.text("source"),
        )
        row.done()
        if isa.same_code_as is not None and isa.same_code_as not in found:
            raise FactError(f"{row.where}: same_code_as {isa.same_code_as}, which no row above describes.")
        if lower and lower.platform != isa.platform:
            raise FactError(f"{row.where}: contains {contains}, which is of another platform.")
        found[name] = isa
    return MappingProxyType(found)


def lowest_isa(platform: str) -> Isa:
    """The CPU ISA of `platform` that all its others contain."""
    return next(row for row in isas().values() if row.platform == platform and row.contains is None)


def same_code(one: str, other: str) -> bool:
    """Whether TorchVision's own machine code is the same for both ISAs, by their rows."""
    return (isas()[one].same_code_as or one) == (isas()[other].same_code_as or other)

"""A processor from /proc/cpuinfo and the CPUID instruction, and the best ISA for it by archspec's knowledge."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from archspec.cpu import TARGETS, Microarchitecture
from archspec.cpu.detect import partial_uarch
from archspec.cpu.schema import TARGETS_JSON

from build_torchvision.facts import Isa, isas
from build_torchvision.machine.sources import CPUID_NAMES, Sources

_FIELDS = {"x86_64": "flags", "aarch64": "Features"}


@dataclass(frozen=True, kw_only=True)
class Cpu:
    """What the processor is and can do. `features` are those that all of its cores have, in archspec's spelling."""

    model: str
    """Its own name, else archspec's, else its implementer and part."""
    microarchitecture: str
    """archspec's name for it; the platform's where archspec knows no nearer one."""
    features: frozenset[str]
    isa: str | None
    """The best ISA of the matrix; None where it has not even the lowest."""
    emulated: str | None
    """What stands between programs and the processor ("Rosetta", "an emulator"), None for nothing known."""


def best_isa(platform: str, features: Collection[str]) -> str | None:
    """The highest ISA of `platform` ("x86_64", "aarch64") whose features `features` holds; None where none fits."""
    fitting = [isa for isa in platform_isas(platform) if set(isa.features) <= set(features)]
    return fitting[-1].name if fitting else None


def platform_isas(platform: str) -> list[Isa]:
    """The ISAs of `platform` in rising order."""
    return [isa for isa in isas().values() if isa.platform == platform]


def missing_features(isa: str, cpu: Cpu) -> tuple[str, ...]:
    """What code for `isa` needs and `cpu` lacks."""
    return tuple(feature for feature in isas()[isa].features if feature not in cpu.features)


def read_cpu(sources: Sources) -> Cpu:
    """The processor that `sources` describe. Nothing is raised: what is not known is named as such.

    The kernel's list is the ceiling: it leaves out what it did not enable. A program under user-mode emulation sees
    the host's /proc/cpuinfo, so the CPUID instruction, where it can be asked, has the last word on what it covers.
    """
    cores = list(_cores(sources.read("/proc/cpuinfo") or ""))
    first = cores[0] if cores else {}
    field = _FIELDS.get(sources.platform, "flags")
    listed = [frozenset(core[field].split()) for core in cores if field in core]
    features = frozenset.intersection(*listed) if listed else frozenset[str]()
    asked = sources.cpuid()
    hidden = frozenset[str]()
    if asked is not None:
        hidden = features & CPUID_NAMES - asked
        features = features - hidden if listed else asked
    name = _microarchitecture(sources.platform, first, features)
    part = " ".join(first[key] for key in ("CPU implementer", "CPU part") if key in first)
    return Cpu(
        model=first.get("model name") or (name if name != sources.platform else "") or part or "unknown",
        microarchitecture=name,
        features=features,
        isa=best_isa(sources.platform, features),
        emulated=_emulation(sources.platform, first, bool(listed), hidden),
    )


def _cores(text: str) -> Iterator[dict[str, str]]:
    """Each processor's block as key -> value."""
    for block in text.replace("\r", "").split("\n\n"):
        pairs = (line.partition(":") for line in block.splitlines() if ":" in line)
        core = {key.strip(): value.strip() for key, _, value in pairs}
        if core:
            yield core


def _microarchitecture(platform: str, core: Mapping[str, str], features: frozenset[str]) -> str:
    """archspec's name for a processor, by archspec's own rule: below the best generic level nothing counts."""
    vendors = {core.get("vendor_id"), _arm_vendor(core), "generic"}
    info = partial_uarch(features=set(features))
    fitting = [
        target
        for target in TARGETS.values()
        if target.family.name == platform and target.vendor in vendors and target.features <= info.features
    ]
    generic = [target for target in fitting if target.vendor == "generic" and not target.name.startswith("armv")]
    if not generic:
        return platform
    best = max(generic, key=_depth)
    above = [target for target in fitting if target > best]
    exact = [target for target in above if target.cpu_part and target.cpu_part == core.get("CPU part")]
    name: str = max(exact or above or [best], key=_depth).name
    return name


def _depth(target: Microarchitecture) -> tuple[int, int]:
    return len(target.ancestors), len(target.features)


def _arm_vendor(core: Mapping[str, str]) -> str:
    vendors: dict[str, str] = TARGETS_JSON["conversions"]["arm_vendors"]
    code = core.get("CPU implementer", "")
    return vendors.get(code, code)


def _emulation(platform: str, core: Mapping[str, str], listed: bool, hidden: frozenset[str]) -> str | None:
    if core.get("vendor_id") == "VirtualApple":
        return "Rosetta"
    if core and not listed and any(field in core for field in _FIELDS.values()):
        return f"an emulator of {platform} (/proc/cpuinfo is another platform's)"
    if hidden & {"avx", "avx2", "avx512f", "fma"}:
        return "an emulator (the processor's own list of features is shorter than /proc/cpuinfo's)"
    return None

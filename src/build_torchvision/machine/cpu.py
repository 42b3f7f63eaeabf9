"""A processor from /proc/cpuinfo and the CPUID instruction, and the best ISA for it by archspec's knowledge."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from archspec.cpu import TARGETS, Microarchitecture

from build_torchvision.facts import PLATFORMS, Isa, isas
from build_torchvision.facts.arm_cores import arm_core, arm_vendors
from build_torchvision.machine.sources import CPUID_NAMES, Sources

_FIELDS = {"x86_64": "flags", "aarch64": "Features"}
# What the kernel calls the list of features on platforms that PyTorch has no wheels for.
_OTHER_FIELDS = {
    "riscv64": "isa",
    "loongarch64": "Features",
    "armv7l": "Features",
    "armv6l": "Features",
    "s390x": "features",
}


@dataclass(frozen=True, kw_only=True)
class Cpu:
    """What the processor is and can do. `features` are those that all of its cores have, in archspec's spelling."""

    model: str
    """Its own name; on Arm the names of its kinds of core, else implementer and part."""
    microarchitecture: str
    """archspec's name for it; where archspec has none, the core's own name, else the platform's."""
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
    field = _FIELDS.get(sources.platform) or _OTHER_FIELDS.get(sources.platform, "flags")
    listed = [frozenset(core[field].split()) for core in cores if field in core]
    features = frozenset.intersection(*listed) if listed else frozenset[str]()
    asked = sources.cpuid()
    hidden = frozenset[str]()
    if asked is not None:
        hidden = features & CPUID_NAMES - asked
        features = features - hidden if listed else asked
    name = _microarchitecture(sources.platform, first, features)
    return Cpu(
        model=_model(sources.platform, cores) or (name if name != sources.platform else "") or "unknown",
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


def _model(platform: str, cores: list[dict[str, str]]) -> str:
    """What the processor calls itself; of Arm cores each kind once, by its name or its implementer and part."""
    if not cores:
        return ""
    own = next(
        (core[key] for core in cores for key in ("model name", "Model Name", "cpu", "uarch") if core.get(key)), ""
    )
    if platform != "aarch64" or (own and not own.startswith("ARMv")):  # 32-bit kernels write "ARMv7 Processor rev 4"
        return own
    kinds = []
    for core in cores:
        implementer, part = core.get("CPU implementer", ""), core.get("CPU part", "")
        vendor = arm_vendors().get(implementer)
        name = arm_core(implementer, part)
        if name is None and part:
            name = f"{vendor.name if vendor else implementer} part {part}"
        if name:
            kinds.append(name)
    return ", ".join(dict.fromkeys(kinds)) or own


def _microarchitecture(platform: str, core: Mapping[str, str], features: frozenset[str]) -> str:
    """archspec's name for a processor, by archspec's own rule: below the best generic level nothing counts.

    An Arm core that archspec does not know by its part number has its own name: features alone tell no core there, and
    archspec's generic Arm levels have none that could rule one out.
    """
    implied = features | {"sse3"} if "ssse3" in features else features  # Linux does not list sse3 by that name
    vendor = arm_vendors().get(core.get("CPU implementer", ""))
    vendors = {core.get("vendor_id"), "generic"} | ({vendor.name, vendor.name.upper()} if vendor else set())
    fitting = [
        target
        for target in TARGETS.values()
        if target.family.name == platform and _same_vendor(target, vendors) and target.features <= implied
    ]
    if platform == "aarch64":
        part = core.get("CPU part")
        exact = [target for target in fitting if target.cpu_part and target.cpu_part == part]
        if exact:
            return str(max(exact, key=_depth).name)
        name = arm_core(core.get("CPU implementer", ""), part or "")
        return re.sub(r"\W+", "_", name.partition(" (")[0].lower()) if name else platform
    generic = [target for target in fitting if target.vendor == "generic"]
    if not generic:
        return platform
    best = max(generic, key=_depth)
    above = [target for target in fitting if target > best]
    return str(max(above or [best], key=_depth).name)


def _same_vendor(target: Microarchitecture, vendors: Collection[str | None]) -> bool:
    return target.vendor in vendors or target.vendor.lower() in {name.lower() for name in vendors if name}


def _depth(target: Microarchitecture) -> tuple[int, int]:
    return len(target.ancestors), len(target.features)


def _emulation(platform: str, core: Mapping[str, str], listed: bool, hidden: frozenset[str]) -> str | None:
    if core.get("vendor_id") == "VirtualApple":
        return "Rosetta"
    if platform in PLATFORMS and core and not listed and any(field in core for field in _FIELDS.values()):
        return f"an emulator of {platform} (/proc/cpuinfo is another platform's)"
    if hidden & {"avx", "avx2", "avx512f", "fma"}:
        return "an emulator (the processor's own list of features is shorter than /proc/cpuinfo's)"
    return None

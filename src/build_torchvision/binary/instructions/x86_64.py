"""x86-64 code, decoded by iced-x86, which knows the CPUID features that each instruction needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import Any

import iced_x86
from iced_x86 import Code, CpuidFeature, Decoder, EncodingKind, OpKind, Register

from build_torchvision.binary.elf import Section
from build_torchvision.binary.instructions.scan import IsaEvidence, Scan
from build_torchvision.facts import isas

# x86-64 psABI: the baseline, and what every CPU of level 2 adds. CET's instructions are no-ops where they are unknown.
V1 = frozenset(
    (
        "INTEL8086",
        "INTEL186",
        "INTEL286",
        "INTEL386",
        "INTEL486",
        "X64",
        "CPUID",
        "CMOV",
        "CX8",
        "FPU",
        "FPU287",
        "FPU387",
        *("FXSR", "MMX", "SSE", "SSE2", "SYSCALL", "TSC", "CLFSH", "MULTIBYTENOP", "PAUSE", "CET_IBT", "CET_SS"),
    )
)
V2 = frozenset(("CMPXCHG16B", "POPCNT", "SSE3", "SSSE3", "SSE4_1", "SSE4_2"))
# archspec's feature -> what iced-x86 calls the CPUID features it covers, where that is not the same name in capitals.
ICED: dict[str, tuple[str, ...]] = {"abm": ("LZCNT", "POPCNT"), "avx": ("AVX", "XSAVE")}
_FEATURES = {value: name for name, value in vars(CpuidFeature).items() if name.isupper() and isinstance(value, int)}


EVIDENCE = {
    "avx2": IsaEvidence(kind="avx2", words="VEX instructions of AVX2 or FMA"),
    "avx512": IsaEvidence(kind="avx512", words="EVEX instructions with zmm, an opmask or ymm16-31"),
}


def names_of(feature: str) -> tuple[str, ...]:
    """iced-x86's names of what an archspec feature covers."""
    return ICED.get(feature, (feature.upper(),))


@cache
def allowed_features(isa: str) -> frozenset[str]:
    """iced-x86's names of the CPUID features that code of the CPU ISA `isa` may need; x86-64 only."""
    return usable(isas()[isa].features)


def usable(features: Iterable[str]) -> frozenset[str]:
    """iced-x86's names of the CPUID features that code may need on a CPU with `features` (archspec's names)."""
    return V1 | V2 | {name for feature in features for name in names_of(feature)}


def without_runtime_dispatch(found: Scan) -> Counter[str]:
    """The features met: compilers write no code here that asks the CPU first."""
    return found.features


def is_installed() -> bool:
    """iced-x86 is a dependency on every platform."""
    return True


def decode(section: Section, found: Scan) -> None:
    """Decode `section` to its end."""
    counts: Counter[int] = Counter()
    seen: dict[int, Any] = {}
    evex: set[int] = set()
    for instruction in Decoder(64, section.data, ip=section.address):
        code = instruction.code
        counts[code] += 1
        if code not in seen:
            seen[code] = instruction.copy()
            if instruction.encoding == EncodingKind.EVEX:
                evex.add(code)
        if code in evex:
            found.shown["avx512"] += _is_wide(instruction)
        elif code == Code.INVALID:
            found.no_instruction(f"{section.name}+{instruction.ip - section.address:#x}")
    found.total += counts.total()
    for code, count in counts.items():
        if code == Code.INVALID:
            continue
        example = seen[code]
        names = {_FEATURES[feature] for feature in example.cpuid_features()}
        for name in names:
            found.features[name] += count
            found.first.setdefault(
                name, f"{iced_x86.Formatter(iced_x86.FormatterSyntax.GAS).format(example)} at {example.ip:#x}"
            )
        if example.encoding == EncodingKind.VEX and names & {"AVX2", "FMA"}:
            found.shown["avx2"] += count


def _is_wide(instruction: Any) -> bool:
    if instruction.has_op_mask:
        return True
    for operand in range(instruction.op_count):
        if instruction.op_kind(operand) == OpKind.REGISTER:
            register = instruction.op_register(operand)
            if (
                Register.ZMM0 <= register <= Register.ZMM31
                or Register.YMM16 <= register <= Register.YMM31
                or Register.K0 <= register <= Register.K7
            ):
                return True
    return False

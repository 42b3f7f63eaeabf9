"""Which CPU features the machine code of a shared object needs: every instruction is decoded, by a decoder a platform.

The linear sweep of the executable sections meets only code and padding: compilers put the jump tables and constants of
x86-64 and of AArch64 into .rodata. Where something else were there, it would not decode, and that is an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Protocol

from build_torchvision.binary.elf import Section
from build_torchvision.binary.instructions import aarch64, x86_64
from build_torchvision.binary.instructions.scan import IsaEvidence, Scan
from build_torchvision.facts import isas

__all__ = [
    "DECODERS",
    "IsaEvidence",
    "Scan",
    "allowed_features",
    "beyond",
    "beyond_cpu",
    "can_decode",
    "evidence",
    "needing",
    "scan",
    "usable",
]


class Decoder(Protocol):
    """What a platform's module offers."""

    EVIDENCE: dict[str, IsaEvidence]
    """By CPU ISA; one that is missing shows itself as the ISA that it contains does."""

    def is_installed(self) -> bool:
        """Whether the library that decodes can be imported."""

    def decode(self, section: Section, found: Scan, /) -> None:
        """Decode `section` to its end and count into `found`."""

    def names_of(self, feature: str, /) -> tuple[str, ...]:
        """What the decoder calls what an archspec feature covers; nothing for one that no instruction needs."""

    def allowed_features(self, isa: str, /) -> frozenset[str]:
        """The decoder's names of the features that code of `isa` may need."""

    def without_runtime_dispatch(self, found: Scan, /) -> Counter[str]:
        """feature -> instructions that need it, without those that run only where a test of the CPU allows it."""

    def usable(self, features: Iterable[str], /) -> frozenset[str]:
        """The decoder's names of the features that code may need on a CPU with `features`, archspec's names."""


DECODERS: dict[str, Decoder] = {"x86_64": x86_64, "aarch64": aarch64}


def can_decode(platform: str) -> bool:
    """Whether the decoder for `platform` is here: that of AArch64 is installed with this program there alone."""
    return platform in DECODERS and DECODERS[platform].is_installed()


def scan(sections: Iterable[Section], platform: str = "x86_64") -> Scan:
    """Decode every instruction of `sections`. About a second for three million of x86-64, or one of AArch64.

    Raises ImportError where `can_decode` does not hold.
    """
    found = Scan(platform=platform)
    for section in sections:
        DECODERS[platform].decode(section, found)
    return found


def allowed_features(isa: str) -> frozenset[str]:
    """The decoder's names of the features that code of the CPU ISA `isa` may need."""
    return DECODERS[isas()[isa].platform].allowed_features(isa)


def usable(platform: str, features: Iterable[str]) -> frozenset[str]:
    """The decoder's names of what code may need on a CPU of `platform` with `features` (archspec's names)."""
    return DECODERS[platform].usable(features)


def beyond(found: Scan, isa: str) -> dict[str, int]:
    """feature -> count, for the features that `isa` does not have."""
    allowed = allowed_features(isa)
    return {name: count for name, count in sorted(found.features.items()) if name not in allowed}


def beyond_cpu(found: Scan, features: Iterable[str]) -> dict[str, int]:
    """feature -> count, for what a CPU with `features` (archspec's names) does not have.

    Only features that some ISA of the tables is made of are judged: of others a decoder's name need not be archspec's.
    """
    decoder = DECODERS[found.platform]
    known = {feature for isa in isas().values() if isa.platform == found.platform for feature in isa.features}
    lacking = decoder.usable(known) - decoder.usable(features)
    return {name: count for name, count in sorted(decoder.without_runtime_dispatch(found).items()) if name in lacking}


def needing(found: Scan, feature: str) -> list[tuple[int, str]]:
    """(how many, the first) of the instructions that need `feature` (archspec's name), for each name it goes by."""
    names = DECODERS[found.platform].names_of(feature)
    return [(found.features[name], found.first[name]) for name in names if found.features[name]]


def evidence(isa: str) -> IsaEvidence:
    """What shows that the compiler was told of `isa`: a scan without any of that kind shows that it was not."""
    table = DECODERS[isas()[isa].platform].EVIDENCE
    while isa not in table:
        contained = isas()[isa].contains
        assert contained is not None, f"no decoder says how {isa} shows itself"
        isa = contained
    return table[isa]

"""What is counted while machine code is decoded, on any platform."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

SHOWN = 8  # places to name


@dataclass(kw_only=True)
class Scan:
    """What was met in some machine code of `platform`."""

    platform: str
    total: int = 0
    features: Counter[str] = field(default_factory=Counter)
    """Instructions that need the feature, as the platform's decoder calls it."""
    first: dict[str, str] = field(default_factory=dict)
    """feature -> the first instruction that needs it, with its address."""
    invalid: list[str] = field(default_factory=list)
    """Where bytes decode to no instruction: the first places."""
    invalid_total: int = 0
    """How many such places there are."""
    shown: Counter[str] = field(default_factory=Counter)
    """Instructions that only a compiler told of an ISA writes, by kind (a decoder's EVIDENCE)."""

    def add(self, other: Scan) -> None:
        """Add what was met in further code of the same platform, which comes after this."""
        self.total += other.total
        self.features += other.features
        self.first = {**other.first, **self.first}
        self.invalid += other.invalid
        self.shown += other.shown

    def no_instruction(self, where: str) -> None:
        """Count a place whose bytes decode to no instruction."""
        self.invalid_total += 1
        if len(self.invalid) < SHOWN:
            self.invalid.append(where)


@dataclass(frozen=True, kw_only=True)
class IsaEvidence:
    """What shows that a compiler was told of an ISA: the kind that a decoder counts, and its description."""

    kind: str
    words: str

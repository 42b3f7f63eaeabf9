"""AArch64 code, decoded by capstone 6, whose instructions name LLVM's predicates: the features that each needs."""

from __future__ import annotations

import importlib.util
import struct
from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import Any

from build_torchvision.binary.elf import Section
from build_torchvision.binary.instructions.scan import IsaEvidence, Scan
from build_torchvision.facts import isas

# Armv8.0-A, which every AArch64 CPU with an operating system has.
BASE = frozenset(("HasFPARMv8", "HasNEON", "HasNEONorSME"))
# archspec's feature -> capstone's predicates.
NAMES = {
    "asimdhp": ("HasFullFP16",),
    "fphp": ("HasFullFP16",),
    "asimdrdm": ("HasRDM",),
    "atomics": ("HasLSE",),
    "crc32": ("HasCRC",),
    "asimddp": ("HasDotProd",),
    "fcma": ("HasComplxNum",),
    "flagm": ("HasFlagM",),
    "flagm2": ("HasAltNZCV",),
    "frint": ("HasFRInt3264",),
    "ilrcpc": ("HasRCPC_IMMO",),
    "jscvt": ("HasJS",),
    "lrcpc": ("HasRCPC",),
    "sb": ("HasSB",),
    "sve": ("HasSVE", "HasSVEorSME"),
    "sve2": ("HasSVE2", "HasSVE2orSME", "HasSVE2orSME2"),
}
EVIDENCE = {
    "armv8_2": IsaEvidence(kind="lse", words="atomic instructions (LSE) outside libgcc's helpers"),
    "armv9": IsaEvidence(kind="sve", words="SVE and SVE2 instructions"),
}
# Registers that a program may read or write on every AArch64 Linux.
REGISTERS = ("FPCR", "FPSR", "NZCV", "TPIDR_EL0", "CNTVCT_EL0", "CNTFRQ_EL0", "CTR_EL0", "DCZID_EL0")
SYSTEM = ("at", "dc", "ic", "msr", "mrs", "sys", "sysl", "tlbi")
PADDING = 0  # `udf #0`: what the linker puts between objects, and what stops a program that gets there
# libgcc's lse.S holds each atomic once a size, behind a test of the CPU and always with these operands.
HELPERS = {text for size in "wx" for text in (f"{size}0, {size}0, [x1]", f"{size}0, {size}1, [x2]")}
HELPERS.add("x0, x1, x2, x3, [x4]")


def names_of(feature: str) -> tuple[str, ...]:
    """capstone's names of what an archspec feature covers."""
    return NAMES.get(feature, ())


@cache
def allowed_features(isa: str) -> frozenset[str]:
    """capstone's names of the predicates that code of the CPU ISA `isa` may need; AArch64 only."""
    return usable(isas()[isa].features)


def usable(features: Iterable[str]) -> frozenset[str]:
    """capstone's names of the predicates that code may need on a CPU with `features` (archspec's names)."""
    return BASE | {name for feature in features for name in names_of(feature)}


def is_installed() -> bool:
    """Whether capstone can be imported."""
    return importlib.util.find_spec("capstone") is not None


@cache
def _decoder() -> Any:
    import capstone  # 40 MB on disk; on x86-64 it is fetched when code for Arm is first read

    decoder = capstone.Cs(capstone.CS_ARCH_AARCH64, capstone.CS_MODE_LITTLE_ENDIAN)
    decoder.detail = True
    return decoder


@cache
def _meaning(word: int) -> tuple[str, frozenset[str]] | None:
    """(text, features needed) of one instruction word; None where it is none, or one that no CPU will ever execute."""
    (instruction,) = list(_decoder().disasm(struct.pack("<I", word), 0)) or (None,)
    if instruction is None or instruction.mnemonic == "udf":  # small numbers, such as a table's entries, read as udf
        return None
    text = f"{instruction.mnemonic} {instruction.op_str}".strip()
    names = {instruction.group_name(group) for group in instruction.groups}
    features = {name for name in names if name.startswith("Has")}
    if ("privilege" in names or instruction.mnemonic in SYSTEM) and not _is_for_programs(text):
        features.add(f"system instruction {instruction.mnemonic}")
    return text, frozenset(features)


def _is_for_programs(text: str) -> bool:
    return text.startswith("dc zva") or any(
        register in text.upper().replace(",", " ").split() for register in REGISTERS
    )


def without_runtime_dispatch(found: Scan) -> Counter[str]:
    """The features met, without those of libgcc's atomic helpers, which ask the CPU before they use them."""
    return Counter({name: count for name, count in found.features.items() if name != "HasLSE" or found.shown["lse"]})


def decode(section: Section, found: Scan) -> None:
    """Decode every word of `section`; each distinct word is decoded once."""
    whole = len(section.data) & ~3
    words = struct.unpack(f"<{whole // 4}I", section.data[:whole])
    if whole != len(section.data):
        found.no_instruction(f"{section.name}+{whole:#x}")
    counts = Counter(words)
    found.total += counts.total() - counts.pop(PADDING, 0)
    first = {word: place for place, word in reversed(list(enumerate(words)))}
    unknown: set[int] = set()
    for word, count in counts.items():
        meaning = _meaning(word)
        if meaning is None:
            unknown.add(word)
            continue
        text, features = meaning
        for name in features:
            found.features[name] += count
            found.first.setdefault(name, f"{text} at {section.address + 4 * first[word]:#x}")
        found.shown["sve"] += count * any("SVE" in name for name in features)
        found.shown["lse"] += count * ("HasLSE" in features and text.partition(" ")[2] not in HELPERS)
    for place, word in enumerate(words) if unknown else ():
        if word in unknown:
            found.no_instruction(f"{section.name}+{4 * place:#x}")

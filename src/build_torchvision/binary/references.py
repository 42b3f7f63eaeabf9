"""Find which addresses of a shared object its own code or data refers to.

Linkers merge strings: a text that is the end of a longer one has no bytes of its own, and only a reference to the
middle of the longer one shows that it is used.
"""

from __future__ import annotations

import struct
from collections.abc import Collection

from build_torchvision.binary.elf_file import (
    EM_AARCH64,
    EM_X86_64,
    SHT_RELA,
    UNREADABLE,
    ElfFile,
    NotElf,
)

_RELATIVE = {EM_X86_64: 8, EM_AARCH64: 1027}  # R_X86_64_RELATIVE, R_AARCH64_RELATIVE (the processor supplements)
_REACH = 16  # instructions between adrp and the add that completes an address; compilers put them a few apart


def referred(data: bytes, offsets: Collection[int]) -> frozenset[int]:
    """Those `offsets` into the file `data` whose address is referred to. Raises NotElf.

    A reference is a RIP-relative operand (x86-64), a pair of adrp and add (AArch64), or a relative relocation.
    """
    try:
        file = ElfFile(data)
        places = {address: offset for offset in offsets if (address := file.address_of(offset)) is not None}
        found = _in_relocations(file, places.keys())
        search = {EM_X86_64: _in_code_x86_64, EM_AARCH64: _in_code_aarch64}.get(file.machine)
        if search is not None:
            for section in file.code_sections:
                found |= search(file.contents(section), section.address, places.keys())
    except UNREADABLE as error:
        raise NotElf(f"not a whole ELF file ({error or type(error).__name__})") from error
    return frozenset(places[address] for address in found)


def _in_relocations(file: ElfFile, wanted: Collection[int]) -> set[int]:
    return {
        row.addend
        for section in file.sections
        if section.type == SHT_RELA
        for row in file.relocations(section)
        if row.addend in wanted and row.kind == _RELATIVE.get(file.machine)
    }


def _in_code_x86_64(code: bytes, base: int, wanted: Collection[int]) -> set[int]:
    """Addresses that are the end of four bytes of code plus the number in them: an operand relative to the next
    instruction, which begins there where no immediate follows."""
    found = set[int]()
    for shift in range(4):
        whole = code[shift : shift + (len(code) - shift) // 4 * 4]
        for end, (distance,) in enumerate(struct.iter_unpack("<i", whole), start=1):
            target = base + shift + 4 * end + distance
            if target in wanted:
                found.add(target)
    return found


def _in_code_aarch64(code: bytes, base: int, wanted: Collection[int]) -> set[int]:
    found = set[int]()
    pages = {address & ~0xFFF for address in wanted}
    words = struct.unpack(f"<{len(code) // 4}I", code[: len(code) // 4 * 4])
    for position, word in enumerate(words):
        if word & 0x9F000000 != 0x90000000:  # adrp
            continue
        distance = ((word >> 5) & 0x7FFFF) << 2 | (word >> 29) & 3
        page = (base + 4 * position & ~0xFFF) + ((distance ^ 1 << 20) - (1 << 20) << 12)
        if page not in pages:
            continue
        for later in words[position + 1 : position + 1 + _REACH]:
            if later & 0xFFC00000 == 0x91000000 and (later >> 5) & 31 == word & 31:  # add xd, xn, #n
                target = page + ((later >> 10) & 0xFFF)
                if target in wanted:
                    found.add(target)
    return found

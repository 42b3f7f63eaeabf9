"""Read which kernels host code registers with the CUDA runtime.

Host code calls __cudaRegisterFunction(handle, stub, deviceFun, deviceName, ...) once per kernel when the library is
loaded (CUDA's crt/host_runtime.h). The fourth argument is the kernel's mangled name. The call sites are found through
the relocation of that symbol, and the argument by following constants through the instructions before each call, so
nothing depends on how kernels are called.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import iced_x86
from iced_x86 import Decoder, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register, RegisterExt

from build_torchvision.binary.elf_file import (
    EM_AARCH64,
    EM_X86_64,
    SHT_RELA,
    UNREADABLE,
    ElfFile,
    NotElf,
)

SYMBOL = "__cudaRegisterFunction"
WINDOW = 400  # bytes before a call in which its arguments are set; compilers set them in a dozen instructions
_SLOTS = {EM_X86_64: (6, 7), EM_AARCH64: (1025, 1026)}  # GLOB_DAT, JUMP_SLOT (the processor supplements of the ABI)
_NAME = re.compile(rb"[\w$.]+")
_CALLER_SAVED = frozenset(range(18))  # x0 to x17 of AArch64's procedure call standard
_WRITES = frozenset(
    (OpAccess.WRITE, OpAccess.COND_WRITE, OpAccess.READ_WRITE, OpAccess.READ_COND_WRITE)
)  # fmt: skip


_NO_SITE = 1 << 64  # beyond every address


@dataclass(frozen=True, kw_only=True)
class Registrations:
    """The kernels' mangled names, and at which calls (addresses) no name could be read."""

    names: frozenset[str]
    unreadable: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Code:
    name: str
    address: int
    data: bytes


def registrations(data: bytes) -> Registrations:
    """The registrations in the shared object `data`; none where it does not use the CUDA runtime. Raises NotElf."""
    try:
        file = ElfFile(data)
        slots = _slots(file, _SLOTS.get(file.machine, ()))
        if not slots:
            return Registrations(names=frozenset())
        codes = tuple(
            _Code(name=section.name, address=section.address, data=file.contents(section))
            for section in file.code_sections
        )
        names, unreadable = set[str](), []
        for call, address in _calls(file.machine, codes, slots):
            name = _text_at(file, data, address) if address is not None else None
            if name is None:
                unreadable.append(call)
            else:
                names.add(name)
    except UNREADABLE as error:
        raise NotElf(f"not a whole ELF file ({error or type(error).__name__})") from error
    return Registrations(names=frozenset(names), unreadable=tuple(unreadable))


@lru_cache(maxsize=16)  # CUDA wheels of one CPU ISA often differ in device code alone
def _calls(machine: int, codes: tuple[_Code, ...], slots: frozenset[int]) -> tuple[tuple[int, int | None], ...]:
    """(address of the call, address of the name that it is given) of each call."""
    return tuple((_calls_x86_64 if machine == EM_X86_64 else _calls_aarch64)(codes, slots))


def _slots(file: ElfFile, kinds: tuple[int, ...]) -> frozenset[int]:
    """The addresses of the global offset table's entries for SYMBOL."""
    found = set[int]()
    for section in file.sections:
        if section.type != SHT_RELA or section.link >= len(file.sections):
            continue
        symbols = file.symbols(file.sections[section.link])
        wanted = {i for i, symbol in enumerate(symbols) if symbol.name == SYMBOL}
        if not wanted:
            continue
        found |= {row.offset for row in file.relocations(section) if row.symbol in wanted and row.kind in kinds}
    return frozenset(found)


def _text_at(file: ElfFile, data: bytes, address: int) -> str | None:
    """The C string at a virtual address that the file itself fills, if it is a name."""
    offset = file.offset_of(address)
    match = _NAME.match(data, offset) if offset is not None else None
    return match[0].decode() if match and data[match.end() : match.end() + 1] == b"\0" else None


def _calls_x86_64(codes: Sequence[_Code], slots: frozenset[int]) -> Iterator[tuple[int, int | None]]:
    """(address of the call, address in rcx) of each call."""
    stubs = frozenset(_stubs_x86_64(codes, slots))
    factory = InstructionInfoFactory()
    for code in codes:
        sites = sorted(_sites_x86_64(code, stubs, slots))
        if not sites or code.name.startswith(".plt"):
            continue
        known: dict[int, int] = {}
        waiting = iter(sites)
        site = next(waiting)
        for instruction in Decoder(64, code.data, ip=code.address):  # from the start: code is read in one way only
            ip = instruction.ip
            while site < ip:  # it was a call, or it was no instruction
                site = next(waiting, _NO_SITE)
            if site - ip > WINDOW:
                if site == _NO_SITE:
                    break
                if known:
                    known.clear()
                continue  # most instructions: a hundred thousand lie between few calls
            if ip == site:
                yield ip, known.get(Register.RCX)
                known.clear()
                continue
            _follow_x86_64(instruction, factory, known)


def _stubs_x86_64(codes: Sequence[_Code], slots: frozenset[int]) -> Iterator[int]:
    """Where the procedure linkage table jumps through one of `slots`; with CET the stub begins with endbr64."""
    for code in codes:
        if code.name.startswith(".plt"):
            before = None
            for instruction in Decoder(64, code.data, ip=code.address):
                through = instruction.is_ip_rel_memory_operand and instruction.ip_rel_memory_address in slots
                if instruction.mnemonic == Mnemonic.JMP and through:
                    yield instruction.ip
                    if before is not None:
                        yield before
                before = instruction.ip if instruction.mnemonic == Mnemonic.ENDBR64 else None


def _sites_x86_64(code: _Code, stubs: frozenset[int], slots: frozenset[int]) -> Iterator[int]:
    """Addresses of bytes that read as a call of, or a jump to, one of a stub or slot; a few may be no instruction."""
    data, base = code.data, code.address
    for match in re.finditer(rb"[\xe8\xe9]|\xff[\x15\x25]", data):
        start, end = match.start(), match.end()
        if end + 4 <= len(data):
            target = base + end + 4 + int(struct.unpack_from("<i", data, end)[0])
            if target in (stubs if end - start == 1 else slots):
                yield base + start


def _follow_x86_64(instruction: Any, factory: Any, known: dict[int, int]) -> None:
    """Update the constants that registers hold."""
    target = RegisterExt.full_register(instruction.op0_register) if instruction.op0_kind == OpKind.REGISTER else None
    value: int | None = None
    if instruction.mnemonic == Mnemonic.LEA and instruction.is_ip_rel_memory_operand:
        value = instruction.ip_rel_memory_address
    elif instruction.mnemonic == Mnemonic.MOV and instruction.op1_kind == OpKind.REGISTER:
        value = known.get(instruction.op1_register)
    if target is not None and value is not None:
        known[target] = value
        return
    for used in factory.info(instruction).used_registers():
        if used.access in _WRITES:
            known.pop(RegisterExt.full_register(used.register), None)
    if instruction.flow_control in (iced_x86.FlowControl.CALL, iced_x86.FlowControl.INDIRECT_CALL):
        for register in (
            Register.RCX,
            Register.RDX,
            Register.RSI,
            Register.RDI,
            Register.RAX,
            Register.R8,
            Register.R9,
        ):
            known.pop(register, None)


def _calls_aarch64(codes: Sequence[_Code], slots: frozenset[int]) -> Iterator[tuple[int, int | None]]:
    """(address of the call, address in x3) of each call."""
    import capstone  # 40 MB on disk; on x86-64 it is fetched when code for Arm is first read

    stubs = frozenset(_stubs_aarch64(codes, slots))
    decoder = capstone.Cs(capstone.CS_ARCH_AARCH64, capstone.CS_MODE_ARM)
    decoder.detail = True
    for code in codes:
        words = struct.unpack(f"<{len(code.data) // 4}I", code.data[: len(code.data) // 4 * 4])
        for position, word in enumerate(words):
            if word & 0x7C000000 != 0x14000000:  # b, bl
                continue
            here = code.address + 4 * position
            if here + _signed((word & 0x3FFFFFF) << 2, 28) not in stubs or code.name.startswith(".plt"):
                continue
            start = max(0, position - WINDOW // 4)
            yield here, _followed_aarch64(words[start:position], code.address + 4 * start, decoder).get(3)


def _stubs_aarch64(codes: Sequence[_Code], slots: frozenset[int]) -> Iterator[int]:
    """Where the procedure linkage table loads one of `slots`: adrp x16; ldr x17, [x16, #n]."""
    for code in codes:
        if not code.name.startswith(".plt"):
            continue
        words = struct.unpack(f"<{len(code.data) // 4}I", code.data)
        for position, (first, second) in enumerate(itertools.pairwise(words)):
            here = code.address + 4 * position
            loads = first & 0x9F00001F == 0x90000010 and second & 0xFFC003FF == 0xF9400211
            if loads and _page(first, here) + ((second >> 10) & 0xFFF) * 8 in slots:
                yield here
                yield here - 4  # with branch target identification the stub begins with bti


def _followed_aarch64(words: tuple[int, ...], address: int, decoder: Any) -> dict[int, int]:
    """Register -> constant after these instructions."""
    known: dict[int, int] = {}
    for position, word in enumerate(words):
        here, target = address + 4 * position, word & 31
        if word & 0x9F000000 == 0x90000000:
            known[target] = _page(word, here)
        elif word & 0x9F000000 == 0x10000000:
            known[target] = here + _signed(((word >> 5) & 0x7FFFF) << 2 | (word >> 29) & 3, 21)
        elif word & 0xFF800000 == 0x91000000 and (word >> 5) & 31 in known:
            known[target] = known[(word >> 5) & 31] + (((word >> 10) & 0xFFF) << (12 if word >> 22 & 1 else 0))
        elif word & 0xFFE0FFE0 == 0xAA0003E0 and (word >> 16) & 31 in known:
            known[target] = known[(word >> 16) & 31]
        elif word & 0xFC000000 == 0x94000000:
            known = {register: value for register, value in known.items() if register not in _CALLER_SAVED}
        else:
            for register in _written_aarch64(word, here, decoder):
                known.pop(register, None)
    return known


def _written_aarch64(word: int, address: int, decoder: Any) -> Iterator[int]:
    for instruction in decoder.disasm(struct.pack("<I", word), address):
        for register in instruction.regs_access()[1]:
            name = instruction.reg_name(register)
            if name and name[0] in "xw" and name[1:].isdigit():
                yield int(name[1:])


def _page(word: int, address: int) -> int:
    return (address & ~0xFFF) + (_signed(((word >> 5) & 0x7FFFF) << 2 | (word >> 29) & 3, 21) << 12)


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) & 1 else value

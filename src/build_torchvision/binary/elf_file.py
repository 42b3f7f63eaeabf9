"""Read the headers of ELF files with bounds, so that a damaged or hostile file costs little and ends in NotElf.

Only 64-bit little-endian files are read (System V ABI, chapters 4 and 5). Contents are slices of the file as they
stand: nothing is decompressed. `data` may be a memory map of a library of any size.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

EM_X86_64, EM_AARCH64, EM_CUDA = 62, 183, 190
SHT_STRTAB, SHT_RELA, SHT_NOBITS, SHT_DYNSYM = 3, 4, 8, 11
SHT_GNU_VERNEED, SHT_GNU_VERSYM = 0x6FFFFFFE, 0x6FFFFFFF
SHF_EXECINSTR = 0x4
PT_LOAD, PT_DYNAMIC = 1, 2
PF_X = 0x1
MAX_HEADERS = 4096  # sections and segments; a cubin with many kernels has a few hundred
MAX_NAME = 1 << 16  # bytes of a symbol's or a section's name; mangled names reach some thousands

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QQq")
# What reading bytes that are no whole file raises.
UNREADABLE = (struct.error, IndexError, ValueError, KeyError, TypeError, OverflowError)


class NotElf(ValueError):
    """The bytes are no whole 64-bit little-endian ELF file with section headers."""


@dataclass(frozen=True, slots=True)
class SectionHeader:
    """A section: `link` and `info` are what the header of its type says."""

    name: str
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """A segment: `size` is its size in the file."""

    type: int
    flags: int
    offset: int
    address: int
    size: int


@dataclass(frozen=True, slots=True)
class Symbol:
    """A row of a symbol table. `bind` is STB_…, `section` 0 where the symbol is undefined."""

    name: str
    bind: int
    other: int
    section: int


class Relocation(NamedTuple):
    """A place that the loader fills. `kind` is the processor's R_..., `symbol` a row of the linked symbol table."""

    offset: int
    kind: int
    symbol: int
    addend: int


class ElfFile:
    """The headers of `data`. Raises NotElf for anything but a whole 64-bit little-endian file."""

    def __init__(self, data: bytes | mmap.mmap) -> None:
        self.data = data
        try:
            self._read()
        except UNREADABLE as error:
            raise NotElf(f"not a whole ELF file ({error or type(error).__name__})") from error

    def _read(self) -> None:
        if self.data[:4] != b"\x7fELF":
            raise NotElf("no ELF file")
        if self.data[4:6] != b"\x02\x01":
            raise NotElf("not a 64-bit little-endian ELF file")
        _, _, self.machine, _, _, phoff, shoff, _, ehsize, phentsize, phnum, shentsize, shnum, shstrndx = (
            _HEADER.unpack_from(self.data)
        )
        if not shnum or not shoff:
            raise NotElf("an ELF file without section headers, whose code cannot be told from its data")
        if max(shnum, phnum) > MAX_HEADERS:
            raise NotElf(f"an ELF file with {shnum} sections and {phnum} segments")
        if shentsize != _SECTION.size or (phnum and phentsize != _SEGMENT.size):
            raise NotElf("an ELF file whose headers have another size")
        self.header_size = ehsize + phnum * phentsize
        rows = [_SECTION.unpack_from(self.data, shoff + i * shentsize) for i in range(shnum)]
        _, kind, _, _, names, size, *_ = rows[shstrndx]
        if kind != SHT_STRTAB:
            raise NotElf("an ELF file without the names of its sections")
        table = self._slice(names, size)
        self.sections = tuple(
            SectionHeader(_text(table, name), kind, flags, address, offset, size, link, info)
            for name, kind, flags, address, offset, size, link, info, _, _ in rows
        )
        self.segments = tuple(
            SegmentHeader(kind, flags, offset, address, size)
            for kind, flags, offset, address, _, size, _, _ in (
                _SEGMENT.unpack_from(self.data, phoff + i * phentsize) for i in range(phnum)
            )
        )

    def section(self, name: str) -> SectionHeader | None:
        """The first section of that name."""
        return next((section for section in self.sections if section.name == name), None)

    @property
    def code_sections(self) -> list[SectionHeader]:
        """The sections of machine code that the file fills."""
        return [s for s in self.sections if s.flags & SHF_EXECINSTR and s.type != SHT_NOBITS and s.size]

    def address_of(self, offset: int) -> int | None:
        """The virtual address at which the byte at `offset` of the file is loaded; None for one that is not."""
        for segment in self.segments:
            if segment.type == PT_LOAD and segment.offset <= offset < segment.offset + segment.size:
                return segment.address + offset - segment.offset
        return None

    def offset_of(self, address: int) -> int | None:
        """Where in the file the byte is that is loaded at `address`; None where the file does not fill it."""
        for segment in self.segments:
            if segment.type == PT_LOAD and segment.address <= address < segment.address + segment.size:
                return segment.offset + address - segment.address
        return None

    def relocations(self, table: SectionHeader) -> Iterator[Relocation]:
        """The rows of a section of type SHT_RELA. Raises NotElf where they are not all in the file."""
        data = self.contents(table)
        for offset, info, addend in _RELOCATION.iter_unpack(data[: len(data) // _RELOCATION.size * _RELOCATION.size]):
            yield Relocation(offset, info & 0xFFFFFFFF, info >> 32, addend)

    def contents(self, header: SectionHeader | SegmentHeader) -> bytes:
        """The bytes that a header points to. Raises NotElf where they are not all in the file."""
        if isinstance(header, SectionHeader) and header.type == SHT_NOBITS:
            return b""
        return self._slice(header.offset, header.size)

    def symbols(self, table: SectionHeader) -> Iterator[Symbol]:
        """The rows of a symbol table after the first, which is empty. Raises NotElf for a damaged table."""
        try:
            names = self.contents(self.sections[table.link])
            for offset, info, other, section, _, _ in _SYMBOL.iter_unpack(self.contents(table)):
                yield Symbol(_text(names, offset), info >> 4, other, section)
        except UNREADABLE as error:
            raise NotElf(f"not a whole ELF file ({error or type(error).__name__})") from error

    def _slice(self, offset: int, size: int) -> bytes:
        if offset + size > len(self.data):
            raise NotElf(f"a header points to {offset + size:#x}, past the end of the file")
        return bytes(self.data[offset : offset + size])


def _text(table: bytes, offset: int) -> str:
    """The string at `offset`, which must end within MAX_NAME bytes."""
    end = table.find(b"\0", offset, offset + MAX_NAME)
    if end < 0:
        raise NotElf("a name without an end")
    return table[offset:end].decode()


def text_at(table: bytes, offset: int) -> str:
    """The string at `offset` of a string table. Raises NotElf where there is none."""
    try:
        return _text(table, offset)
    except UnicodeDecodeError as error:
        raise NotElf("a name that is no text") from error

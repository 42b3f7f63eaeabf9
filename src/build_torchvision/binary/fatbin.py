"""GPU code inside ELF files, read from the files alone: fat binaries, the cubins and PTX in them, their kernels.

A fat binary (magic 0xba55ed50) is a header and a row of images, each with its kind, SM and size; images may be
compressed with LZ4 (flag 0x2000) or Zstandard (0x8000). The layout is checked against cuobjdump in the tests.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import lz4.block

from build_torchvision.binary import zstd
from build_torchvision.binary.elf_file import UNREADABLE, ElfFile, NotElf

MAGIC = b"\x50\xed\x55\xba\x01\x00\x10\x00"  # magic, version 1, header of 16 bytes
SECTION = ".nv_fatbin"
MAX_IMAGE, MAX_UNPACKED = 64 << 20, 128 << 20  # bytes; TorchVision's whole device code for one SM has one or two MiB
_HEADER, _IMAGE = struct.Struct("<IHHQ"), struct.Struct("<HHIQ")
_KINDS: dict[int, Literal["ptx", "cubin"]] = {1: "ptx", 2: "cubin"}
_LZ4, _ZSTD = 0x2000, 0x8000
_SUFFIXES = {0x100000: "a", 0x200000: "f"}  # code for that very architecture, or for its family, alone
_STO_CUDA_ENTRY = 0x10
_FRAME_SIZE, _REGISTERS = 0x11, 0x2F  # EIATTR_FRAME_SIZE and EIATTR_REGCOUNT in .nv.info: (symbol, number)


class BadFatbin(ValueError):
    """Bytes in .nv_fatbin that are no whole fat binary."""


@dataclass(frozen=True, kw_only=True)
class Image:
    """One image of a fat binary. `sm` is "sm90", or as ptxas calls them "sm90a" and "sm100f".

    `data` is the cubin or the PTX text, None if not asked for.
    """

    kind: Literal["ptx", "cubin"]
    sm: str
    data: bytes | None


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A kernel of a cubin: bytes of code, registers a thread, bytes of stack a thread (spills live there)."""

    name: str
    code: int
    registers: int
    stack: int


def images(data: bytes | mmap.mmap, *, contents: bool = True) -> Iterator[list[Image]]:
    """The images of each fat binary in an ELF file's .nv_fatbin section. Raises BadFatbin for what is not whole."""
    try:
        section = ElfFile(data).section(SECTION)
    except NotElf as error:
        raise BadFatbin(str(error)) from error
    if section is None:
        return
    position, end = section.offset, min(section.offset + section.size, len(data))
    left = MAX_UNPACKED
    while (position := data.find(MAGIC, position, end)) >= 0:
        _, _, header, size = _HEADER.unpack_from(data, position)
        if position + header + size > end:
            raise BadFatbin(f"a fat binary at {position:#x} runs past its section")
        group = list(_images(data, position + header, position + header + size, contents))
        left -= sum(len(image.data or b"") for image in group)
        if left < 0:
            raise BadFatbin(f"its device code unpacks to more than {MAX_UNPACKED >> 20} MiB")
        yield group
        position += header + size


def _images(data: bytes | mmap.mmap, position: int, end: int, contents: bool) -> Iterator[Image]:
    while position < end:
        if position + 64 > end:
            raise BadFatbin(f"an image at {position:#x} is cut")
        kind, _, header, size = _IMAGE.unpack_from(data, position)
        if kind not in _KINDS or header < 64 or position + header + size > end:
            raise BadFatbin(f"an image at {position:#x} has kind {kind}, header {header} and size {size}")
        (compressed,) = struct.unpack_from("<I", data, position + 16)
        (sm,) = struct.unpack_from("<I", data, position + 28)
        flags, whole = struct.unpack_from("<Q8xQ", data, position + 40)
        body = data[position + header : position + header + size] if contents else None
        if body is not None and flags & (_LZ4 | _ZSTD):
            body = _unpacked(body[:compressed], whole, lz4_form=bool(flags & _LZ4))
        suffix = next((text for flag, text in _SUFFIXES.items() if flags & flag), "")
        yield Image(kind=_KINDS[kind], sm=f"sm{sm}{suffix}", data=body)
        position += header + size


def _unpacked(body: bytes, whole: int, *, lz4_form: bool) -> bytes:
    """An image as it was before it was compressed to `body`; `whole` is its size as the header says."""
    if whole > MAX_IMAGE:
        raise BadFatbin(f"an image that unpacks to {whole >> 20} MiB")
    try:
        if lz4_form:
            return bytes(lz4.block.decompress(body, uncompressed_size=whole))
        return zstd.decompress(body, whole)
    except (lz4.block.LZ4BlockError, ValueError, MemoryError) as error:
        raise BadFatbin(f"an image that cannot be unpacked ({error})") from error


def architectures(library: Path) -> tuple[frozenset[str], frozenset[str]]:
    """(SMs with cubins, SMs with PTX) in a shared library of any size, without running it.

    Code for one architecture alone ("sm90a") is left out: a library has it for single kernels, beside the others.
    """
    with library.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        every = [image for group in images(data, contents=False) for image in group]
    found = [image for image in every if image.sm[-1].isdigit()]
    return (
        frozenset(image.sm for image in found if image.kind == "cubin"),
        frozenset(image.sm for image in found if image.kind == "ptx"),
    )


def kernels(image: Image) -> tuple[Kernel, ...]:
    """The kernels of an image; of PTX only the names are known, the rest is 0. Raises BadFatbin."""
    assert image.data is not None
    if image.kind == "ptx":
        names = re.findall(rb"\.entry\s+([\w$]+)", image.data)
        return tuple(Kernel(name=name.decode(), code=0, registers=0, stack=0) for name in sorted(names))
    try:
        file = ElfFile(image.data)
        entries = _entries(file)
        stacks, registers = _attributes(file, _FRAME_SIZE), _attributes(file, _REGISTERS)
        found = []
        for section in file.sections:
            if section.name.startswith(".text."):
                name = section.name.removeprefix(".text.")
                if entries is not None and name not in entries:
                    continue  # a device function that was not inlined
                # ptxas before 13.0 wrote the registers into the top byte of sh_info, later ones into .nv.info alone.
                count = registers.get(name, section.info >> 24)
                found.append(Kernel(name=name, code=section.size, registers=count, stack=stacks.get(name, 0)))
        return tuple(found)
    except UNREADABLE as error:
        raise BadFatbin(f"a cubin that cannot be read ({error or type(error).__name__})") from error


def _entries(file: ElfFile) -> frozenset[str] | None:
    """The symbols that are kernels (STO_CUDA_ENTRY in st_other); None without a symbol table."""
    table = file.section(".symtab")
    if table is None:
        return None
    return frozenset(symbol.name for symbol in file.symbols(table) if symbol.other & _STO_CUDA_ENTRY)


def _attributes(file: ElfFile, wanted: int) -> dict[str, int]:
    """Symbol -> number, of every .nv.info entry of the kind `wanted`."""
    info, table = file.section(".nv.info"), file.section(".symtab")
    names = [symbol.name for symbol in file.symbols(table)] if table is not None else []
    found: dict[str, int] = {}
    data, position = (file.contents(info) if info is not None else b""), 0
    while position + 4 <= len(data):
        form, attribute, size = struct.unpack_from("<BBH", data, position)
        if form == 4:
            if attribute == wanted and names:
                symbol, number = struct.unpack_from("<II", data, position + 4)
                found[names[symbol]] = number
            position += 4 + size
        else:
            position += 4
    return found

"""Read what an audit asks of an ELF shared object. Symbol tables are read in bulk: libtorch_cpu.so has 200 000."""

from __future__ import annotations

import hashlib
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from build_torchvision.binary.elf_file import (
    EM_AARCH64,
    EM_X86_64,
    PF_X,
    PT_DYNAMIC,
    PT_LOAD,
    SHT_DYNSYM,
    SHT_GNU_VERNEED,
    SHT_GNU_VERSYM,
    UNREADABLE,
    ElfFile,
    NotElf,
    text_at,
)

__all__ = [
    "UNREADABLE",
    "Elf",
    "ElfHeader",
    "NotElf",
    "Section",
    "Undefined",
    "defined_symbols",
    "elf_of",
    "forget_elves",
    "read_elf",
    "read_header",
]

MAX_CODE = 32 << 20  # bytes of machine code; TorchVision's modules have one or two MiB
MAX_ENTRIES = 4096  # dynamic tags, and versions of other libraries' symbols
_GLOBAL, _WEAK, _UNIQUE = 1, 2, 10
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_SONAME, _DT_RPATH, _DT_RUNPATH = 0, 1, 5, 14, 15, 29
_VERNEED, _VERNAUX = struct.Struct("<HHIII"), struct.Struct("<IHHII")
_MACHINES = {EM_X86_64: "x86_64", EM_AARCH64: "aarch64", 21: "ppc64le", 243: "riscv64", 258: "loongarch64"}
"""e_machine -> the platform as `uname -m` names it (System V ABI supplements)."""


@dataclass(frozen=True, kw_only=True)
class Undefined:
    """A symbol that another library must bring, with the `library` and `version` it must come from, if it says so."""

    name: str
    weak: bool
    library: str | None
    version: str | None


@dataclass(frozen=True, kw_only=True)
class Section:
    """Code: the section's name, address and bytes."""

    name: str
    address: int
    data: bytes


@dataclass(frozen=True, kw_only=True)
class Elf:
    """A shared object, read."""

    machine: str
    soname: str | None
    needed: tuple[str, ...]
    run_paths: tuple[tuple[str, str], ...]
    """("RPATH" or "RUNPATH", the text, paths separated by colons)."""
    code: tuple[Section, ...]
    code_outside_sections: int
    """Bytes mapped executable that belong to no executable section: nobody would look at them."""
    undefined: tuple[Undefined, ...]
    defined: frozenset[str]
    versions: tuple[tuple[str, str], ...]
    """(library, symbol version) pairs that the loader will insist on."""


_known: dict[str, Elf | NotElf] = {}


@dataclass(frozen=True, kw_only=True)
class ElfHeader:
    """What a shared object asks of the loader, without its symbols and its code."""

    machine: str
    needed: tuple[str, ...]
    run_paths: tuple[str, ...]
    versions: tuple[tuple[str, str], ...]
    """(library, symbol version) pairs that the loader will insist on."""


def read_header(path: Path) -> ElfHeader:
    """The header of the library at `path`, of any size: it is mapped, and little of it is read. Raises NotElf."""
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            file = ElfFile(data)
            tags = list(_dynamic(file))
            return ElfHeader(
                machine=_machine(file),
                needed=tuple(text for tag, text in tags if tag == _DT_NEEDED),
                run_paths=tuple(text for tag, text in tags if tag in (_DT_RPATH, _DT_RUNPATH)),
                versions=tuple(_versions(file)[1]),
            )
    except UNREADABLE as error:
        if isinstance(error, NotElf):
            raise
        raise NotElf(f"not a whole ELF file ({error or type(error).__name__})") from error


def _machine(file: ElfFile) -> str:
    return _MACHINES.get(file.machine, f"machine {file.machine}")


def read_elf(data: bytes) -> Elf:
    """Raises NotElf for anything but a whole 64-bit ELF file."""
    try:
        return _read(ElfFile(data))
    except UNREADABLE as error:
        if isinstance(error, NotElf):
            raise
        raise NotElf(f"not a whole ELF file ({error or type(error).__name__})") from error


def elf_of(data: bytes) -> Elf:
    """`read_elf`, remembered by the SHA-256 of `data`: several rooms ask about the same modules. Raises NotElf."""
    key = hashlib.sha256(data).hexdigest()
    if key not in _known:
        try:
            _known[key] = read_elf(data)
        except NotElf as error:
            _known[key] = error
    result = _known[key]
    if isinstance(result, NotElf):
        raise result
    return result


def forget_elves() -> None:
    """Drop what `elf_of` remembers."""
    _known.clear()


def defined_symbols(path: Path) -> frozenset[str]:
    """The names that the library at `path` brings; of a large file only its symbol table is read. Raises NotElf.

    It is read once per command: every wheel is resolved against the same torch.
    """
    status = path.stat()
    return _defined_symbols(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=64)
def _defined_symbols(path: Path, changed: int, size: int) -> frozenset[str]:
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return frozenset(_symbols(ElfFile(data), {})[1])
    except UNREADABLE as error:
        raise NotElf(f"{path.name} is not a whole ELF file ({error or type(error).__name__})") from error


def _read(file: ElfFile) -> Elf:
    needed: list[str] = []
    run_paths: list[tuple[str, str]] = []
    soname: str | None = None
    for tag, text in _dynamic(file):
        if tag == _DT_NEEDED:
            needed.append(text)
        elif tag == _DT_SONAME:
            soname = text
        else:
            run_paths.append(("RPATH" if tag == _DT_RPATH else "RUNPATH", text))
    by_index, versions = _versions(file)
    undefined, defined = _symbols(file, by_index)
    code = tuple(_code(file))
    return Elf(
        machine=_machine(file),
        soname=soname,
        needed=tuple(needed),
        run_paths=tuple(run_paths),
        code=code,
        code_outside_sections=_loose_code(file),
        undefined=tuple(undefined),
        defined=frozenset(defined),
        versions=tuple(versions),
    )


def _dynamic(file: ElfFile) -> Iterator[tuple[int, str]]:
    """The entries of the dynamic segment whose value is a string."""
    segment = next((segment for segment in file.segments if segment.type == PT_DYNAMIC), None)
    if segment is None:
        return
    data = file.contents(segment)
    entries: list[tuple[int, int]] = []
    for tag, value in struct.iter_unpack("<qQ", data[: len(data) // 16 * 16]):
        if tag == _DT_NULL or len(entries) == MAX_ENTRIES:
            break
        entries.append((tag, value))
    strings = _strings(file, dict(entries).get(_DT_STRTAB))
    for tag, value in entries:
        if tag in (_DT_NEEDED, _DT_SONAME, _DT_RPATH, _DT_RUNPATH):
            yield tag, text_at(strings, value)


def _strings(file: ElfFile, address: int | None) -> bytes:
    """The string table of the dynamic segment: by the address that it names, else that of the dynamic symbols."""
    if address is not None:
        for section in file.sections:
            if section.address == address and section.size:
                return file.contents(section)
    table = next((section for section in file.sections if section.type == SHT_DYNSYM), None)
    return file.contents(file.sections[table.link]) if table else b""


def _code(file: ElfFile) -> Iterator[Section]:
    sections = file.code_sections
    total = sum(section.size for section in sections)
    if total > MAX_CODE:
        raise NotElf(f"an ELF file with {total >> 20} MiB of machine code, more than {MAX_CODE >> 20}")
    for section in sections:
        yield Section(name=section.name, address=section.address, data=file.contents(section))


def _loose_code(file: ElfFile) -> int:
    """Bytes of executable segments outside the sections that are not padding (0x00, 0x90, 0xcc)."""
    loose = 0
    segments = [segment for segment in file.segments if segment.type == PT_LOAD and segment.flags & PF_X]
    if sum(segment.size for segment in segments) > 4 * MAX_CODE:
        raise NotElf("an ELF file that maps more as code than it can hold")
    for segment in segments:
        rest = bytearray(file.contents(segment))
        start = segment.address
        covered = [(section.address, section.size) for section in file.sections if section.address]
        covered.append((start, 0 if segment.offset else file.header_size))
        for address, size in covered:
            low, high = max(address - start, 0), min(address - start + size, len(rest))
            if low < high:
                rest[low:high] = bytes(high - low)
        loose += len(rest.translate(None, b"\x00\x90\xcc"))
    return loose


def _versions(file: ElfFile) -> tuple[dict[int, tuple[str, str]], list[tuple[str, str]]]:
    """(version index -> (library, version), all pairs), of the versions that other libraries must bring."""
    by_index: dict[int, tuple[str, str]] = {}
    for section in file.sections:
        if section.type != SHT_GNU_VERNEED:
            continue
        data, strings, at = file.contents(section), file.contents(file.sections[section.link]), 0
        for _ in range(MAX_ENTRIES):
            _, count, library, first, following = _VERNEED.unpack_from(data, at)
            place = at + first
            for _ in range(min(count, MAX_ENTRIES)):
                _, _, index, version, step = _VERNAUX.unpack_from(data, place)
                by_index[index & 0x7FFF] = (text_at(strings, library), text_at(strings, version))
                if not step:
                    break
                place += step
            if not following:
                break
            at += following
    return by_index, sorted(set(by_index.values()))


def _symbols(file: ElfFile, by_index: dict[int, tuple[str, str]]) -> tuple[list[Undefined], set[str]]:
    sections = {section.type: section for section in file.sections}
    table = sections.get(SHT_DYNSYM)
    if table is None:
        raise NotElf("an ELF file without a dynamic symbol table")
    versym = sections.get(SHT_GNU_VERSYM)
    data = file.contents(versym) if versym is not None else b""
    indices = struct.unpack(f"<{len(data) // 2}H", data[: len(data) // 2 * 2])
    undefined: list[Undefined] = []
    defined: set[str] = set()
    for position, symbol in enumerate(file.symbols(table)):
        if not symbol.name or symbol.bind not in (_GLOBAL, _WEAK, _UNIQUE):
            continue
        if symbol.section:
            defined.add(symbol.name)
            continue
        library, version = by_index.get(indices[position] & 0x7FFF, (None, None)) if indices else (None, None)
        undefined.append(Undefined(name=symbol.name, weak=symbol.bind == _WEAK, library=library, version=version))
    return undefined, defined

"""What a proof asks of an ELF shared object. Symbol tables are read in bulk: libtorch_cpu.so holds 200 000 symbols."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

SHF_EXECINSTR = 0x4
PF_X = 0x1
_SYMBOL = struct.Struct("<IBBHQQ")  # Elf64_Sym: name, info, other, shndx, value, size
_GLOBAL, _WEAK, _UNIQUE = 1, 2, 10
# What pyelftools raises for bytes that are no whole ELF file.
UNREADABLE = (ELFError, struct.error, IndexError, UnicodeDecodeError, AssertionError, KeyError, TypeError)
_MACHINES = {"EM_X86_64": "x86_64", "EM_AARCH64": "aarch64"}


class NotElf(ValueError):
    """The bytes are no whole 64-bit little-endian ELF file with section headers."""


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


def read_elf(data: bytes) -> Elf:
    """Raises NotElf for anything but a whole 64-bit ELF file."""
    try:
        return _read(data)
    except UNREADABLE as error:
        raise NotElf(f"not a whole ELF file ({error or type(error).__name__})") from error


def defined_symbols(path: Path) -> frozenset[str]:
    """The names that the library at `path` brings; of a large file only its symbol table is read. Raises NotElf."""
    try:
        with path.open("rb") as stream:
            return frozenset(_symbols(ELFFile(stream), {})[1])
    except UNREADABLE as error:
        raise NotElf(f"{path.name} is not a whole ELF file ({error or type(error).__name__})") from error


def _read(data: bytes) -> Elf:
    file = ELFFile(io.BytesIO(data))
    if file.elfclass != 64 or not file.little_endian:
        raise NotElf("not a 64-bit little-endian ELF file")
    if not file.num_sections():
        raise NotElf("an ELF file without section headers, whose code cannot be told from its data")
    needed: list[str] = []
    run_paths: list[tuple[str, str]] = []
    soname: str | None = None
    dynamic = next((s for s in file.iter_segments() if s["p_type"] == "PT_DYNAMIC"), None)
    for tag in dynamic.iter_tags() if dynamic is not None else ():
        if tag.entry.d_tag == "DT_NEEDED":
            needed.append(tag.needed)
        elif tag.entry.d_tag == "DT_SONAME":
            soname = tag.soname
        elif tag.entry.d_tag in ("DT_RPATH", "DT_RUNPATH"):
            run_paths.append((tag.entry.d_tag[3:], tag.rpath if tag.entry.d_tag == "DT_RPATH" else tag.runpath))
    by_index, versions = _versions(file)
    undefined, defined = _symbols(file, by_index)
    code = tuple(_code(file))
    return Elf(
        machine=_MACHINES.get(file["e_machine"], str(file["e_machine"])),
        soname=soname,
        needed=tuple(needed),
        run_paths=tuple(run_paths),
        code=code,
        code_outside_sections=_loose_code(file, code),
        undefined=tuple(undefined),
        defined=frozenset(defined),
        versions=tuple(versions),
    )


def _code(file: Any) -> Iterator[Section]:
    for section in file.iter_sections():
        if section["sh_flags"] & SHF_EXECINSTR and section["sh_type"] != "SHT_NOBITS" and section["sh_size"]:
            yield Section(name=section.name, address=section["sh_addr"], data=section.data())


def _loose_code(file: Any, code: tuple[Section, ...]) -> int:
    """Bytes of executable segments outside the executable sections that are not padding (0x00, 0x90, 0xcc)."""
    loose = 0
    for segment in file.iter_segments():
        if segment["p_type"] != "PT_LOAD" or not segment["p_flags"] & PF_X:
            continue
        rest = bytearray(segment.data())
        start = segment["p_vaddr"]
        covered = [(section["sh_addr"], section["sh_size"]) for section in file.iter_sections() if section["sh_addr"]]
        covered.append((start, 0 if segment["p_offset"] else file["e_ehsize"] + file["e_phnum"] * file["e_phentsize"]))
        for address, size in covered:
            low, high = max(address - start, 0), min(address - start + size, len(rest))
            if low < high:
                rest[low:high] = bytes(high - low)
        loose += len(rest.translate(None, b"\x00\x90\xcc"))
    return loose


def _versions(file: Any) -> tuple[dict[int, tuple[str, str]], list[tuple[str, str]]]:
    by_index: dict[int, tuple[str, str]] = {}
    for section in file.iter_sections():
        if section["sh_type"] == "SHT_GNU_verneed":
            for need, auxiliaries in section.iter_versions():
                for auxiliary in auxiliaries:
                    by_index[auxiliary["vna_other"] & 0x7FFF] = (need.name, auxiliary.name)
    return by_index, sorted(set(by_index.values()))


def _symbols(file: Any, by_index: dict[int, tuple[str, str]]) -> tuple[list[Undefined], set[str]]:
    sections = {section["sh_type"]: section for section in file.iter_sections()}
    table = sections.get("SHT_DYNSYM")
    if table is None:
        raise NotElf("an ELF file without a dynamic symbol table")
    names: bytes = file.get_section(table["sh_link"]).data()
    versym = sections.get("SHT_GNU_versym")
    indices = struct.unpack(f"<{table['sh_size'] // _SYMBOL.size}H", versym.data()) if versym is not None else None
    undefined: list[Undefined] = []
    defined: set[str] = set()
    for position, (offset, info, _, shndx, _, _) in enumerate(_SYMBOL.iter_unpack(table.data())):
        bind = info >> 4
        if not offset or bind not in (_GLOBAL, _WEAK, _UNIQUE):
            continue
        name = names[offset : names.index(b"\0", offset)].decode()
        if shndx:
            defined.add(name)
            continue
        library, version = by_index.get(indices[position] & 0x7FFF, (None, None)) if indices else (None, None)
        undefined.append(Undefined(name=name, weak=bind == _WEAK, library=library, version=version))
    return undefined, defined

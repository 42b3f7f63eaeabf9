"""Small, whole ELF shared objects made from bytes, so that a fault can be planted without a compiler."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

DT_NEEDED, DT_SONAME, DT_RPATH, DT_RUNPATH = 1, 14, 15, 29
SHT_PROGBITS, SHT_STRTAB, SHT_DYNAMIC, SHT_DYNSYM, SHT_VERNEED, SHT_VERSYM = 1, 3, 6, 11, 0x6FFFFFFE, 0x6FFFFFFF
SHT_RELA, JUMP_SLOT = 4, 7
ALLOC, EXEC = 2, 4
REGISTER = "__cudaRegisterFunction"
CODE = 0x1000  # where .text begins, in the file and in memory
CALL = 12  # bytes of one call with its argument


@dataclass(kw_only=True)
class Object:
    """What goes into the file. `undefined` symbols may carry (library, version)."""

    code: bytes = b"\xc3"
    rodata: bytes = b""
    needed: Sequence[str] = ()
    soname: str | None = None
    rpath: str | None = None
    runpath: str | None = None
    undefined: dict[str, tuple[str, str] | None] = field(default_factory=dict)
    defined: Sequence[str] = ()
    machine: int = 62  # EM_X86_64
    hidden_code: bytes = b""  # mapped executable, in no section
    fatbin: bytes = b""  # GPU code
    registers: Sequence[str] = ()  # kernels that host code registers, as x86-64 compilers write the calls
    unreadable_registrations: int = 0  # such calls whose name is computed

    def build(self) -> bytes:
        names = bytearray(b"\0")
        calls = len(self.registers) + self.unreadable_registrations
        if calls:
            self.undefined.setdefault(REGISTER, None)

        def name(text: str) -> int:
            names.extend(text.encode() + b"\0")
            return len(names) - len(text.encode()) - 1

        symbols, versym, verneed, index = bytes(24), struct.pack("<H", 0), b"", 2
        wanted = {pair: i for i, pair in enumerate(sorted({p for p in self.undefined.values() if p}), start=2)}
        for text, pair in self.undefined.items():
            symbols += struct.pack("<IBBHQQ", name(text), 1 << 4, 0, 0, 0, 0)
            versym += struct.pack("<H", wanted[pair] if pair else 1)
        for text in self.defined:
            symbols += struct.pack("<IBBHQQ", name(text), 1 << 4, 0, 1, 0x1000, 1)
            versym += struct.pack("<H", 1)
        for (library, version), index in wanted.items():
            last = index == len(wanted) + 1
            verneed += struct.pack("<HHIII", 1, 1, name(library), 16, 0 if last else 32)
            verneed += struct.pack("<IHHII", 0, 0, index, name(version), 0)
        tags = [(DT_NEEDED, name(library)) for library in self.needed]
        for tag, text in ((DT_SONAME, self.soname), (DT_RPATH, self.rpath), (DT_RUNPATH, self.runpath)):
            if text is not None:
                tags.append((tag, name(text)))
        dynamic = b"".join(struct.pack("<QQ", *tag) for tag in [*tags, (0, 0)])
        sections = [  # name, type, flags, bytes, link, info, entry size
            (".text", SHT_PROGBITS, ALLOC | EXEC, self.code + bytes(CALL * calls), 0, 0, 0),
            (".dynstr", SHT_STRTAB, ALLOC, bytes(names), 0, 0, 0),
            (".dynsym", SHT_DYNSYM, ALLOC, symbols, 2, 1, 24),
            (".dynamic", SHT_DYNAMIC, ALLOC, dynamic, 2, 0, 16),
            (".gnu.version", SHT_VERSYM, ALLOC, versym, 3, 0, 2),
            (".rodata", SHT_PROGBITS, ALLOC, self.rodata, 0, 0, 0),
        ]
        if calls:
            index = 1 + list(self.undefined).index(REGISTER)
            sections += [
                (".plt", SHT_PROGBITS, ALLOC | EXEC, b"\xff\x25" + bytes(4), 0, 0, 0),
                (".got.plt", SHT_PROGBITS, ALLOC, bytes(8), 0, 0, 8),
                (".rela.plt", SHT_RELA, ALLOC, struct.pack("<QQq", 0, index << 32 | JUMP_SLOT, 0), 3, 0, 24),
                (".names", SHT_PROGBITS, ALLOC, b"".join(text.encode() + b"\0" for text in self.registers), 0, 0, 0),
            ]
        if self.fatbin:
            sections.append((".nv_fatbin", SHT_PROGBITS, ALLOC, self.fatbin, 0, 0, 0))
        if wanted:
            sections.append((".gnu.version_r", SHT_VERNEED, ALLOC, verneed, 2, len(wanted), 0))
        return self._layout(sections)

    def _layout(self, sections: list[tuple[str, int, int, bytes, int, int, int]]) -> bytes:
        titles, body, headers = b"\0", bytearray(CODE), bytes(64)
        places: dict[str, tuple[int, int]] = {}
        for title, kind, flags, data, link, info, entry in sections:
            body.extend(bytes(-len(body) % 16))
            places[title] = (len(body), len(data))
            headers += struct.pack(
                "<IIQQQQIIQQ", len(titles), kind, flags, len(body), len(body), len(data), link, info, 16, entry
            )
            titles += title.encode() + b"\0"
            body.extend(data)
            if title == ".text":
                body.extend(self.hidden_code)
        if ".plt" in places:
            self._link_registrations(body, places)
        headers += struct.pack("<IIQQQQIIQQ", len(titles), SHT_STRTAB, 0, 0, len(body), len(titles) + 10, 0, 0, 1, 0)
        body.extend(titles + b".shstrtab\0")
        start, size = places[".text"]
        size += len(self.hidden_code)
        segments = struct.pack("<IIQQQQQQ", 1, 4, 0, 0, 0, len(body), len(body), 0x1000)
        segments += struct.pack("<IIQQQQQQ", 1, 5, start, start, start, size, size, 0x1000)
        start, size = places[".dynamic"]
        segments += struct.pack("<IIQQQQQQ", 2, 6, start, start, start, size, size, 8)
        header = b"\x7fELF\x02\x01\x01" + bytes(9)
        count = len(sections) + 2
        header += struct.pack(
            "<HHIQQQIHHHHHH", 3, self.machine, 1, 0, 64, len(body), 0, 64, 56, 3, 64, count, count - 1
        )
        body[: len(header + segments)] = header + segments
        return bytes(body) + headers

    def _link_registrations(self, body: bytearray, places: dict[str, tuple[int, int]]) -> None:
        """Fill in the addresses of the calls, the stub and the relocation: `lea rcx, [rip + name]; call stub`."""
        stub, slot = places[".plt"][0], places[".got.plt"][0]
        struct.pack_into("<i", body, stub + 2, slot - (stub + 6))
        struct.pack_into("<Q", body, places[".rela.plt"][0], slot)
        at, text = places[".text"][0] + len(self.code), places[".names"][0]
        for kernel in [*self.registers, *[None] * self.unreadable_registrations]:
            lea = b"\x48\x8d\x0d" if kernel is not None else b"\x48\x8b\x0d"  # mov rcx, [rip + name]
            body[at : at + CALL] = (
                lea + struct.pack("<i", text - (at + 7)) + b"\xe8" + struct.pack("<i", stub - (at + CALL))
            )
            at += CALL
            text += len(kernel) + 1 if kernel is not None else 0


def fatbin(*images: str) -> bytes:
    """A fat binary of empty images: "sm90" for a cubin, "sm90 PTX" for PTX (layout as in proof/fatbin.py)."""
    body = b""
    for image in images:
        sm, _, ptx = image.removeprefix("sm").partition(" ")
        head = struct.pack("<HHIQIII", 1 if ptx else 2, 0x101, 64, 8, 0, 0, 0) + struct.pack("<I", int(sm))
        body += head.ljust(64, b"\0") + bytes(8)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body

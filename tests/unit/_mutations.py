"""Damaged and hostile wheels, made from whole ones by a seeded generator, and what a command costs with each."""

from __future__ import annotations

import os
import resource
import signal
import struct
import sys
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from build_torchvision.errors import BuildTorchvisionError

Members = dict[str, bytes]
EXTREMES = (0, 1, 0x7F, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF, 1 << 40)
DEEP = 100_000


@dataclass(frozen=True)
class Cost:
    """How a command ended: its exit code, the traceback of an exception that nobody turned into an error, its cost."""

    code: int
    traceback: str
    seconds: float
    mebibytes: float


def mutants(bases: Sequence[Path], count: int, folder: Path, seed: int = 1) -> Iterator[tuple[str, Path]]:
    """(kind of damage, wheel) for `count` wheels made of `bases`, each kind in turn; a wheel keeps its file name.

    Each is in a folder of its own below `folder` and may be removed after use.
    """
    contents = {base: base.read_bytes() for base in bases}
    members = {base: read_members(base) for base in bases}
    kinds = [*WHOLE, *INSIDE]
    for number in range(count):
        random = Random(seed * 1_000_003 + number)
        base, kind = bases[number % len(bases)], kinds[number % len(kinds)]
        path = folder / f"{number}" / base.name
        path.parent.mkdir()
        if kind in WHOLE:
            path.write_bytes(WHOLE[kind](random, bytearray(contents[base])))
        else:
            damaged = dict(members[base])
            entries = INSIDE[kind](random, damaged) or [(zipfile.ZipInfo(name), data) for name, data in damaged.items()]
            write(path, entries)
        yield kind, path


def read_members(wheel: Path) -> Members:
    """The files of a whole wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path: Path, entries: Sequence[tuple[zipfile.ZipInfo, bytes]]) -> None:
    """A zip of `entries`, with right checksums."""
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")  # of names that are there twice
        for info, data in entries:
            archive.writestr(info, data, zipfile.ZIP_DEFLATED)


# --- the file as a whole ----------------------------------------------------------------------------------------------


def flip(random: Random, data: bytearray) -> bytes:
    """A few bytes become others."""
    for _ in range(random.randint(1, 24)):
        data[random.randrange(len(data))] ^= random.randint(1, 255)
    return bytes(data)


def cut(random: Random, data: bytearray) -> bytes:
    """The end is missing."""
    return bytes(data[: random.randrange(len(data))])


def overwrite(random: Random, data: bytearray) -> bytes:
    """A block is something else."""
    start = random.randrange(len(data))
    size = min(random.randint(1, 4096), len(data) - start)
    data[start : start + size] = random.choice([bytes(size), b"\xff" * size, random.randbytes(size)])
    return bytes(data)


def directory(random: Random, data: bytearray) -> bytes:
    """Numbers of the central directory: sizes, offsets, methods, flags."""
    places = [i for i in range(len(data) - 46) if data[i : i + 4] == b"PK\x01\x02"]
    place = random.choice(places)
    offset, size = random.choice([(8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (32, 2), (42, 4)])
    data[place + offset : place + offset + size] = (random.choice(EXTREMES) & ((1 << 8 * size) - 1)).to_bytes(
        size, "little"
    )
    return bytes(data)


def noise(random: Random, data: bytearray) -> bytes:
    """No zip at all."""
    return random.randbytes(random.randint(0, 5000))


WHOLE: dict[str, Callable[[Random, bytearray], bytes]] = {
    "flipped bytes": flip,
    "cut": cut,
    "an overwritten block": overwrite,
    "a damaged directory": directory,
    "noise": noise,
}


# --- its members ------------------------------------------------------------------------------------------------------

Entries = list[tuple[zipfile.ZipInfo, bytes]]


def a_member(random: Random, members: Mapping[str, bytes], *endings: str) -> str:
    return random.choice(sorted(name for name in members if name.endswith(endings or ("",)) and members[name]))


def elf_flip(random: Random, members: Members) -> None:
    name = a_member(random, members, ".so")
    members[name] = flip(random, bytearray(members[name]))


def elf_header(random: Random, members: Members) -> None:
    name = a_member(random, members, ".so")
    data = bytearray(members[name])
    for _ in range(random.randint(1, 6)):
        data[random.randrange(16, 64 + 3 * 56)] = random.choice([0, 1, 0x7F, 0xFF, random.randint(0, 255)])
    members[name] = bytes(data)


def elf_words(random: Random, members: Members) -> None:
    """Numbers of section headers, tables and data become extremes."""
    name = a_member(random, members, ".so")
    data = bytearray(members[name])
    headers = struct.unpack_from("<Q", data, 40)[0]
    for _ in range(random.randint(1, 8)):
        size = random.choice([4, 8])
        low = headers if random.random() < 0.6 and headers < len(data) - 64 else 0
        place = random.randrange(low, len(data) - 8) & ~3
        data[place : place + size] = (random.choice(EXTREMES) & ((1 << 8 * size) - 1)).to_bytes(size, "little")
    members[name] = bytes(data)


def elf_cut(random: Random, members: Members) -> None:
    name = a_member(random, members, ".so")
    members[name] = cut(random, bytearray(members[name]))


def elf_grown(random: Random, members: Members) -> None:
    """Code of many bytes that are no instructions."""
    name = a_member(random, members, ".so")
    data = bytearray(members[name])
    headers, count = struct.unpack_from("<Q", data, 40)[0], struct.unpack_from("<H", data, 60)[0]
    for i in range(count):
        (flags,) = struct.unpack_from("<Q", data, headers + 64 * i + 8)
        if flags & 4:
            struct.pack_into("<QQ", data, headers + 64 * i + 24, len(data), 1 << random.randint(12, 22))
            data += random.randbytes(1 << random.randint(12, 22))
            break
    members[name] = bytes(data)


def fat_binary(random: Random, members: Members) -> None:
    """Words of a fat binary, where there is one."""
    for name, content in members.items():
        start = content.find(b"\x50\xed\x55\xba")
        if start >= 0:
            data = bytearray(content)
            for _ in range(random.randint(1, 6)):
                size = random.choice([2, 4, 8])
                place = min(start + random.randrange(0, 600), len(data) - 8)
                data[place : place + size] = (random.choice(EXTREMES) & ((1 << 8 * size) - 1)).to_bytes(size, "little")
            members[name] = bytes(data)
            return
    elf_words(random, members)


def swapped(random: Random, members: Members) -> None:
    first, second = a_member(random, members), a_member(random, members)
    members[first], members[second] = members[second], members[first]


def emptied(random: Random, members: Members) -> None:
    members[a_member(random, members)] = b""


def lost(random: Random, members: Members) -> None:
    del members[a_member(random, members)]


def text_damage(random: Random, members: Members) -> None:
    name = a_member(random, members, "METADATA", "WHEEL", "RECORD", ".json")
    members[name] = flip(random, bytearray(members[name]))


def json_shapes(random: Random, members: Members) -> None:
    name = a_member(random, members, ".json")
    shapes = [
        b"[" * DEEP,
        b'{"a":' * DEEP,
        b'{"a":' * DEEP + b"1" + b"}" * DEEP,
        b"[" * DEEP + b"]" * DEEP,
        b"null",
        b"[]",
        b"1e999",
        b"9" * 5000,
        b'{"variant": 7, "checks": [7]}',
        b'{"variant": {}, "checks": {"name": 1}}',
        b'"\xff\xfe"',
        b"{",
        members[name].replace(b'"', b"", 3),
        members[name].replace(b"true", b'"yes"'),
        members[name].replace(b":", b": [", 1),
    ]
    members[name] = random.choice(shapes)


def record_shapes(random: Random, members: Members) -> None:
    name = a_member(random, members, "RECORD")
    shapes = [
        b'"' + members[name],
        members[name].replace(b",", b";"),
        members[name] + b"a,b,c,d,e\n" * 200,
        b"x" * 3_000_000,
        b"\0" * 1000,
        members[name].replace(b"sha256=", b"md5="),
        members[name].replace(b"sha256=", b"sha256"),
        b"\r".join(members[name].splitlines()),
        b"\xff\xfe\xfd\n" * 50,
        members[name] * 50,
    ]
    members[name] = random.choice(shapes)


def metadata_shapes(random: Random, members: Members) -> None:
    name = a_member(random, members, "METADATA", "WHEEL")
    shapes = [
        b"Requires-Dist: torch; " + b"(" * DEEP + b"\n",
        b"Requires-Dist: torch[" + b"a," * 20_000 + b"b]\n" + members[name],
        b"Tag: " + b"-".join([b".".join([b"cp%d" % i for i in range(400)])] * 3) + b"\n" + members[name],
        b"Tag: a\nTag: a-b-c-d\nTag:\n" + members[name],
        b"Version: " + b"1." * 20_000 + b"1\n" + members[name],
        b"Version: =?utf-8?b?/w==?=\n" + members[name],
        b"\xff\xfe" * 500,
        b": :\n" * 500,
        b"Requires-Dist: torch" + b"==2.6.0," * 5000 + b"==2.6.0\n" + members[name],
        members[name].replace(b"torch", b"torch @ file:///etc/passwd"),
    ]
    members[name] = random.choice(shapes)


def bomb(random: Random, members: Members) -> None:
    """Zeros that compress to a thousandth."""
    name = random.choice(
        ["torchvision/_C.so", "torchvision/zeros.bin", *(n for n in members if n.endswith("METADATA"))]
    )
    members[name] = members.get(name, b"")[: random.choice([0, 4096])] + bytes(random.choice([40, 120, 600]) << 20)


def paths(random: Random, members: Members) -> Entries:
    """Names that lead out of the wheel, twice the same name, links, and names that are none."""
    entries = [(zipfile.ZipInfo(name), data) for name, data in members.items()]
    names = [
        "../evil.py",
        "/tmp/evil.py",
        "torchvision/../../evil.py",
        "C:\\evil.py",
        "..\\evil.py",
        "a" * 5000,
        "\u202e.py",
    ]
    names += ["torchvision/_C.so", "torchvision/link.so", "", ".dist-info/x", "x.dist-info/METADATA", "//", "..", "con"]
    for name in random.sample(names, random.randint(1, 4)):
        info = zipfile.ZipInfo("placeholder")
        info.filename = name
        info.external_attr = random.choice([0o100644, 0o120777, 0o040755, 0o060644]) << 16
        entries.append((info, b"/etc/passwd" if info.external_attr >> 28 == 0o12 else b"import os"))
    return entries


def many(random: Random, members: Members) -> None:
    for number in range(random.choice([500, 3000, 25_000])):
        members[f"torchvision/{number}.py"] = b""


def many_modules(random: Random, members: Members) -> None:
    name = a_member(random, members, ".so")
    for number in range(random.randint(2, 30)):
        members[f"torchvision/m{number}.so"] = members[name]


INSIDE: dict[str, Callable[[Random, Members], Entries | None]] = {
    "a damaged ELF file": elf_flip,
    "a damaged ELF header": elf_header,
    "extremes in an ELF file": elf_words,
    "a cut ELF file": elf_cut,
    "code that is none": elf_grown,
    "a damaged fat binary": fat_binary,
    "swapped members": swapped,
    "an empty member": emptied,
    "a lost member": lost,
    "damaged text": text_damage,
    "JSON of another shape": json_shapes,
    "a RECORD of another shape": record_shapes,
    "METADATA of another shape": metadata_shapes,
    "paths": paths,
    "many members": many,
    "many modules": many_modules,
}
RARE: dict[str, Callable[[Random, Members], Entries | None]] = {"a bomb": bomb}
INSIDE |= RARE


def cost_of(call: Callable[[], int | None], limit: float = 30) -> Cost:
    """What `call` costs in a process of its own, killed after `limit` seconds of CPU time.

    An error of this program counts as handled; anything else that is raised comes back as a traceback.
    """
    read, write_end = os.pipe()
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(read)
        resource.setrlimit(resource.RLIMIT_CPU, (int(limit), int(limit) + 1))
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        code, text = 0, ""
        try:
            code = call() or 0
        except BuildTorchvisionError as error:
            code = error.exit_code
        except SystemExit as error:
            code = int(error.code or 0)
        except BaseException:
            code, text = 99, traceback.format_exc()
        os.write(write_end, text.encode(errors="replace")[-8000:])
        sys.stdout.flush()
        os._exit(code)
    os.close(write_end)
    text = b""
    while chunk := os.read(read, 65536):
        text += chunk
    os.close(read)
    _, status, usage = os.wait4(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        text += f"stopped by {signal.Signals(-code).name}".encode()
    seconds = min(usage.ru_utime + usage.ru_stime, time.monotonic() - start)
    return Cost(code, text.decode(errors="replace"), seconds, usage.ru_maxrss / 1024)

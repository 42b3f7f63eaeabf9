"""Our own files among the image libraries: compiled as a build compiles them, they do what they replace did."""

from __future__ import annotations

import ctypes
import platform
import random
import struct
import subprocess
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from build_torchvision.facts import isas
from build_torchvision.graph.codecs import OWN_SOURCES, source_path
from build_torchvision.inputs.codec_sources import fetch_codec_sources
from build_torchvision.inputs.compiler import find_compiler

pytestmark = [
    pytest.mark.compiler,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="our PNG filter and rows are for x86-64"),
]
HARNESS = Path(__file__).with_name("codec_paeth.c")


def differences(folder: Path, own: Path) -> int:
    """The rows that `own`, a png_paeth.c, undoes otherwise than the standard's text says."""
    zlib, png = fetch_codec_sources(frozenset({"png"}))
    folders = (own.parent, *png.include_dirs, *zlib.include_dirs)
    clang, built = find_compiler("clang", "x86_64"), folder / "paeth.so"
    command = [*clang.c_command, "-O2", "-fPIC", "-w", "-DPNG_INTEL_SSE_OPT=1", *isas()["avx2"].flags]
    command += [f"-I{path}" for path in folders]
    unused = [png.root / "intel" / "filter_sse2_intrinsics.c"]
    objects = []
    for source in (HARNESS, *unused):
        objects.append(folder / f"{source.stem}.o")
        subprocess.run([*command, "-c", source, "-o", objects[-1]], check=True)
    subprocess.run([*clang.command, "-shared", "-nostdlib", *objects, "-o", built], check=True)
    function = ctypes.CDLL(str(built)).paeth_differences
    function.restype = ctypes.c_long
    return int(function())


def test_our_paeth_filter_gives_the_standards_bytes_and_a_planted_fault_is_seen(tmp_path: Path) -> None:
    assert differences(tmp_path, OWN_SOURCES / "png_paeth.c") == 0
    text = (OWN_SOURCES / "png_paeth.c").read_text(encoding="utf-8")
    for number, (right, wrong) in enumerate(
        [
            ("more = _mm_add_epi16(ahead, one)", "more = ahead"),  # a tie that goes the other way
            ("if (last == corner)", "if (1)"),  # the row above, where it is not the predictor
            ("memcpy(row, rest, left)", "memcpy(row, rest, 16)"),  # past the row's end
        ]
    ):
        assert right in text
        planted = tmp_path / str(number) / "png_paeth.c"
        planted.parent.mkdir()
        planted.write_text(text.replace(right, wrong), encoding="utf-8")
        assert differences(planted.parent, planted) > 0


def png(width: int, height: int, depth: int, colour: int, *, interlaced: bool, seed: int) -> bytes:
    """A PNG file of random bytes, plain areas between them, each row with a filter of its own."""
    chance = random.Random(seed)
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    passes = [(0, 0, 1, 1)]
    if interlaced:
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    rows = bytearray()
    for left, top, across, down in passes:
        columns = -(-(width - left) // across)
        for _ in range(-(-(height - top) // down) if columns > 0 else 0):
            plain = chance.random() < 0.5
            length = (columns * bits + 7) // 8
            rows += bytes([chance.randrange(5)]) + (bytes(length) if plain else chance.randbytes(length))
    data = zlib.compress(bytes(rows), chance.choice([1, 6, 9]))
    cuts = sorted(chance.sample(range(1, len(data)), min(3, len(data) - 1)))
    parts = [data[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    chunks = [(b"IHDR", header), *([(b"PLTE", chance.randbytes(768))] if colour == 3 else [])]
    chunks += [*((b"IDAT", part) for part in parts), (b"IEND", b"")]
    body = (
        struct.pack(">I", len(one)) + name + one + struct.pack(">I", zlib.crc32(name + one)) for name, one in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def pictures(folder: Path) -> Iterator[Path]:
    """Files of every colour type and depth, small and larger than what is inflated at once, and damaged ones."""
    kinds = [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (3, 2), (3, 8), (4, 8), (4, 16), (6, 8), (6, 16)]
    chance = random.Random(1)
    for colour, depth in kinds:
        for number, (width, height) in enumerate([(1, 1), (5, 7), (131, 100), (700, 90), (40000, 3)]):
            for interlaced in (False, True) if number < 3 else (False,):
                data = png(width, height, depth, colour, interlaced=interlaced, seed=number)
                path = folder / f"{colour}-{depth}-{number}-{interlaced}{'-expand' * (number == 2)}.png"
                path.write_bytes(data)
                yield path
                for damage in range(3 if number in (2, 3) else 0):
                    broken = bytearray(data)
                    broken[chance.randrange(33, len(data))] ^= 1 << chance.randrange(8)
                    path = folder / f"{colour}-{depth}-{number}-{interlaced}-broken{damage}.png"
                    path.write_bytes(broken[: chance.randrange(33, len(data))] if damage == 2 else broken)
                    yield path


class Readers:
    """libpng and zlib-ng, compiled once in `folder`, to be linked with one or the other reader of rows."""

    def __init__(self, folder: Path) -> None:
        zlib_ng, self.libpng = fetch_codec_sources(frozenset({"png"}))
        clang, self.folder = find_compiler("clang", "x86_64"), folder
        self.link = (*clang.command, "-shared", "-nostdlib", "-Wl,-Bsymbolic")
        folders = (OWN_SOURCES, self.libpng.generated, self.libpng.root, *zlib_ng.include_dirs)
        self.compile = [
            *clang.c_command,
            "-O1",
            "-fPIC",
            "-w",
            *isas()["avx2"].flags,
            *(f"-I{path}" for path in folders),
        ]
        self.objects = [self.compiled(Path(__file__).with_name("codec_rows.c"))]
        for source in (self.libpng, zlib_ng):
            sets = source.library.sets("x86_64")
            defines = [f"-D{define}" for files in sets for define in files.defines]
            for path in (path for files in sets for path in (*files.sources, *files.together)):
                if path != "own/png_rows.c":
                    self.objects.append(self.compiled(source_path(source, path), *defines))

    def compiled(self, source: str | Path, *flags: str) -> Path:
        built = self.folder / f"{len(list(self.folder.glob('*.o')))}.o"
        subprocess.run([*self.compile, *flags, "-c", source, "-o", built], check=True)
        return built

    def read(self, rows: Path, files: Sequence[Path]) -> list[str]:
        """What is said of each of `files` where `rows` is compiled for libpng's pngread.c."""
        rows_object = self.compiled(rows)
        library = rows_object.with_suffix(".so")
        subprocess.run([*self.link, *self.objects, rows_object, "-o", library], check=True)
        function = ctypes.CDLL(str(library)).read_png
        function.restype = ctypes.c_char_p
        return [bytes(function(str(file).encode())).decode() for file in files]


def test_rows_inflated_ahead_are_libpngs_rows_and_end_in_its_errors(tmp_path: Path) -> None:
    readers, files = Readers(tmp_path), list(pictures(tmp_path))
    right = readers.read(readers.libpng.root / "pngread.c", files)
    assert sum("read: " in said for said in right) > 80
    assert sum("error: " in said for said in right) > 80
    assert readers.read(OWN_SOURCES / "png_rows.c", files) == right
    text = (OWN_SOURCES / "png_rows.c").read_text(encoding="utf-8")
    for number, (part, fault) in enumerate(
        [
            ("memcpy(pp->prev_row, at, bytes);", ";"),  # the last row of those inflated at once is forgotten
            ("rows = left;", "rows = left + 1;"),  # more is asked for than the image has
        ]
    ):
        assert part in text
        planted = tmp_path / f"planted{number}.c"
        planted.write_text(text.replace(part, fault), encoding="utf-8")
        assert readers.read(planted, files) != right

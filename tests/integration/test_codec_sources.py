"""Our own files among the image libraries: compiled as a build compiles them, they do what they replace did."""

from __future__ import annotations

import ctypes
import platform
import subprocess
from pathlib import Path

import pytest

from build_torchvision.facts import isas
from build_torchvision.graph.codecs import OWN_SOURCES
from build_torchvision.inputs.codec_sources import fetch_codec_sources
from build_torchvision.inputs.compiler import find_compiler

pytestmark = [
    pytest.mark.compiler,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="our Paeth filter is for x86-64"),
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

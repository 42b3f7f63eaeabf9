"""IR whose divisions became multiplications: compiled beside what it was, it gives the same integers, without idiv."""

from __future__ import annotations

import ctypes
import itertools
import random
import subprocess
import sys
from pathlib import Path

import pytest

from build_torchvision.execute import transform_ir
from build_torchvision.facts import isas, same_code
from build_torchvision.graph.cuda_clang import OPTIMISED_IR, UNOPTIMIZED_IR, generate, optimise
from build_torchvision.graph.tools import Tools, clang_tools
from build_torchvision.graph.tuning import WHOLE_REGISTERS
from build_torchvision.inputs.compiler import find_compiler
from build_torchvision.operators import FOLDER, KERNEL_FLAGS

SOURCE = """\
namespace vision::ops {
// (n, c, h, w) of each index, as the operators' backward passes find it.
extern "C++" __attribute__((noinline)) void
places(int first, int count, int width, int height, int channels, int* out) {
  for (int i = 0; i < count; i++) {
    int index = first + i;
    out[4 * i] = index / width / height / channels;
    out[4 * i + 1] = (index / width / height) % channels;
    out[4 * i + 2] = (index / width) % height;
    out[4 * i + 3] = index % width;
  }
}
}
extern "C" void run(int first, int count, int width, int height, int channels, int* out) {
  vision::ops::places(first, count, width, height, channels, out);
}
"""
SHAPES = [(7, 7, 256), (1, 1, 1), (2, 3, 5), (65_536, 3, 2), (2**31 - 1, 1, 1), (-7, 7, 3), (3, -5, -(2**31))]
FIRSTS = [0, 1, 48, 49, 2**31 - 40, -(2**31), -(2**31) + 1, -40, 7**9]
COUNT = 39


def test_places_are_the_same_and_nothing_is_divided(tmp_path: Path) -> None:
    source, parsed, rewritten = (tmp_path / name for name in ("places.cpp", "parsed.ll", "rewritten.ll"))
    source.write_text(SOURCE)
    clang = find_compiler("clang", "x86_64")
    subprocess.run([*clang.command, "-std=c++17", "-O3", "-fPIC", *UNOPTIMIZED_IR, source, "-o", parsed], check=True)
    script = [sys.executable, "-I", "-S", transform_ir.__file__]
    subprocess.run([*script, parsed, tmp_path / "as-it-was.ll"], check=True)
    subprocess.run([*script, "--multiply", parsed, rewritten], check=True)
    divisions, answers = [], []
    for text in (tmp_path / "as-it-was.ll", rewritten):
        code = [*clang.command, "-O3", "-fPIC", "-w", "-march=x86-64-v3", "-x", "ir", text]
        listing = subprocess.run([*code, "-S", "-o", "-"], check=True, capture_output=True, text=True).stdout
        divisions.append(listing.count("idivl"))
        subprocess.run([*code, "-shared", "-nostdlib", "-o", text.with_suffix(".so")], check=True)
        answers.append(_answers(ctypes.CDLL(str(text.with_suffix(".so"))).run))
    assert divisions[0] >= 3
    assert divisions[1] == 0
    assert answers[0] == answers[1]


@pytest.mark.parametrize("name", ["roi_pool.cpp", "box_iou_rotated.cpp"])
def test_isas_that_share_the_optimiser_get_the_objects_that_they_would_get_without(name: str, tmp_path: Path) -> None:
    clang, script = find_compiler("clang", "x86_64"), [sys.executable, "-I", "-S", transform_ir.__file__]
    tools = Tools("x86_64")
    for path, text in clang_tools(clang, tools).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
        (tmp_path / path).chmod(0o755)
    parse = [*clang.command, "-O3", "-fPIC", *KERNEL_FLAGS, *UNOPTIMIZED_IR, str(FOLDER / "kernels" / name)]
    subprocess.run([*parse, "-o", "parsed.ll"], check=True, cwd=tmp_path)
    subprocess.run([*script, "parsed.ll", "unit.ll"], check=True, cwd=tmp_path)
    first = isas()["avx512"].flags
    sharing = [isa for isa in isas().values() if isa.platform == "x86_64" and same_code(isa.name, "avx512")]
    assert len(sharing) == 3
    subprocess.run(
        optimise("unit.ll", "unit.bc", "", "x86_64", (*first, *WHOLE_REGISTERS)).command, check=True, cwd=tmp_path
    )
    for isa in sharing:
        flags = (*isa.flags, *WHOLE_REGISTERS)
        for action in (
            generate("unit.ll", "alone.o", "", "x86_64", flags),
            generate("unit.bc", "shared.o", "", "x86_64", (*flags, *OPTIMISED_IR)),
        ):
            subprocess.run(action.command, check=True, cwd=tmp_path)
        assert (tmp_path / "alone.o").read_bytes() == (tmp_path / "shared.o").read_bytes(), isa.name


def _answers(run: ctypes._NamedFuncPointer) -> list[list[int]]:
    drawn = random.Random(20)
    shapes = SHAPES + [tuple(drawn.randint(1, 3000) for _ in range(3)) for _ in range(200)]
    firsts = FIRSTS + [drawn.randint(-(2**31), 2**31 - 50) for _ in range(200)]
    found, out = [], (ctypes.c_int * (4 * COUNT))()
    for first, shape in itertools.product(firsts, shapes):
        if -(2**31) in range(first, first + COUNT) and -1 in shape:
            continue  # undefined in C++
        run(first, COUNT, *shape, out)
        found.append(list(out))
    return found

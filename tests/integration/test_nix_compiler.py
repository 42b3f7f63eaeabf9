"""What the variant's flags do to a real compiler, called through a wrapper that orders flags as nixpkgs' does."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from _nix import Nix
from uv import find_uv_bin

from build_torchvision.binary.elf import read_elf
from build_torchvision.binary.fatbin import images
from build_torchvision.binary.instructions import evidence, scan
from build_torchvision.errors import ProcessFailed
from build_torchvision.facts import isas
from build_torchvision.facts.cuda_wheels import cuda_wheels
from build_torchvision.process import run
from build_torchvision.variants import parse

pytestmark = pytest.mark.nix

FLAGS = "nix/flags.nix"
ENV = "{ env = (old.env or { }) // { NIX_CFLAGS_COMPILE_BEFORE = before; }; }"
LOOP = """void scale(float* to, const float* from, float by, long n) {
  for (long i = 0; i < n; ++i) to[i] += from[i] * by;
}
"""
COMPILE = """(pkgs.stdenv.mkDerivation {{
  name = "loop";
  loop = builtins.toFile "loop.c" {loop};
  buildCommand = ''
    eval "$preConfigure"
    mkdir $out
    cc -O3 -shared -fPIC -x c "$loop" -o $out/c.so
    c++ -O3 -shared -fPIC -x c++ "$loop" -o $out/cxx.so
  '';
}}).overrideAttrs (import (root + "/nix/flags.nix") (import (root + "/nix/variant.nix") {{ }} "{name}"))"""


@pytest.mark.usefixtures("terminals")
@pytest.mark.compiler
@pytest.mark.parametrize("isa", ["avx2", "avx512"])
def test_the_flags_reach_the_c_and_the_cxx_compiler_of_a_real_build(isa: str, nix: Nix, tmp_path: Path) -> None:
    """And in the faulty form of trap 1 they reach neither: nothing warns, only the instructions show it."""

    def used(tree: Nix) -> list[int]:
        code = COMPILE.format(loop=json.dumps(LOOP), name=f"torchvision-python313-cpu-{isa}")
        prefix = f"let root = {tree.tree}; pkgs = import {tree.nixpkgs} {{ }}; in "
        out = Path(tree.run("nix-build", "--no-out-link", "--expr", prefix + code).strip())
        scans = [scan(read_elf((out / name).read_bytes()).code) for name in ("c.so", "cxx.so")]
        return [found.shown[evidence(isa).kind] for found in scans]

    assert all(used(nix))
    copy = nix.copy(tmp_path / "tree")
    copy.plant(FLAGS, ENV, "{ env = (old.env or { }) // { CXXFLAGS = flags; }; }")
    assert used(copy) == [0, 0]


KERNEL = """__global__ void on_device(float* to, const float* from, float by, long n) {
  long i = blockIdx.x * (long)blockDim.x + threadIdx.x;
  if (i < n) to[i] += from[i] * by;
}
extern "C" void on_host(float* to, const float* from, float by, long n) {
  for (long i = 0; i < n; ++i) to[i] += from[i] * by;
  on_device<<<1, 1>>>(to, from, by, n);
}
"""
# As nixpkgs has it: nvcc is told of the wrapped compiler, and of nothing that is for it.
NVCC = """(pkgs.stdenv.mkDerivation {{
  name = "kernel";
  kernel = builtins.toFile "kernel.cu" {kernel};
  buildCommand = ''
    eval "$preConfigure"
    [ "$TORCH_CUDA_ARCH_LIST" = 12.0 ]
    PATH={nvcc}:$PATH
    export NVCC_PREPEND_FLAGS="-ccbin $(command -v c++)"
    nvcc -O3 -gencode=arch=compute_120,code=sm_120 -Xcompiler -fPIC -cudart none -shared "$kernel" -o $out
  '';
}}).overrideAttrs (import (root + "/nix/flags.nix") (import (root + "/nix/variant.nix") {{ }} "{name}"))"""


@pytest.fixture(scope="module")
def nvcc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of CUDA 13.0's nvcc, from the package registry (271 MB unpacked)."""
    site = tmp_path_factory.mktemp("nvcc")
    needed = ("nvidia-cuda-nvcc", "nvidia-nvvm", "nvidia-cuda-crt", "nvidia-cuda-runtime", "nvidia-cuda-cccl")
    wheels = [f"{wheel.package}=={wheel.version}" for wheel in cuda_wheels()["cuda13_0"] if wheel.package in needed]
    assert len(wheels) == len(needed)
    run([find_uv_bin(), "pip", "install", "-q", "--no-deps", "--target", site, *wheels], action="installing nvcc")
    return site / "nvidia" / "cu13" / "bin"


@pytest.mark.usefixtures("terminals")
@pytest.mark.compiler
def test_the_flags_reach_the_compiler_behind_a_real_nvcc(nix: Nix, nvcc: Path, tmp_path: Path) -> None:
    """The host half is compiled for the CPU, the device half for the GPU; in trap 1's form the host half is not."""

    def built(tree: Nix) -> bytes:
        code = NVCC.format(kernel=json.dumps(KERNEL), nvcc=nvcc, name="torchvision-python313-cuda13_0-sm120-avx512")
        prefix = f"let root = {tree.tree}; pkgs = import {tree.nixpkgs} {{ }}; in "
        return Path(tree.run("nix-build", "--no-out-link", "--expr", prefix + code).strip()).read_bytes()

    def used(data: bytes) -> int:
        return scan(read_elf(data).code).shown[evidence("avx512").kind]

    data = built(nix)
    assert used(data)
    assert {(image.kind, image.sm) for group in images(data) for image in group} == {("cubin", "sm120")}
    copy = nix.copy(tmp_path / "tree")
    copy.plant(FLAGS, ENV, "{ env = (old.env or { }) // { CXXFLAGS = flags; }; }")
    assert used(built(copy)) == 0


# A source that asks for an instruction set beyond every variant's, and uses one intrinsic of it, as do the files of
# XNNPACK in torch.
OWN_ISA = {
    "x86_64": (
        "-march=sapphirerapids",
        "#include <immintrin.h>\n__m512h own(__m512h a, __m512h b) { return _mm512_add_ph(a, b); }\n",
    ),
    "aarch64": (
        "-march=armv8.6-a+i8mm",
        "#include <arm_neon.h>\nint32x4_t own(int32x4_t a, uint8x16_t b, int8x16_t c)"
        " { return vusdotq_s32(a, b, c); }\n",
    ),
}
PLANTED = """(pkgs.stdenv.mkDerivation {{
  name = "own-isa";
  {structured}
  crossPrefix = "{prefix}";
  planted = builtins.toFile "own.c" {source};
  loop = builtins.toFile "loop.c" {loop};
  buildCommand = ''
    eval "$preConfigure"
    mkdir $out
    cc -O3 {own} -c "$planted" -o $out/own.o
    cc -O3 -fPIC -nostdlib -shared "$loop" -o $out/loop.so
  '';
}}).overrideAttrs (import (root + "/nix/flags.nix") (import (root + "/nix/variant.nix") {{ }} "{name}"))"""
CROSS = "aarch64-linux-gnu-"


def build_planted(nix: Nix, isa: str, structured: bool) -> Path:
    """The folder with the two compiled files. Raises ProcessFailed with the compiler's words."""
    variant = parse(f"torchvision-python313-cpu-{isa}")
    if variant.platform == "aarch64" and not shutil.which(f"{CROSS}gcc"):
        pytest.skip(f"needs {CROSS}gcc: install g++-aarch64-linux-gnu")
    own, source = OWN_ISA[variant.platform]
    code = PLANTED.format(
        structured="__structuredAttrs = true;" if structured else "",
        prefix=CROSS if variant.platform == "aarch64" else "",
        source=json.dumps(source),
        loop=json.dumps(LOOP),
        own=own,
        name=variant,
    )
    prefix = f"let root = {nix.tree}; pkgs = import {nix.nixpkgs} {{ }}; in "
    return Path(nix.run("nix-build", "--no-out-link", "--expr", prefix + code).strip())


ISAS = [
    pytest.param(name, marks=pytest.mark.cross if isa.platform == "aarch64" else ()) for name, isa in isas().items()
]


@pytest.mark.usefixtures("terminals")
@pytest.mark.compiler
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("structured", [False, True], ids=["attributes", "structured attributes"])
def test_trap_16_a_source_with_an_instruction_set_of_its_own_compiles(isa: str, structured: bool, nix: Nix) -> None:
    """And the rest of the package is still compiled for the variant."""
    out = build_planted(nix, isa, structured)
    assert (out / "own.o").is_file()
    if isa in ("avx2", "avx512", "armv9"):  # a plain loop shows nothing of the others
        code = read_elf((out / "loop.so").read_bytes()).code
        assert scan(code, isas()[isa].platform).shown[evidence(isa).kind]


@pytest.mark.usefixtures("terminals")
@pytest.mark.compiler
@pytest.mark.parametrize("isa", ISAS)
def test_trap_16_with_the_flags_after_its_own_it_does_not(isa: str, nix: Nix, tmp_path: Path) -> None:
    """The faulty form: NIX_CFLAGS_COMPILE, whose -march is the last and so the one that counts."""
    copy = nix.copy(tmp_path / "tree")
    copy.plant(FLAGS, ENV, "{ env = (old.env or { }) // { NIX_CFLAGS_COMPILE = before; }; }")
    with pytest.raises(
        ProcessFailed, match=r"inlining failed|target specific option mismatch|was not declared|unknown type"
    ):
        build_planted(copy, isa, structured=False)


PACKAGE = """buildPythonPackage ({function} {{
  pname = "small"; version = "1"; src = {source}; pythonImportsCheck = [ "small" ]; nativeBuildInputs = [ ];
  {structured}
}})"""


@pytest.mark.usefixtures("terminals")
@pytest.mark.parametrize("era", ["25.11", "unstable"])
def test_a_python_package_goes_through_every_phase(era: str, nix: Nix, tmp_path: Path) -> None:
    """Unpacked, built, installed where its Python looks, fixed up and imported: what a long build ends with."""
    copy, source = nix.copy(tmp_path / "tree").of(era), tmp_path / "small"
    source.mkdir()
    setup = 'from setuptools import setup\nsetup(name="small", version="1", py_modules=["small"])\n'
    (source / "setup.py").write_text(setup, encoding="utf-8")
    (source / "small.py").write_text("", encoding="utf-8")
    inputs = {"python": sys.executable, "patchelf": "/bin/true", "site": "", "source": "", "torch": "1"}
    file = copy.tree / "tests" / "integration" / "nix" / "nixpkgs" / "inputs.json"
    file.write_text(json.dumps(inputs), encoding="utf-8")
    structured = era == "unstable"
    code = PACKAGE.format(
        function="_:" if structured else "",
        source=source,
        structured="__structuredAttrs = true;" if structured else "",
    )
    prefix = f"let pkgs = import {copy.nixpkgs} {{ }}; in pkgs.python313.pkgs."
    out = Path(copy.run("nix-build", "--no-out-link", "--expr", prefix + code).strip())
    assert (out / "lib/python3.13/site-packages/small.py").is_file()

"""A release in miniature, with every construct of TorchVision's own setup.py files, compiled against a real torch."""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path

import pytest
from conftest import OWN
from rich.console import Console

from build_torchvision import pipeline
from build_torchvision.binary.elf import read_elf
from build_torchvision.binary.fatbin import architectures
from build_torchvision.execute.runner import RunOutcome
from build_torchvision.inputs.resolve import BuildRequest
from build_torchvision.releases import release_named
from build_torchvision.variants import parse

pytestmark = pytest.mark.compiler

MINIATURE = Path(__file__).with_name("miniature")
LAYOUTS = {
    "unstable": ["_C", "image"],
    "stable": ["_C_stable", "image_stable"],
    "both": ["_C", "_C_stable", "image_stable"],
    "no-images": ["_C_stable"],
}
CPU_RELEASE = "0.28.0"  # its torch has the stable ABI, and its headers still take C++17, which its rules do not
CUDA_RELEASE, CUDA_TORCH = "0.29.1", "2.14.1"  # headers that stop below C++20
# torch's own C++: the namespaces at, c10, caffe2 and torch, outside torch::headeronly.
UNSTABLE = re.compile(r"_ZNK?(?:2at|3c10|6caffe2|5torch(?!10headeronly))")


def compiled(layout: str, variant: str, known: str, folder: Path, **options: str) -> RunOutcome:
    """Copy the miniature as `layout` of release `known`, and compile `variant` of it in `folder`."""
    source = folder / "source"
    shutil.copytree(MINIATURE, source)
    (source / "layout.txt").write_text(layout, encoding="utf-8")
    (source / "version.txt").write_text(known, encoding="utf-8")
    request = BuildRequest(
        variants=(parse(f"torchvision-python{OWN}-{variant}"),),
        release=release_named(known),
        source=source,
        launcher="none",
        **options,  # type: ignore[arg-type]  # the options are BuildRequest's own fields
    )
    console = Console(file=io.StringIO())
    return pipeline.compile_all([pipeline.resolve_part(request)], folder / "objects", console)


def undefined(module: Path) -> set[str]:
    """The names that `module` takes from other libraries."""
    return {symbol.name for symbol in read_elf(module.read_bytes()).undefined}


@pytest.mark.parametrize(("layout", "compiler"), [*((layout, "clang") for layout in LAYOUTS), ("both", "gcc")])
def test_every_layout_of_a_release_is_compiled(layout: str, compiler: str, tmp_path: Path) -> None:
    outcome = compiled(layout, "cpu-avx2", CPU_RELEASE, tmp_path, compiler=compiler)
    modules = outcome.extensions("avx2")
    assert sorted(modules) == sorted(LAYOUTS[layout])
    assert not outcome.split, "each unit compiles as one"
    for name, path in modules.items():
        names = undefined(path)
        unstable = sorted(filter(UNSTABLE.match, names))
        if name.endswith("_stable"):
            assert not unstable
            assert any(shim.startswith(("aoti_torch_", "torch_")) for shim in names)
        else:
            assert unstable, "so the pattern finds such names"


@pytest.mark.parametrize("compiler", ["clang", pytest.param("nvcc", marks=pytest.mark.nightly)])
def test_modules_of_both_kinds_get_their_device_code(compiler: str, tmp_path: Path) -> None:
    """With a host min of two ints, and kernels that nothing calls a kernel."""
    outcome = compiled("both", "cuda13_0-sm90-avx2", CUDA_RELEASE, tmp_path, torch=CUDA_TORCH, cuda_compiler=compiler)
    modules = outcome.extensions("sm90-avx2")
    assert sorted(modules) == sorted(LAYOUTS["both"])
    for name, kernel in (("_C", b"gather_positive"), ("_C_stable", b"halve_values")):
        assert architectures(modules[name]) == (frozenset({"sm90"}), frozenset())
        assert kernel in modules[name].read_bytes(), "what host code registers it by"
    assert not any(map(UNSTABLE.match, undefined(modules["_C_stable"])))
    assert "aoti_torch_get_current_cuda_stream" in undefined(modules["_C_stable"])

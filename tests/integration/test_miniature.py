"""A release in miniature, with every construct of TorchVision's own setup.py files, compiled against a real torch."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
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
from build_torchvision.verify.checks import Check
from build_torchvision.verify.device import check_device_code
from build_torchvision.verify.stable_abi import check_stable_abi

pytestmark = pytest.mark.compiler

MINIATURE = Path(__file__).with_name("miniature")
LAYOUTS = {
    "unstable": ["_C", "image"],
    "stable": ["_C_stable", "image_stable"],
    "both": ["_C", "image", "_C_stable", "image_stable"],
    "no-images": ["_C_stable"],
}
CPU_RELEASE = "0.28.0"  # its torch has the stable ABI, and its headers still take C++17, which its rules do not
CUDA = parse(f"torchvision-python{OWN}-cuda13_0-sm90-avx2")
CUDA_RELEASE, CUDA_TORCH = "0.29.1", "2.14.1"  # headers that stop below C++20
# torch's own C++: the namespaces at, c10, caffe2 and torch, outside torch::headeronly.
UNSTABLE = re.compile(r"_ZNK?(?:2at|3c10|6caffe2|5torch(?!10headeronly))")


# A unit of a stable module that uses torch's own C++, which its headers allow where the target version was not given.
UNSTABLE_UNIT = """\
#include <ATen/ATen.h>

namespace vision::ops {
int64_t count_all(int64_t count) {
  return at::ones({count}).sum().item<int64_t>();
}
} // namespace vision::ops
"""
# A kernel that is in the device code alone: the host half does not know it, and nothing registers it.
UNSEEN_KERNEL = """
#ifdef __CUDA_ARCH__
__global__ void unseen(int* out) {
  *out = 1;
}
#endif
"""


def compiled(
    layout: str, variant: str, known: str, folder: Path, plant: Callable[[Path], None] | None = None, **options: str
) -> RunOutcome:
    """Copy the miniature as `layout` of release `known`, and compile `variant` of it in `folder`.

    `plant` puts a fault into the copy first.
    """
    source = folder / "source"
    shutil.copytree(MINIATURE, source)
    if plant is not None:
        plant(source)
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


def stable_abi(modules: Mapping[str, Path]) -> Check:
    """What verify's check of the stable ABI says of `modules`, as if they were the newest release's own."""
    elves = {f"torchvision/{name}.so": read_elf(path.read_bytes()) for name, path in modules.items()}
    release = replace(release_named("0.29.1"), extensions=tuple(modules))
    check = check_stable_abi(elves, release)
    assert check is not None
    return check


def kernels_check(modules: Mapping[str, Path]) -> Check:
    """What verify's check of registered kernels says of `modules`, compiled for sm90."""
    checks = check_device_code({name: path.read_bytes() for name, path in modules.items()}, CUDA)
    return next(check for check in checks if check.name == "kernels")


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
            assert stable_abi({name: path}).ok
            assert any(shim.startswith(("aoti_torch_", "torch_")) for shim in names)
        else:
            assert unstable, "so the pattern finds such names"
            assert not stable_abi({name: path}).ok


def test_a_unit_without_its_target_version_turns_the_check_of_the_abi_red(tmp_path: Path) -> None:
    """The compiler says nothing: without the target version torch's headers let every unit use its own C++."""

    def plant(source: Path) -> None:
        unit = source / "torchvision" / "csrc" / "ops" / "cpu" / "count_all.cpp"
        unit.write_text(UNSTABLE_UNIT, encoding="utf-8")
        (source / "torchvision" / "csrc" / "vision_stable.cpp").write_text("", encoding="utf-8")
        script = (source / "setup.py").read_text(encoding="utf-8")
        flagged = '        extra_compile_args["cxx"].append(target)\n'
        assert flagged in script
        script = script.replace(flagged, "").replace(
            '"ops/scale.cpp",', '"ops/scale.cpp", CSRC / "ops/cpu/count_all.cpp",'
        )
        (source / "setup.py").write_text(script, encoding="utf-8")

    modules = compiled("no-images", "cpu-avx2", CPU_RELEASE, tmp_path, plant).extensions("avx2")
    check = stable_abi(modules)
    assert not check.ok
    assert "_C_stable.so uses" in check.detail
    assert "unstable symbols of torch" in check.detail
    assert "without TORCH_TARGET_VERSION" in check.detail


@pytest.mark.parametrize("compiler", ["clang", pytest.param("nvcc", marks=pytest.mark.nightly)])
def test_modules_of_both_kinds_get_their_device_code(compiler: str, tmp_path: Path) -> None:
    """With a host min of two ints, and kernels that nothing calls a kernel."""

    def plant(source: Path) -> None:
        """A kernel that nothing registers, in one module: the other's must still hold."""
        unit = source / "torchvision" / "csrc" / "ops" / "cuda" / "count.cu"
        unit.write_text(unit.read_text(encoding="utf-8") + UNSEEN_KERNEL, encoding="utf-8")

    # nvcc makes a registration for every kernel of a source, and stops at one that its host half does not know.
    planted = plant if compiler == "clang" else None
    outcome = compiled("both", CUDA.short, CUDA_RELEASE, tmp_path, planted, torch=CUDA_TORCH, cuda_compiler=compiler)
    modules = outcome.extensions("sm90-avx2")
    assert sorted(modules) == sorted(LAYOUTS["both"])
    for name, kernel in (("_C", b"gather_positive"), ("_C_stable", b"halve_values")):
        assert architectures(modules[name]) == (frozenset({"sm90"}), frozenset())
        assert kernel in modules[name].read_bytes(), "what host code registers it by"
    assert not any(map(UNSTABLE.match, undefined(modules["_C_stable"])))
    assert "aoti_torch_get_current_cuda_stream" in undefined(modules["_C_stable"])
    assert kernels_check({"_C_stable": modules["_C_stable"]}).ok
    faulty = kernels_check(modules)
    assert faulty.ok is (planted is None)
    if planted is None:
        return
    assert "unseen" in faulty.detail
    assert "has cubin and nothing registers it" in faulty.detail

"""Our operators give upstream's bits: generated cases are called on both.

In CI what is compared is a wheel of 0.21.0 as `build` makes it and the published one, whose compiler had no fused
operation to choose. The nightly tests compile upstream's kernels and ours with the same floating-point flags and call
10,000 cases of each operator and type; BUILD_TORCHVISION_TEST_SOURCE and BUILD_TORCHVISION_TEST_PYTHON name a
release's source and a Python with its torch in place of 0.21.0's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import ninja
import pytest
from conftest import OWN, Build
from operators._libraries import Bench, Torch
from packaging.version import Version

from build_torchvision.facts import Release
from build_torchvision.inputs.compiler import find_compiler
from build_torchvision.inputs.source import fetch_source, source_version
from build_torchvision.operators import FOLDER, KERNEL_FLAGS, REPLACEMENTS
from build_torchvision.releases import release_named
from build_torchvision.verify.environments import fill

CASES = Path(__file__).parent / "operators" / "_cases.py"
FLOATING = ("float32", "float64")
WITH_HALF = (*FLOATING, "float16")
INTEGERS = ("uint8", "int8", "int16", "int32", "int64")
QUANTIZED = ("quint8", "qint8", "qint32")
TYPES = {
    "nms": FLOATING,
    "roi_align": WITH_HALF,
    "roi_align_backward": WITH_HALF,
    "roi_pool": WITH_HALF,
    "roi_pool_backward": WITH_HALF,
    "ps_roi_align": WITH_HALF,
    "ps_roi_align_backward": WITH_HALF,
    "ps_roi_pool": WITH_HALF,
    "ps_roi_pool_backward": WITH_HALF,
    "deform_conv2d": WITH_HALF,
    "deform_conv2d_backward": WITH_HALF,
    "box_iou_rotated": FLOATING,
    "qnms": INTEGERS,
    "qroi_align": INTEGERS,
}
SEED = 20261126
SAMPLE, ALL = 40, 10_000
RELEASE = "0.21.0"
# One rounding of roi_align in another order: ((1 + 2) + 3) + 4 becomes (1 + 2) + (3 + 4).
PLANTED = (
    "roi_align.cpp",
    "w2 * row<Row>(p2 + at) + w3 * row<Row>(p3 + at) + w4 * row<Row>(p4 + at);",
    "w2 * row<Row>(p2 + at) + (w3 * row<Row>(p3 + at) + w4 * row<Row>(p4 + at));",
)


def names_of(release: Release) -> list[str]:
    """OPERATOR/DTYPE of everything that `release` has."""
    version = Version(release.torchvision)
    types = dict(TYPES)
    if version < Version("0.26"):
        del types["box_iou_rotated"]
    if version < Version("0.28"):
        types |= {"qnms": QUANTIZED, "qroi_align": QUANTIZED}
    return [f"{operator}/{dtype}" for operator, each in types.items() for dtype in each]


@dataclass(frozen=True)
class Pair:
    """The libraries that are compared, each one file or one for each of torch's interfaces, and who calls them."""

    python: Path
    upstream: Sequence[Path]
    tuned: Sequence[Path]

    def different(self, names: Sequence[str], count: int, first: int = 0) -> dict[str, list[int]]:
        """By OPERATOR/DTYPE the numbers of the cases, of `count` from `first` on, that do not give the same bits."""
        processes = []
        for libraries in (self.upstream, self.tuned):
            command = [self.python, CASES, ":".join(map(str, libraries)), SEED, first, first + count, *names]
            processes.append(subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True))
        lines = [process.communicate()[0].splitlines() for process in processes]
        assert [process.returncode for process in processes] == [0, 0]
        assert [len(each) for each in lines] == [count * len(names)] * 2
        assert not [line for line in lines[0] if "Error" in line], "upstream refuses a generated case"
        different: dict[str, list[int]] = {name: [] for name in names}
        for i, (line, other) in enumerate(zip(*lines, strict=True)):
            if line != other:
                different[line.split()[0]].append(first + i % count)
        return different


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with the published wheel of RELEASE and its torch."""
    venv, release = tmp_path_factory.mktemp("published") / "venv", release_named(RELEASE)
    wanted = f"torchvision=={release.torchvision}"
    fill(venv, Path(sys.executable), f"torch=={release.torch}", wanted, action="installing the published wheel")
    return venv / "bin" / "python"


@pytest.fixture(scope="module")
def pair(published: Path, built: Build, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """The published operators of RELEASE, and those of the wheel that `build` makes."""
    (stock,) = published.parent.parent.glob("lib/python3*/site-packages/torchvision/_C.so")
    folder = tmp_path_factory.mktemp("tuned")
    with zipfile.ZipFile(built.wheels["avx2", OWN]) as wheel:
        tuned = Path(wheel.extract("torchvision/_C.so", folder))
    return Pair(published, [stock], [tuned])


@pytest.mark.compiler
@pytest.mark.torch
def test_a_wheel_gives_the_bits_of_the_published_one(pair: Pair) -> None:
    names = names_of(release_named(RELEASE))
    assert pair.different(names, SAMPLE) == {name: [] for name in names}


@pytest.mark.compiler
@pytest.mark.torch
def test_boxes_whose_areas_wrap_around_are_kept_as_upstream_keeps_them(pair: Pair) -> None:
    # The first generated case of large integers whose overlap exceeds an area that did not fit into 32 bits.
    assert pair.different(["qnms/qint32"], 1, first=93) == {"qnms/qint32": []}


@pytest.mark.compiler
@pytest.mark.torch
def test_one_rounding_in_another_order_is_seen(pair: Pair, built: Build, tmp_path: Path) -> None:
    planted = replace(pair, tuned=[_linked_with(_planted(tmp_path), built.objects, tmp_path)])
    assert planted.different(["roi_align/float32"], SAMPLE)["roi_align/float32"]


def _planted(folder: Path) -> Path:
    """The object of a kernel with one rounding changed, compiled with the flags of all kernels."""
    name, before, after = PLANTED
    kernels = shutil.copytree(FOLDER / "kernels", folder / "kernels")
    text = (kernels / name).read_text(encoding="utf-8")
    assert before in text
    (kernels / name).write_text(text.replace(before, after), encoding="utf-8")
    output = folder / "planted.o"
    command = [*find_compiler("clang").command, "-std=c++17", "-O3", "-fPIC", *KERNEL_FLAGS, "-march=x86-64-v3"]
    subprocess.run([*command, "-c", str(kernels / name), "-o", str(output)], check=True)
    return output


def _linked_with(planted: Path, objects: Path, folder: Path) -> Path:
    """The wheel's module linked once more, by the build's own command, with `planted` in the kernel's place."""
    (graph,) = objects.glob("*/build.ninja")
    module, kernel = "x86_64/avx2/_C.so", f"x86_64/avx2/_C/operators.{PLANTED[0]}.o"
    done = subprocess.run(
        [Path(ninja.BIN_DIR, "ninja"), "-t", "commands", "-s", module],
        cwd=graph.parent,
        check=True,
        capture_output=True,
        text=True,
    )
    output = folder / "_C.so"
    assert kernel in done.stdout
    command = done.stdout.replace(kernel, str(planted)).replace(module, str(output))
    subprocess.run(command, cwd=graph.parent, shell=True, check=True)
    return output


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Release, Pair]:
    """Upstream's kernels and ours, compiled alike: of RELEASE, or of what the environment names."""
    named = os.environ.get("BUILD_TORCHVISION_TEST_SOURCE")
    release = release_named(source_version(Path(named)) if named else RELEASE)
    source = Path(named) if named else fetch_source(release).root
    python = os.environ.get("BUILD_TORCHVISION_TEST_PYTHON")
    if python is None:
        venv = tmp_path_factory.mktemp("python") / "venv"
        fill(venv, Path(sys.executable), f"torch=={release.torch}", action="installing torch to compare beside it")
        python = str(venv / "bin" / "python")
    bench = Bench(
        compiler=find_compiler("clang"),
        torch=Torch.of(Path(python)),
        release=release,
        source=source,
        flags=("-march=x86-64-v3",),
        work=tmp_path_factory.mktemp("operators"),
    )
    return release, Pair(Path(python), bench.upstream(), bench.tuned())


@pytest.mark.nightly
@pytest.mark.parametrize("operator", TYPES)
def test_ten_thousand_cases_give_the_bits_of_upstream(compiled: tuple[Release, Pair], operator: str) -> None:
    release, pair = compiled
    names = [name for name in names_of(release) if name.startswith(f"{operator}/")]
    if not names:
        pytest.skip(f"{release.torchvision} has no {operator}")
    assert pair.different(names, ALL) == {name: [] for name in names}


def test_every_operator_that_is_replaced_is_compared() -> None:
    replaced = {name.removeprefix("torchvision::").lstrip("_") for row in REPLACEMENTS for name in row.operators}
    assert set(TYPES) == replaced

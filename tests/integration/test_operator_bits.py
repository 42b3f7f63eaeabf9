"""Our operators give upstream's bits: both are compiled with the same flags and called on generated cases."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from operators._libraries import Bench, Torch

from build_torchvision.errors import FetchFailed
from build_torchvision.facts import releases
from build_torchvision.inputs.compiler import find_compiler
from build_torchvision.inputs.source import fetch_source
from build_torchvision.operators import FOLDER, REPLACEMENTS

CASES = Path(__file__).parent / "operators" / "_cases.py"
FLOATING = ("float32", "float64")
WITH_HALF = (*FLOATING, "float16")
INTEGERS = ("uint8", "int8", "int16", "int32", "int64")
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
SAMPLE, ALL = 60, 10_000
RELEASE = "0.28.0"
# One rounding of roi_align in another order: ((1 + 2) + 3) + 4 becomes (1 + 2) + (3 + 4).
PLANTED = ("roi_align.cpp", "w2 * p2[k] + w3 * p3[k] + w4 * p4[k];", "w2 * p2[k] + (w3 * p3[k] + w4 * p4[k]);")


def torch_of_release(folder: Path) -> Torch:
    """The torch of BUILD_TORCHVISION_TEST_PYTHON, or that of RELEASE in a new environment."""
    named = os.environ.get("BUILD_TORCHVISION_TEST_PYTHON")
    python = Path(named) if named else folder / "venv" / "bin" / "python"
    if not named:
        uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        assert uv is not None, "uv is a dependency of this package"
        subprocess.run([uv, "venv", "-q", folder / "venv"], check=True)
        torch = f"torch=={releases()[RELEASE].torch}"
        subprocess.run([uv, "pip", "install", "-q", "--python", python, torch, "numpy"], check=True)
    where = "import torch, pathlib; print(pathlib.Path(torch.__file__).parent)"
    return Torch(
        python=python,
        root=Path(subprocess.run([python, "-c", where], check=True, capture_output=True, text=True).stdout.strip()),
    )


@dataclass(frozen=True)
class Libraries:
    """The libraries that are compared, and who runs them."""

    bench: Bench
    upstream: Path
    tuned: Path

    def different(self, names: Sequence[str], count: int, tuned: Path | None = None) -> dict[str, list[int]]:
        """By OPERATOR/DTYPE the numbers of the cases that do not give the same bits."""
        processes = []
        for library in (self.upstream, tuned or self.tuned):
            command = [self.bench.torch.python, CASES, library, str(SEED), str(count), *names]
            processes.append(subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True))
        lines = [process.communicate()[0].splitlines() for process in processes]
        assert [process.returncode for process in processes] == [0, 0]
        assert [len(each) for each in lines] == [count * len(names)] * 2
        assert not [line for line in lines[0] if "Error" in line], "upstream refuses a generated case"
        different: dict[str, list[int]] = {name: [] for name in names}
        for i, (first, second) in enumerate(zip(*lines, strict=True)):
            if first != second:
                different[first.split()[0]].append(i % count)
        return different


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Libraries:
    work = tmp_path_factory.mktemp("operators")
    named = os.environ.get("BUILD_TORCHVISION_TEST_SOURCE")
    try:
        source = Path(named) if named else fetch_source(releases()[RELEASE]).root
    except FetchFailed as error:
        pytest.skip(f"{RELEASE}'s source is not to be had: {error.problem}")
    bench = Bench(
        compiler=find_compiler("clang"),
        torch=torch_of_release(work),
        source=source,
        flags=("-march=x86-64-v3",),
        work=work,
    )
    return Libraries(bench, bench.upstream(), bench.tuned())


NAMES = [f"{operator}/{dtype}" for operator, types in TYPES.items() for dtype in types]
NOTHING: dict[str, list[int]] = {name: [] for name in NAMES}


@pytest.mark.compiler
@pytest.mark.torch
def test_a_sample_of_cases_gives_the_bits_of_upstream(libraries: Libraries) -> None:
    assert libraries.different(NAMES, SAMPLE) == NOTHING


@pytest.mark.nightly
@pytest.mark.parametrize("name", NAMES)
def test_all_cases_give_the_bits_of_upstream(libraries: Libraries, name: str) -> None:
    assert libraries.different([name], ALL) == {name: []}


@pytest.mark.compiler
@pytest.mark.torch
def test_one_rounding_in_another_order_is_seen(libraries: Libraries, tmp_path: Path) -> None:
    changed = tmp_path / "operators"
    shutil.copytree(FOLDER, changed)
    name, before, after = PLANTED
    kernel = changed / "kernels" / name
    text = kernel.read_text(encoding="utf-8")
    assert before in text
    kernel.write_text(text.replace(before, after), encoding="utf-8")
    planted = libraries.bench.tuned(changed, "planted")
    assert libraries.different(["roi_align/float32"], SAMPLE, planted)["roi_align/float32"]


def test_every_operator_that_is_replaced_is_compared() -> None:
    replaced = {name.removeprefix("torchvision::").lstrip("_") for row in REPLACEMENTS for name in row.operators}
    assert set(TYPES) == replaced

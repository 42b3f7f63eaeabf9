"""The table of our operators is true of the files, and the graph takes them in place of upstream's."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from build_torchvision.facts import releases
from build_torchvision.facts.operators import operators_of
from build_torchvision.graph.units import plan_units
from build_torchvision.inputs.upstream import Extension
from build_torchvision.operators import (
    FOLDER,
    REPLACEMENTS,
    Choice,
    Operators,
    Replacement,
    described,
    operators_for,
    tuned_operators,
)

DISPATCH, NMS = "torchvision/csrc/ops/nms.cpp", "torchvision/csrc/ops/cpu/nms_kernel.cpp"


def extension(*sources: str) -> Extension:
    return Extension(name="torchvision._C", sources=sources, macros=(), libraries=(), include_dirs=())


def tree(folder: Path, *sources: str) -> Path:
    for source in sources:
        (folder / source).parent.mkdir(parents=True, exist_ok=True)
        (folder / source).touch()
    return folder


def test_every_source_is_named_by_the_table() -> None:
    kernels = {path.name for path in (FOLDER / "kernels").glob("*.cpp")}
    assert kernels == {name for row in REPLACEMENTS for name in row.kernels}
    assert {path.name for path in (FOLDER / "adaptors").glob("*.cpp")} == {row.adaptor for row in REPLACEMENTS}


def test_an_upstream_source_is_replaced_once() -> None:
    assert len({row.upstream for row in REPLACEMENTS}) == len(REPLACEMENTS)


@pytest.mark.parametrize("path", sorted((FOLDER / "kernels").iterdir()), ids=lambda path: path.name)
def test_a_kernel_includes_no_header_of_torch_and_no_intrinsics(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    included = set(re.findall(r"#include [<\"]([^>\"]+)[>\"]", text))
    assert not {name for name in included if name.startswith(("ATen", "torch", "c10", "immintrin", "arm_"))}
    assert not re.search(r"_mm\d*_|__AVX|__SSE|__ARM", text)


@pytest.mark.parametrize("row", REPLACEMENTS, ids=lambda row: row.adaptor)
def test_an_adaptor_says_what_it_replaces_and_registers_it(row: Replacement) -> None:
    text = row.adaptor_source.read_text(encoding="utf-8")
    assert row.upstream in text
    assert all(name.removeprefix("torchvision::") in text for name in row.operators)


@pytest.mark.parametrize("row", REPLACEMENTS, ids=lambda row: row.adaptor)
def test_an_adaptor_is_written_for_both_interfaces(row: Replacement) -> None:
    """Outside what is for quantized tensors, which the stable ABI does not have."""
    text = row.adaptor_source.read_text(encoding="utf-8")
    shared = re.sub(r"#ifdef BUILD_TORCHVISION_QUANTIZED_TENSORS.*?#(else|endif)", "", text, flags=re.DOTALL)
    assert not re.search(r"\bat::|TORCH_LIBRARY|AT_DISPATCH", shared)


def test_a_replaced_source_leaves_the_graph_and_its_kernel_and_adaptor_come() -> None:
    (row,) = (row for row in REPLACEMENTS if row.source == NMS)
    units = plan_units(extension(DISPATCH, NMS), operators=Operators(rows=REPLACEMENTS, macros=("-DSAID",)))
    assert {unit.name for unit in units} == {"dispatch", "operators.adaptors", "operators.nms.cpp"}
    by_name = {unit.name: unit for unit in units}
    assert by_name["operators.adaptors"].sources == (str(row.adaptor_source),)
    assert by_name["operators.adaptors"].isa_dependent is False
    assert "-DSAID" in by_name["operators.adaptors"].flags
    assert by_name["operators.nms.cpp"].isa_dependent is True
    assert "-ffp-contract=off" in by_name["operators.nms.cpp"].flags


def test_without_replacements_units_are_upstreams_own() -> None:
    assert plan_units(extension(DISPATCH, NMS), operators=Operators()) == plan_units(extension(DISPATCH, NMS))


def test_only_what_a_release_has_is_replaced(tmp_path: Path) -> None:
    release = releases()["0.28.0"]
    assert described(release, Choice.TUNED, tree(tmp_path, NMS)) == {"torchvision::nms": "tuned"}
    assert described(release, Choice.UPSTREAM, tmp_path) == {}
    assert described(replace(release, listed=False), Choice.TUNED, tmp_path) == {}


@pytest.mark.parametrize("version", ["0.30.0a0", "0.29.1.post1", "0.31.0.dev20261120", "0.30.0"])
def test_nothing_is_said_of_the_operators_of_a_release_that_no_row_lists(version: str, tmp_path: Path) -> None:
    unlisted = replace(releases()["0.29.1"], torchvision=version, listed=False)
    assert operators_of(version) is None
    for gpu in (False, True):
        assert described(unlisted, Choice.TUNED, tree(tmp_path, NMS), gpu=gpu) == {}
        assert tuned_operators(unlisted, Choice.TUNED, gpu=gpu) == ()


def test_a_descriptor_names_gpu_kernels_apart(tmp_path: Path) -> None:
    source = tree(
        tmp_path, NMS, "torchvision/csrc/ops/cuda/nms_kernel.cu", "torchvision/csrc/ops/cpu/roi_pool_kernel.cpp"
    )
    release = releases()["0.28.0"]
    assert described(release, Choice.TUNED, source, gpu=True) == {"torchvision::nms": "tuned"}
    assert described(release, Choice.UPSTREAM, source, gpu=True) == {}
    assert described(release, Choice.TUNED, source).keys() == {
        "torchvision::nms",
        "torchvision::roi_pool",
        "torchvision::_roi_pool_backward",
    }


def test_only_operators_that_a_release_registers_are_named(tmp_path: Path) -> None:
    source = tree(tmp_path, "torchvision/csrc/ops/quantized/cpu/qnms_kernel.cpp")
    assert described(releases()["0.28.0"], Choice.TUNED, source) == {"torchvision::qnms": "tuned"}
    assert described(releases()["0.27.1"], Choice.TUNED, source) == {}


def test_the_tables_tell_which_operators_are_ours() -> None:
    old, new = releases()["0.21.0"], releases()["0.28.0"]
    added = {"torchvision::box_iou_rotated", "torchvision::qnms", "torchvision::qroi_align"}
    assert set(tuned_operators(new, Choice.TUNED)) - set(tuned_operators(old, Choice.TUNED)) == added
    assert tuned_operators(new, Choice.TUNED, gpu=True) == ("torchvision::nms",)
    assert tuned_operators(new, Choice.UPSTREAM) == tuned_operators(replace(new, listed=False), Choice.TUNED) == ()


@pytest.mark.parametrize(
    ("version", "macros"),
    [
        ("0.28.0", ()),
        ("0.27.1", ("-DBUILD_TORCHVISION_QUANTIZED_TENSORS",)),
        ("0.26.0", ("-DBUILD_TORCHVISION_QUANTIZED_TENSORS", "-DBUILD_TORCHVISION_UNCLAMPED_OVERLAPS")),
    ],
)
def test_adaptors_are_told_what_differs_in_a_release(version: str, macros: tuple[str, ...], tmp_path: Path) -> None:
    assert operators_for(releases()[version], Choice.TUNED, tree(tmp_path, NMS)).macros == macros

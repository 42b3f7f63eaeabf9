"""The probe calls every operator that a listed release registers, and its rows are read field by field."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import build_torchvision.verify
from build_torchvision.errors import MissingInput
from build_torchvision.facts import releases
from build_torchvision.facts.operators import operators, operators_of
from build_torchvision.verify.run_probe import PROBE, digests, probe, read_results
from build_torchvision.verify.target import Place

FOLDER = Path(build_torchvision.verify.__file__).parent / "probe"
DEFINED = re.compile(r'm\.def\(\s*(?:TORCH_SELECTIVE_SCHEMA\(\s*)?"((?:[^"]|"\s*")*)"')
REGISTERED = re.compile(r'\.op\(\s*"((?:[^"]|"\s*")*)"')
LIBRARY = re.compile(r"(?:STABLE_)?TORCH_LIBRARY(?:_FRAGMENT)?\(\s*(\w+)")
NOT_BUILT = "video_reader"


def called_by_the_probe() -> set[str]:
    """Every name in an OPERATORS of the probe's modules, read without importing them: they need torch."""
    found: set[str] = set()
    for path in FOLDER.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and any(
                isinstance(t, ast.Name) and t.id == "OPERATORS" for t in node.targets
            ):
                found |= set(ast.literal_eval(node.value))
    return found


def registered_by(source: Path) -> set[str]:
    """The operators in the schemas of a source tree's csrc."""
    found: set[str] = set()
    for path in sorted((source / "torchvision" / "csrc").rglob("*")):
        if path.suffix not in (".cpp", ".cu", ".h"):
            continue
        text = path.read_text(encoding="utf-8")
        namespace = next(iter(LIBRARY.findall(text)), "torchvision")
        for schema in [*DEFINED.findall(text), *REGISTERED.findall(text)]:
            name = re.sub(r'"\s*"', "", schema).partition("(")[0]
            found.add(name if "::" in name else f"{namespace}::{name}")
    return {name for name in found if not name.startswith(f"{NOT_BUILT}::")}


@pytest.mark.parametrize("release", list(releases()))
def test_the_probe_calls_every_operator_of_a_listed_release(release: str) -> None:
    expected = operators_of(release)
    assert expected is not None, "read its schemas and put them into operators.toml"
    assert expected - called_by_the_probe() == set(), "write a check for it in verify/probe, with its own reference"


def test_every_operator_that_the_probe_calls_is_in_the_table() -> None:
    assert called_by_the_probe() == set(operators())


def test_the_table_says_which_release_brought_which_operator() -> None:
    older, newer = operators_of("0.25.0"), operators_of("0.28.0")
    assert older is not None
    assert newer is not None
    assert newer - older == {"torchvision::box_iou_rotated", "torchvision::qnms", "torchvision::qroi_align"}
    oldest = operators_of("0.20.1")
    assert oldest is not None
    assert oldest - older == {"image::decode_avif", "image::decode_heic"}
    assert operators_of("0.19.1") is None, "no source of it was read"


def test_schemas_are_read_from_sources_as_releases_write_them(tmp_path: Path) -> None:
    csrc = tmp_path / "torchvision" / "csrc"
    csrc.mkdir(parents=True)
    (csrc / "a.cpp").write_text(
        'TORCH_LIBRARY_FRAGMENT(torchvision, m) {\n  m.def(TORCH_SELECTIVE_SCHEMA(\n      "torchvision::a(Tensor x)'
        ' -> "\n      "Tensor"));\n  m.def("b", &b);\n}\n',
        encoding="utf-8",
    )
    (csrc / "c.cpp").write_text(
        'STABLE_TORCH_LIBRARY_FRAGMENT(image, m) { m.def("c(int x) -> int"); }', encoding="utf-8"
    )
    (csrc / "d.cpp").write_text(
        'auto r = torch::RegisterOperators().op("image::d", &d).op(\n"other::e", &e);', encoding="utf-8"
    )
    assert registered_by(tmp_path) == {"torchvision::a", "torchvision::b", "image::c", "image::d", "other::e"}


SOURCES = os.environ.get("BUILD_TORCHVISION_SOURCES")


@pytest.mark.nightly
@pytest.mark.skipif(not SOURCES, reason="BUILD_TORCHVISION_SOURCES names no folder of source trees (vision-X.Y.Z)")
@pytest.mark.parametrize("release", list(releases()))
def test_the_table_is_what_the_sources_register(release: str) -> None:
    source = Path(str(SOURCES), f"vision-{release}")
    if not source.is_dir():
        pytest.skip(f"there is no {source}")
    assert registered_by(source) == operators_of(release)


def test_rows_of_the_probe_are_read_field_by_field() -> None:
    rows: list[dict[str, object]] = [
        {"start": "nms"},
        {"name": "nms", "ok": True, "detail": "kept", "digest": "ab", "error": 0.5},
        {"start": "kernels"},
        {
            "name": "kernels",
            "ok": True,
            "detail": "1 kernels",
            "digest": "",
            "kernels": ["nms_kernel_impl<float>(int)"],
        },
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    first, second = read_results(text, subprocess.CompletedProcess([], 0, "", ""), label="GPU", part="gpu")
    assert (first.check.name, first.check.part, first.error, first.lists_kernels) == ("GPU: nms", "gpu", 0.5, False)
    assert (second.kernels, second.lists_kernels) == (("nms_kernel_impl<float>(int)",), True)
    assert digests((first, second)) == {"nms": "ab"}


def test_the_probe_imports_nothing_of_this_project() -> None:
    assert PROBE.is_file()
    for path in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not [name for name in names if name.startswith("build_torchvision")], path


@pytest.mark.parametrize(
    ("torch", "said"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "stopped by SIGSEGV"),
        ("raise OSError('libcudart.so.12: cannot open shared object file')", "libcudart.so.12: cannot open"),
    ],
)
def test_a_torch_that_cannot_be_imported_says_nothing_of_the_wheel(torch: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(torch, encoding="utf-8")
    with pytest.raises(MissingInput, match=re.escape(said)) as raised:
        probe(Place(python=Path(sys.executable), over=(tmp_path,)), ())
    assert raised.value.exit_code != 1
    assert "nothing was learned of the package" in raised.value.problem

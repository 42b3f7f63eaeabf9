"""Compiler caches that machines share, and patterns that name what is meant."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from build_torchvision.errors import BadInput, MissingInput
from build_torchvision.execute.launcher import STATISTICS, find_launcher
from build_torchvision.execute.ninja_file import ninja_file
from build_torchvision.execute.runner import run_graph
from build_torchvision.graph.actions import Action, ActionKind, Graph
from build_torchvision.inputs.resolve import BuildRequest, resolve_inputs
from build_torchvision.releases import release_named
from build_torchvision.variants import matching, parse

QUIET = Console(file=io.StringIO())


def action(output: str, script: str, *inputs: str, kind: ActionKind = ActionKind.COMPILE) -> Action:
    return Action(
        output=output,
        kind=kind,
        command=("sh", "-c", script),
        inputs=inputs,
        label=output,
        depfile=False,
    )


def graph(word: str = "1") -> Graph:
    return Graph(
        actions=(
            action("host", f"echo {word} > host"),
            action("device", "echo 2 > device"),
            action("so", "cat host device > so", "host", "device", kind=ActionKind.LINK),
        ),
        files={"tools/x": "#!/bin/sh\n"},
        extensions={"sm90-avx2": {"_C": "so"}},
    )


def test_programs_of_a_graph_can_be_executed(tmp_path: Path) -> None:
    run_graph(lambda split: graph(), tmp_path, jobs=1, console=QUIET)
    assert (tmp_path / "tools" / "x").stat().st_mode & 0o111


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "path"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_a_compiler_cache_is_found_by_itself_and_forbidden_by_name(path: Path, tmp_path: Path) -> None:
    assert find_launcher("auto", (), tmp_path) is None
    for name in ("sccache", "ccache"):
        (path / name).write_text("#!/bin/sh\n")
        (path / name).chmod(0o755)
        found = find_launcher("auto", (), tmp_path)
        assert found is not None
        assert found.name == name
    assert find_launcher("none", (), tmp_path) is None
    named_one = find_launcher("sccache", (), tmp_path)
    assert named_one is not None
    assert named_one.kinds == {ActionKind.COMPILE}


def test_a_compiler_cache_that_is_not_here_is_missing(path: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match="ccache is not on PATH"):
        find_launcher("ccache", (), tmp_path)
    with pytest.raises(BadInput, match="Choose auto, ccache, sccache, none"):
        find_launcher("distcc", (), tmp_path)


def test_a_cache_stands_before_compilers_and_before_nothing_else(path: Path, tmp_path: Path) -> None:
    (path / "ccache").write_text("#!/bin/sh\n")
    (path / "ccache").chmod(0o755)
    found = find_launcher("ccache", ("clang 22",), tmp_path)
    assert found is not None
    lines = [line for line in ninja_file(graph(), found).splitlines() if "cmd =" in line]
    assert [str(path / "ccache") in line for line in lines] == [True, True, False]
    other = find_launcher("ccache", ("clang 23",), tmp_path)
    assert other is not None
    assert found.env["CCACHE_COMPILERCHECK"] != other.env["CCACHE_COMPILERCHECK"]


def test_what_the_cache_did_is_written_where_it_is_read(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compilers run in the build folder, which --build-dir may name from elsewhere."""
    (path / "ccache").write_text("#!/bin/sh\n")
    (path / "ccache").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    found = find_launcher("ccache", (), Path("objects"))
    assert found is not None
    assert found.env["CCACHE_STATSLOG"] == str(tmp_path / "objects" / STATISTICS)


def test_what_the_cache_did_is_counted(path: Path, tmp_path: Path) -> None:
    (path / "ccache").write_text("#!/bin/sh\n")
    (path / "ccache").chmod(0o755)
    found = find_launcher("ccache", (), tmp_path)
    assert found is not None
    assert found.report(tmp_path) == "ccache: 0 hits, 0 misses, 0 not cached"
    lines = [
        "# a.cpp",
        "direct_cache_hit",
        "local_storage_hit",
        "# b.ll",
        "cache_miss",
        "# c",
        "preprocessed_cache_hit",
    ]
    (tmp_path / STATISTICS).write_text("\n".join([*lines, "# d", "unsupported_compiler_option"]) + "\n")
    assert found.report(tmp_path) == "ccache: 2 hits, 1 misses, 1 not cached"


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        ("torchvision-python313-cuda12_8-*-avx512", 9),
        ("cuda12_8-*-avx*", 36),
        ("cuda13_0-*-avx512", 9),
        ("cuda12_4-sm{80,86,89,90}-avx2", 4),
        ("torchvision-python313-cuda12_8-sm{75,80}-avx2", 2),
        ("cuda12_8-sm75-avx2", 1),
        ("cpu-*", 6),
        ("*-sm90-avx512", 1),
    ],
)
def test_a_pattern_names_core_gpus_unless_it_names_another(pattern: str, count: int) -> None:
    assert len(matching(pattern)) == count


def test_a_pattern_of_nothing_is_refused() -> None:
    with pytest.raises(BadInput):
        matching("cuda12_8-sm61x-avx2")


def test_a_release_whose_torch_is_of_another_cuda_is_refused_before_it_is_fetched() -> None:
    variant = parse("torchvision-python313-cuda12_8-sm90-avx2")
    with pytest.raises(BadInput, match=r"Its torch, 2\.6\.0, is built with CUDA 12\.4.*--torchvision 0\.25\.0"):
        resolve_inputs(BuildRequest(variants=(variant,), release=release_named("0.21.0")))

"""Programs that are fetched when first needed: once, by digest, whole, and runnable."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from _wheels import wheel_of

from build_torchvision.errors import BadInput
from build_torchvision.facts.programs import program_wheels
from build_torchvision.inputs import parts, programs

SCRIPT = b"#!/bin/sh\necho clang version 22.1.8\n"


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A registry of two small wheels, and what was fetched of it. None of the programs is installed."""
    asked: list[str] = []
    (tmp_path / "registry").mkdir()
    members = {
        "ziglang": {"ziglang/zig": SCRIPT, "ziglang/lib/std.zig": b"", "ziglang/doc/x": b"", "ziglang/LICENSE": b"MIT"},
        "clang-tidy": {"clang_tidy/data/lib/clang/22/include/x.h": b"", "clang_tidy/data/bin/clang-tidy": b"x"},
    }

    def take(requirement: str, tree: Path, place: Callable[[str], str | None], **rest: str) -> int:
        asked.append(requirement)
        name, _, version = requirement.partition("==")
        stem = f"{name.replace('-', '_')}-{version}"
        wheel = wheel_of(tmp_path / "registry", members[name], stem)
        parts.extract(wheel, tree, place, package=rest["package"])
        return 0

    def nothing(package: str) -> object:
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(programs, "take", take)
    monkeypatch.setattr(importlib.metadata, "distribution", nothing)
    monkeypatch.setenv("BUILD_TORCHVISION_CACHE", str(tmp_path / "cache"))
    return asked


def test_the_compiler_comes_into_the_cache_once_and_runs(registry: list[str]) -> None:
    found = programs.pinned_clang()
    done = subprocess.run([found.zig, "clang", "--version"], capture_output=True, text=True, check=True)
    assert "clang version 22.1.8" in done.stdout
    assert (found.headers / "22/include/x.h").is_file()
    assert not (found.zig.parent / "doc").exists()
    assert not (found.headers.parents[1] / "bin").exists()
    assert programs.pinned_clang() == found
    assert registry == ["ziglang==0.17.1", "clang-tidy==22.1.8"]


def test_a_compiler_that_lost_a_file_is_fetched_again(registry: list[str]) -> None:
    found = programs.pinned_clang()
    (found.zig.parent / "lib/std.zig").unlink()
    assert programs.pinned_clang() == found
    assert (found.zig.parent / "lib/std.zig").exists()
    assert len(registry) == 4


def test_every_program_is_pinned_by_the_digest_of_its_record(
    registry: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wheels of this registry are not those of the table."""

    def checked(requirement: str, tree: Path, place: Callable[[str], str | None], **rest: str) -> int:
        name, _, version = requirement.partition("==")
        wheel = wheel_of(tree.parent, {f"{rest['package']}/zig": SCRIPT}, f"{name.replace('-', '_')}-{version}")
        parts.extract(wheel, tree, place, package=rest["package"], record=rest["record"])
        return 0

    monkeypatch.setattr(programs, "take", checked)
    with pytest.raises(BadInput, match="not the one that is pinned"):
        programs.pinned_clang()


def test_clangs_two_wheels_are_of_one_version() -> None:
    assert program_wheels()["clang-tidy"].version == "22.1.8"
    assert all(len(wheel.records) == 2 for wheel in program_wheels().values())


def test_uv_is_the_one_beside_this_program_where_there_is_one() -> None:
    assert programs.uv().is_file()
    assert programs.uv().is_relative_to(Path(sys.prefix))

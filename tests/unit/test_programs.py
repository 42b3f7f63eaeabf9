"""Programs that are fetched when first needed: once, by digest, whole, and runnable."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from _wheels import wheel_of

from build_torchvision.errors import BadInput
from build_torchvision.facts.programs import program_wheels
from build_torchvision.inputs import parts, pinned, programs

ROOT = Path(__file__).parents[2]
SCRIPT = b"#!/bin/sh\necho clang version 22.1.8\n"


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A registry of small wheels, and what was fetched of it. None of the programs is installed."""
    asked: list[str] = []
    (tmp_path / "registry").mkdir()
    members = {
        "ziglang": {"ziglang/zig": SCRIPT, "ziglang/lib/std.zig": b"", "ziglang/doc/x": b"", "ziglang/LICENSE": b"MIT"},
        "capstone": {"capstone/__init__.py": b"", "capstone/lib/libcapstone.so": b"", "capstone/include/x.h": b""},
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

    monkeypatch.setattr(pinned, "take", take)
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

    monkeypatch.setattr(pinned, "take", checked)
    with pytest.raises(BadInput, match="not the one that is pinned"):
        programs.pinned_clang()


def test_the_decoder_of_arm_code_comes_into_the_cache_where_it_is_not_installed(
    registry: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(sys, "path", list(sys.path))
    programs.aarch64_decoder()
    assert registry == [], "the tests' own environment has it"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "capstone" else real(name))
    programs.aarch64_decoder()
    assert registry == ["capstone==6.0.0a11"]
    assert (Path(sys.path[-1]) / "capstone/__init__.py").is_file()


def test_the_metadata_pins_what_the_table_pins() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned = {f"{package}=={wheel.version}" for package, wheel in program_wheels().items()}
    assert set(project["optional-dependencies"]["programs"]) == pinned
    names = [*project["dependencies"], *(name for extra in project["optional-dependencies"].values() for name in extra)]
    capstones = {name.partition(";")[0] for name in names if name.startswith("capstone")}
    assert capstones == {f"capstone=={program_wheels()['capstone'].version}"}


def test_clangs_two_wheels_are_of_one_version() -> None:
    assert program_wheels()["clang-tidy"].version == "22.1.8"
    assert all(len(wheel.records) == 2 for wheel in program_wheels().values())


def test_uv_is_the_one_beside_this_program_where_there_is_one() -> None:
    assert programs.uv().is_file()
    assert programs.uv().is_relative_to(Path(sys.prefix))

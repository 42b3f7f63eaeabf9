"""The main job on real input: TorchVision's source, a real torch's headers, a real compiler."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time
import zipfile
from pathlib import Path

import pytest
from _schemas import faults
from conftest import PYTHONS, TOOL, Build, build_torchvision

from build_torchvision.inputs.source import fetch_source
from build_torchvision.releases import release_named

pytestmark = pytest.mark.compiler


def members(wheel: Path, pattern: str) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if re.search(pattern, name)}


def test_one_compile_gives_a_wheel_for_each_isa_and_python(built: Build) -> None:
    assert {(isa, python): wheel.name.split("-manylinux")[0] for (isa, python), wheel in built.wheels.items()} == {
        (isa, python): f"torchvision-0.21.0+cpu.{isa}-cp{python}-cp{python}"
        for isa in ("avx2", "avx512")
        for python in PYTHONS
    }
    ran = int(re.search(r"(\d+) actions", built.said)[1])  # type: ignore[index]
    links = len(list(built.objects.rglob("*.so")))
    assert links == 3, "_C for each of two ISAs and image I/O for both, whatever the number of Pythons"
    libraries = len([path for path in built.objects.rglob("*.o") if "codecs" in path.parts])
    assert 60 < libraries < 120, "the image libraries are compiled too, once for both ISAs"
    assert ran - libraries < 70


def test_every_python_gets_the_same_code(built: Build) -> None:
    for isa in ("avx2", "avx512"):
        older, newer = (members(built.wheels[isa, python], r"^torchvision/.*\.so$") for python in ("312", "313"))
        assert len(older) == 2
        assert older == newer


def test_the_wheel_carries_its_proof_its_descriptor_and_its_licences(built: Build) -> None:
    inside = members(built.wheels["avx512", "313"], r"\.dist-info/")
    named = {name.split("/", 1)[1]: data for name, data in inside.items()}
    proof, facts = (json.loads(named[f"build_torchvision{end}"]) for end in (".proof.json", ".json"))
    assert faults("proof", proof) == []
    assert faults("descriptor", facts) == []
    assert proof["ok"]
    assert {"instructions", "ISA in use", "symbols", "codecs"} <= {check["name"] for check in proof["checks"]}
    assert facts["source"]["sha256"] == release_named("0.21.0").sha256
    assert (facts["torch"]["version"], facts["paired"], facts["torch"]["cxx11_abi"]) == ("2.6.0", True, False)
    assert b"x86_64 :: level :: v4" in named["variant.json"].replace(b'": {"level": ["v4', b" :: level :: v4") or (
        json.loads(named["variant.json"])["variants"]["avx512"]["x86_64"]["level"] == ["v4"]
    )
    assert "licenses/LICENSE" in named
    assert any(name.startswith("licenses/libjpeg") for name in named)


def test_an_interrupted_build_goes_on_and_gives_the_same_bytes(built: Build, tmp_path: Path) -> None:
    folders = ("--out", str(tmp_path / "dist"), "--build-dir", str(tmp_path / "objects"))
    command = [*TOOL, "build", "cpu-avx2", "--torchvision", "0.21.0", *folders]
    # what a shell starts in the background ignores Ctrl-C, and passes that on; a handler of Python's is not passed on
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    deadline = time.monotonic() + 300
    while not any(".pch" in log.read_text() for log in tmp_path.rglob(".ninja_log")):  # one step has ended
        assert process.poll() is None, "the build ended before it could be interrupted"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert not list(tmp_path.glob("dist/*.whl"))
    finished = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pch")}
    assert finished
    assert build_torchvision(*command[3:]).code == 0
    assert {path: path.stat().st_mtime_ns for path in finished} == finished, "what was finished is not done again"
    (again,) = tmp_path.glob("dist/*.whl")
    assert again.read_bytes() == built.wheels["avx2", "313"].read_bytes()


def test_a_failed_compile_shows_the_compilers_lines_and_the_command_that_repeats_it(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(fetch_source(release_named("0.21.0")).root, source)
    kernel = source / "torchvision/csrc/ops/cpu/nms_kernel.cpp"
    kernel.write_text(kernel.read_text() + "\n#error planted\n")
    objects = tmp_path / "objects"
    upstream = ("--source", source, "--operators", "upstream")  # ours would take the file's place
    ran = build_torchvision("build", "cpu-avx2", *upstream, "--build-dir", objects, "--out", tmp_path / "dist")
    assert ran.code == 4
    assert "planted" in ran.err
    repeat = re.search(r"Repeat it: (\(cd .*\))$", ran.err, re.MULTILINE)
    assert repeat, ran.err
    again = subprocess.run(repeat[1], shell=True, capture_output=True, text=True, check=False)
    assert again.returncode != 0
    assert "planted" in again.stderr

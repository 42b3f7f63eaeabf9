"""CUDA variants built for real, on a machine without GPU or CUDA: one from nothing, once more from a shared cache."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import build_torchvision

from build_torchvision.execute.patch_fatbin_object import faults
from build_torchvision.facts import releases
from build_torchvision.inputs.source import SourceAvailability

NAME = "cuda12_4-sm86-avx2"  # 0.21.0 beside torch 2.6.0: a true pair
STOCK = 7.8e6  # bytes of _C.so in the stock wheel 0.21.0 for CUDA 12.4 (x86-64, Python 3.13)

pytestmark = pytest.mark.compiler


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed; ./bootstrap pytest installs it")
    return found


@dataclass(frozen=True)
class Machine:
    """A build tree and a compiler cache of its own, with a remote cache shared with others."""

    root: Path
    remote: str

    def build(self, *arguments: str | Path, objects: str = "objects") -> tuple[list[dict[str, str]], str]:
        env = {"CCACHE_DIR": str(self.root / "ccache"), "CCACHE_REMOTE_STORAGE": self.remote}
        folders = ("--build-dir", self.root / objects, "--out", self.root / "dist")
        ran = build_torchvision("build", NAME, "--launcher", "ccache", "--json", *folders, *arguments, env=env)
        assert ran.code == 0, ran.err
        rows: list[dict[str, str]] = ran.json()
        return rows, ran.err


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Debian's Redis on the loopback, in a folder of its own."""
    server = program("redis-server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("redis")
    command = [
        server,
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--dir",
        str(folder),
        "--save",
        "",
        "--daemonize",
        "no",
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"redis://127.0.0.1:{port}"
        process.terminate()


@pytest.fixture(scope="module")
def first(redis: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Machine, list[dict[str, str]], str]:
    """A machine that built the variant from nothing, what it made and what it said."""
    program("ccache")
    machine = Machine(tmp_path_factory.mktemp("first"), redis)
    return machine, *machine.build()


def wheel_of(rows: list[dict[str, str]]) -> Path:
    (row,) = rows
    return Path(row["wheel"])


def test_a_variant_for_one_gpu_is_built_and_proved(first: tuple[Machine, list[dict[str, str]], str]) -> None:
    rows = first[1]
    proof = rows[0]["proof"]
    assert proof["ok"]  # type: ignore[index]  # a nested object
    details = {check["name"]: check["detail"] for check in proof["checks"]}  # type: ignore[index]
    assert details["device code"].startswith("1 images: a cubin for sm86 (native); no other architecture")
    assert "registered, each with its device code" in details["kernels"]
    with zipfile.ZipFile(wheel_of(rows)) as archive:
        assert archive.getinfo("torchvision/_C.so").file_size <= STOCK / 4


def test_a_wheel_for_another_gpu_is_not_what_its_name_says(
    first: tuple[Machine, list[dict[str, str]], str], tmp_path: Path
) -> None:
    wheel = wheel_of(first[1])
    renamed = tmp_path / wheel.name.replace("sm86", "sm80")
    shutil.copyfile(wheel, renamed)
    ran = build_torchvision("verify", "--static", "--json", renamed)
    assert ran.code == 1
    failed = {check["name"]: check["detail"] for check in ran.json()[0]["checks"] if not check["ok"]}
    assert (
        "holds a cubin for sm86, where torchvision-python313-cuda12_4-sm80-avx2 has a cubin for sm80"
        in (failed["device code"])
    )


def test_a_second_machine_compiles_nothing(first: tuple[Machine, list[dict[str, str]], str], tmp_path: Path) -> None:
    machine, rows, said = first
    assert "ccache: 0 hits" in said
    second = Machine(tmp_path, machine.remote)
    again, heard = second.build()
    assert " 0 misses, 0 not cached" in heard, heard
    assert wheel_of(again).read_bytes() == wheel_of(rows).read_bytes()


OBJECT = """
.section .nv_fatbin,"a",@progbits
.balign {align}
fatbinData: .quad 0
{more}
.section .nvFatBinSegment,"aw",@progbits
.balign 8
.long {magic}, 1
.quad fatbinData + {addend}
.quad 0
"""
FATBIN = (0xBA55ED50).to_bytes(4, "little") + b"\x01\x00\x10\x00" + (8).to_bytes(8, "little") + bytes(8)


def assembled(folder: Path, **planted: str) -> bytes:
    fields = {"align": "8", "more": "", "magic": "0x466243b1", "addend": "0", **planted}
    (folder / "host.s").write_text(OBJECT.format(**fields))
    subprocess.run(["g++", "-c", "host.s", "-o", "host.o"], cwd=folder, check=True)
    return (folder / "host.o").read_bytes()


def test_an_object_of_nvccs_form_takes_another_fat_binary(tmp_path: Path) -> None:
    assert list(faults(assembled(tmp_path), FATBIN)) == []


@pytest.mark.parametrize(
    ("planted", "why"),
    [
        ({"align": "4"}, "aligned to less than 8"),
        ({"magic": "0x466243b2"}, "not one wrapper"),
        ({"addend": "8"}, "references into"),
        ({"more": ".data\n.quad fatbinData"}, "2 references into"),
        ({"more": '.section .nv_fatbin,"a",@progbits,unique,2\n.quad 0'}, "2 sections .nv_fatbin"),
    ],
)
def test_an_object_of_another_form_is_refused(planted: dict[str, str], why: str, tmp_path: Path) -> None:
    assert why in "; ".join(faults(assembled(tmp_path, **planted), FATBIN))


@pytest.mark.parametrize("fatbin", [b"", FATBIN[:-1], b"\x7fELF" + FATBIN[4:]])
def test_a_fat_binary_that_is_not_whole_is_refused(fatbin: bytes, tmp_path: Path) -> None:
    assert "the new fat binary" in "; ".join(faults(assembled(tmp_path), fatbin))


@pytest.mark.nightly
def test_thirty_two_wheels_come_from_one_command(tmp_path: Path) -> None:
    """The pattern's true pairs with no other option; sm110, which torch 2.10.0 has no code for, is named."""
    within_reach("0.25.0")
    ran = build_torchvision(
        *("build", "torchvision-python313-cuda12_8-*-avx*", "--launcher", "none", "--json"),
        *("--build-dir", tmp_path / "objects", "--out", tmp_path / "dist"),
    )
    rows = ran.json()
    assert len({row["wheel"] for row in rows}) == 32
    assert all(row["proof"]["ok"] for row in rows)
    assert not any(".unpaired" in row["wheel"] for row in rows)
    assert "cuda12_8-sm110-avx2" in ran.err
    assert "has no code for sm110" in ran.err


@pytest.mark.nightly
def test_nvcc_from_the_registry_makes_the_same_kernels_as_clang(tmp_path: Path) -> None:
    within_reach("0.29.1")
    rows = {}
    for compiler in ("clang", "nvcc"):
        ran = build_torchvision(
            *("build", "cuda13_0-sm{86,90}-avx2", "--launcher", "none"),
            *("--cuda-compiler", compiler, "--json", "--build-dir", tmp_path / compiler, "--out", tmp_path / compiler),
            env={"PATH": os.pathsep.join(p for p in os.environ["PATH"].split(os.pathsep) if "cuda" not in p)},
        )
        assert ran.code == 0, ran.err
        rows[compiler] = {
            row["variant"]: [check["detail"] for check in row["proof"]["checks"] if check["name"] == "kernels"]
            for row in ran.json()
        }
    assert rows["clang"] == rows["nvcc"]


def within_reach(torchvision: str) -> None:
    """Skips, with the reason, where this machine cannot get the release's source."""
    problem = SourceAvailability().problem(releases()[torchvision])
    if problem:
        pytest.skip(f"the source of TorchVision {torchvision} cannot be had here: {problem}")

"""Damaged and hostile wheels end `verify --static` in a report or an error: no traceback, no file, little time."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest
from _elf import Object
from _mutations import INSIDE, WHOLE, Cost, cost_of, mutants, read_members, write
from test_audit import MEMCPY, OLD_STRING, TORCH, Wheel
from test_device import FATBINS, TABLE, TINY

from build_torchvision.errors import BadInput
from build_torchvision.variants import parse
from build_torchvision.verify.checks import Report
from build_torchvision.verify.session import VerifyOptions, verify_wheel
from build_torchvision.verify.static import audit_wheel
from build_torchvision.wheel.descriptor import PROOF

SECONDS, MEBIBYTES = 5.0, 1024.0
SAMPLE, ALL = 66, 2200


def torch_site(folder: Path, cuda: str | None) -> Path:
    """The site-packages of a torch 2.6.0 with the files that an audit reads."""
    package = folder / "torch"
    (package / "include").mkdir(parents=True)
    (package / "lib").mkdir()
    version = f"__version__ = '2.6.0{'+cu' + cuda.replace('.', '') if cuda else '+cpu'}'\ncuda = {cuda!r}\n"
    (package / "version.py").write_text(version, encoding="utf-8")
    config = package / "share" / "cmake" / "Torch"
    config.mkdir(parents=True)
    (config / "TorchConfig.cmake").write_text('set(TORCH_CXX_FLAGS "-D_GLIBCXX_USE_CXX11_ABI=0")\n', encoding="utf-8")
    for name in (*TORCH, *(("libc10_cuda.so", "libtorch_cuda.so") if cuda else ())):
        defined = [OLD_STRING] if name == "libc10.so" else []
        (package / "lib" / name).write_bytes(Object(soname=name, defined=defined).build())
    return folder


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A CPU wheel and a CUDA wheel that carry a report."""
    folder = tmp_path_factory.mktemp("bases")
    found = []
    for variant in ("torchvision-python313-cpu-avx512", "torchvision-python313-cuda12_4-sm90-avx512"):
        wheel = Wheel(variant)
        if parse(variant).cuda:
            wheel.main = Object(
                code=wheel.main.code,
                rodata=wheel.main.rodata,
                needed=wheel.main.needed,
                undefined={OLD_STRING: None, "memcpy": MEMCPY},
                runpath="$ORIGIN",
                fatbin=(FATBINS / "sm90.fatbin").read_bytes(),
                registers=(TINY, TABLE),
            )
        info = f"torchvision-{wheel.version}.dist-info"
        report = {**Report(variant=variant, checks=()).to_json(), "record_sha256": "0" * 64}
        wheel.tamper = lambda files, info=info, report=report: files.update(
            {f"{info}/{PROOF}": json.dumps(report).encode()}
        )  # type: ignore[misc]
        found.append(wheel.write(folder))
    return found


def verified(wheel: Path, torch: Path) -> int:
    """As `verify --static --torch FOLDER`: 1 where a check does not hold."""
    return 0 if verify_wheel(wheel, options=VerifyOptions(static_only=True, torch=str(torch))).ok else 1


def run(bases: list[Path], count: int, seed: int, folder: Path) -> list[tuple[str, Path, Cost]]:
    sites = {base.name: torch_site(folder / base.stem, "12.4" if "cu124" in base.name else None) for base in bases}
    inside = folder / "wheels"
    inside.mkdir()
    outside = {path for path in folder.rglob("*") if inside not in path.parents}
    found = []
    for kind, path in mutants(bases, count, inside, seed):
        found.append((kind, path, cost_of(lambda path=path: verified(path, sites[path.name]))))  # type: ignore[misc]
        shutil.rmtree(path.parent)
    assert {path for path in folder.rglob("*") if inside not in path.parents} == outside, "a file was written outside"
    assert list(inside.iterdir()) == []
    return found


def check_costs(found: list[tuple[str, Path, Cost]]) -> None:
    broken = {f"{kind} ({path.parent.name}): {cost.traceback[-600:]}" for kind, path, cost in found if cost.traceback}
    assert broken == set()
    slow = [(kind, path.parent.name, cost) for kind, path, cost in found if cost.seconds > SECONDS]
    assert slow == []
    large = [(kind, path.parent.name, cost) for kind, path, cost in found if cost.mebibytes > MEBIBYTES]
    assert large == []
    assert {cost.code for _, _, cost in found} <= {0, 1, 2}


def test_a_sample_of_hostile_wheels_ends_in_reports_and_errors(bases: list[Path], tmp_path: Path) -> None:
    check_costs(run(bases, SAMPLE, 1, tmp_path))


@pytest.mark.nightly
def test_thousands_of_hostile_wheels_end_in_reports_and_errors(bases: list[Path], tmp_path: Path) -> None:
    found = run(bases, ALL, 2, tmp_path)
    check_costs(found)
    assert {kind for kind, _, _ in found} == {*WHOLE, *INSIDE}
    assert sum(cost.code == 1 for _, _, cost in found) > ALL / 4, "most damage is a check that does not hold"


def test_what_a_command_raises_is_seen() -> None:
    def fails() -> int:
        raise ValueError("subsection not found")

    assert "subsection not found" in cost_of(fails).traceback
    assert cost_of(lambda: bytearray(300 << 20) and 0).mebibytes > 300


def refused(wheel: Path) -> bool:
    try:
        return not audit_wheel(wheel).ok
    except BadInput:
        return True


def test_an_empty_name_and_a_module_of_zeros_are_named(bases: list[Path], tmp_path: Path) -> None:
    members = read_members(bases[0])
    nameless = zipfile.ZipInfo("placeholder")
    nameless.filename = ""
    entries = [(zipfile.ZipInfo(name), data) for name, data in members.items()]
    path = tmp_path / bases[0].name
    write(path, [*entries, (nameless, b"import os")])
    assert refused(path)
    write(path, [(info, data + bytes(60 << 20) if info.filename.endswith("_C.so") else data) for info, data in entries])
    cost = cost_of(lambda: int(not audit_wheel(path).ok))
    assert (cost.code, cost.traceback) == (1, "")
    assert cost.seconds < SECONDS
    failed = {check.name: check.detail for check in audit_wheel(path).failed}
    assert "60 MiB, more than any extension module" in failed["archive"]


def test_a_member_with_a_flipped_byte_is_named(bases: list[Path], tmp_path: Path) -> None:
    data = bytearray(bases[0].read_bytes())
    place = data.index(b"torchvision/_C.so") + 600
    data[place] ^= 0xFF
    path = tmp_path / bases[0].name
    path.write_bytes(data)
    failed = {check.name: check.detail for check in audit_wheel(path).failed}
    assert "torchvision/_C.so cannot be read" in failed["archive"]

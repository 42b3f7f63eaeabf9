"""Each shared object is decoded once per command, however many wheels carry it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from _elf import Object
from test_audit import ADD_ZMM, FMA_YMM, RET, Wheel

from build_torchvision.binary.elf import NotElf, defined_symbols, elf_of
from build_torchvision.verify import decoding
from build_torchvision.verify.decoding import forget, scan_ahead, scan_of, scan_wheels_ahead
from build_torchvision.verify.static import audit_wheel

NAMES = [f"torchvision-python3{minor}-cpu-avx512" for minor in (11, 12, 13)]


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    forget()
    yield
    forget()


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the objects that were really decoded in this process."""
    sizes: list[int] = []
    scan = decoding.scan

    def noted(code: tuple[object, ...], platform: str) -> object:
        sizes.append(len(code))
        return scan(code, platform)  # type: ignore[arg-type]

    monkeypatch.setattr(decoding, "scan", noted)
    return sizes


def wheel_of(name: str, folder: Path) -> Path:
    wheel = Wheel(name)
    python = f"cp{name[18:21]}"
    wheel.tag = f"{python}-{python}-manylinux_2_28_x86_64"
    return wheel.write(folder)


def test_wheels_with_the_same_objects_are_decoded_once(decoded: list[int], tmp_path: Path) -> None:
    reports = [audit_wheel(wheel_of(name, tmp_path)) for name in NAMES]
    assert all(report.ok for report in reports)
    assert len(decoded) == 2, "one main module and one image module, for three wheels"


def test_another_object_is_decoded_by_itself(decoded: list[int], tmp_path: Path) -> None:
    wheel = Wheel()
    wheel.main.code = ADD_ZMM + FMA_YMM + FMA_YMM + RET
    audit_wheel(wheel.write(tmp_path))
    audit_wheel(wheel_of(NAMES[0], tmp_path))
    assert len(decoded) == 3


def test_what_was_scanned_ahead_in_other_processes_is_not_decoded_again(
    decoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "WORTH_A_PROCESS", 1)
    monkeypatch.setattr(decoding.os, "sched_getaffinity", lambda process: {0, 1})
    objects = [Object(code=FMA_YMM * count + RET).build() for count in (1, 2, 3)]
    scan_ahead([*objects, *objects, b"no ELF file"])
    assert [scan_of(data, "x86_64").total for data in objects] == [2, 3, 4]
    assert decoded == []


def test_symbols_of_a_library_are_read_once_and_again_when_it_changes(tmp_path: Path) -> None:
    library = tmp_path / "libtorch.so"
    library.write_bytes(Object(defined=["one"]).build())
    assert defined_symbols(library) is defined_symbols(library)
    library.write_bytes(Object(defined=["one", "two"]).build())
    assert defined_symbols(library) == {"one", "two"}


def test_a_damaged_object_is_an_error_each_time_and_no_error_ahead(tmp_path: Path) -> None:
    broken = tmp_path / "torchvision-0.21.0-cp313-cp313-manylinux_2_28_x86_64.whl"
    broken.write_bytes(b"no wheel")
    scan_wheels_ahead([broken, tmp_path / "absent.whl"])
    for _ in range(2):
        with pytest.raises(NotElf):
            elf_of(b"\x7fELF")


def test_modules_that_differ_in_data_alone_are_decoded_once(decoded: list[int]) -> None:
    first, second = (Object(code=FMA_YMM + RET, rodata=text).build() for text in (b"one GPU", b"another, with more"))
    assert first != second
    assert elf_of(first).code == elf_of(second).code  # as linkers lay it out: data comes after code
    assert scan_of(first, "x86_64") == scan_of(second, "x86_64")
    assert len(decoded) == len(elf_of(first).code)
    before = len(decoded)
    assert scan_of(Object(code=FMA_YMM + FMA_YMM + RET).build(), "x86_64").total == scan_of(first, "x86_64").total + 1
    assert len(decoded) > before

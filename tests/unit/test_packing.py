"""Wheels as files: the zip that is written, and what of many wheels is done once."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import pytest
from _elf import Object

from build_torchvision.errors import BadInput
from build_torchvision.wheel import archive, bundling
from build_torchvision.wheel.archive import Member
from build_torchvision.wheel.bundling import Bundle, RawWheel, find_bundles

INFO = "torchvision-1.dist-info"
FILES = {
    f"{INFO}/METADATA": b"Name: torchvision\n",
    "torchvision/_C.so": bytes(range(256)) * 300,
    "torchvision/__init__.py": b"",
    "torchvision.libs/libx-0123.so.1.2": b"library",
    "torchvision/datasets/été.txt": "été".encode(),
}


def members(files: dict[str, bytes]) -> dict[str, Member]:
    return {path: Member(data) for path, data in files.items()}


@pytest.mark.parametrize("compress", [True, False])
def test_a_wheel_is_the_zip_that_the_standard_library_would_write(tmp_path: Path, compress: bool) -> None:
    wheel = archive.write(members(FILES), tmp_path / "ours.whl", compress=compress)
    with zipfile.ZipFile(wheel) as read, zipfile.ZipFile(tmp_path / "theirs.whl", "w") as made:
        assert read.testzip() is None
        assert read.namelist()[-2:] == [f"{INFO}/METADATA", f"{INFO}/RECORD"]
        for name in read.namelist():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
            info.create_system = 3
            info.external_attr = (0o100755 if ".so" in name else 0o100644) << 16
            made.writestr(info, read.read(name), compresslevel=archive.LEVEL)
        assert {name: read.read(name) for name in FILES} == FILES
    assert wheel.read_bytes() == (tmp_path / "theirs.whl").read_bytes()


def test_what_wheels_share_is_compressed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = Member(FILES["torchvision/_C.so"])
    compressed = []
    start = zlib.compressobj

    def counted(*arguments: int) -> object:
        compressed.append(arguments)
        return start(*arguments)

    monkeypatch.setattr(zlib, "compressobj", counted)
    for number in range(3):
        files = {f"{INFO}/METADATA": Member(str(number).encode()), "torchvision/_C.so": shared}
        archive.write(files, tmp_path / f"{number}.whl")
    assert len(compressed) == 3 * 2 + 1  # METADATA and RECORD of each, and the module


def test_what_no_wheel_can_be_is_refused_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match=r"0 \.dist-info folders"):
        archive.write(members({"torchvision/x.py": b""}), tmp_path / "a.whl")
    many = dict.fromkeys(map(str, range(1 << 16)), Member(b""))
    with pytest.raises(BadInput, match="65536 files or more"):
        archive.write({**members(FILES), **many}, tmp_path / "a.whl")
    monkeypatch.setattr(Member, "deflated", property(lambda self: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        archive.write(members(FILES), tmp_path / "a.whl")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(BadInput, match="There is no such file"):
        archive.read(tmp_path / "a.whl")
    (tmp_path / "b.whl").write_bytes(b"no zip")
    with pytest.raises(BadInput, match="It is not a whole wheel"):
        archive.read(tmp_path / "b.whl")


# --- what auditwheel is asked -----------------------------------------------------------------------------------------


class Auditwheel:
    """Stands for auditwheel: bundles libx into the image module, and remembers the wheels that it was given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, writes: str = "torchvision/image.so") -> None:
        self.given: list[list[RawWheel]] = []
        self.writes = writes
        monkeypatch.setattr(bundling, "_repair", self.repair)

    def repair(self, wheels: Sequence[RawWheel], folders: Sequence[Path], scratch: Path) -> list[Bundle]:
        self.given.append(list(wheels))
        return [self.bundle(wheel) for wheel in wheels]

    def bundle(self, wheel: RawWheel) -> Bundle:
        image = wheel.files["torchvision/image.so"].data
        files = {self.writes: Member(image + b" patched"), "torchvision.libs/libx.so": Member(b"x")}
        return Bundle(platform=f"manylinux_2_28_{wheel.isa}", files=files)


def raw(isa: str, sm: str, image: str = "") -> RawWheel:
    """A wheel whose device code is of `sm`, and whose image module is of `isa`."""
    files = {
        f"{INFO}/METADATA": b"",
        "torchvision/_C.so": Object().build() + f"{isa} {sm}".encode(),
        "torchvision/image.so": Object().build() + f"{isa}{image}".encode(),
    }
    return RawWheel(name="torchvision-1-py3-none-linux_x86_64.whl", isa=isa, files=members(files))


def test_wheels_that_differ_in_device_code_are_repaired_once_an_isa(monkeypatch: pytest.MonkeyPatch) -> None:
    auditwheel = Auditwheel(monkeypatch)
    wheels = [raw(isa, sm) for sm in ("sm80", "sm90", "sm100") for isa in ("avx2", "avx512")]
    bundles = find_bundles(wheels, [], Path("unused"))
    assert auditwheel.given == [wheels[:2], []]
    for wheel, bundle in zip(wheels, bundles, strict=True):
        assert bundle.platform == f"manylinux_2_28_{wheel.isa}"
        assert bundle.files["torchvision/image.so"].data == wheel.files["torchvision/image.so"].data + b" patched"


def test_a_module_that_is_rewritten_is_compared_by_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    auditwheel = Auditwheel(monkeypatch)
    wheels = [raw("avx2", "sm80"), raw("avx2", "sm90"), raw("avx2", "sm100", image="of another compiler")]
    bundles = find_bundles(wheels, [], Path("unused"))
    assert auditwheel.given == [[wheels[0]], [wheels[2]]]
    assert b"of another compiler" in bundles[2].files["torchvision/image.so"].data
    assert bundles[0] is bundles[1]


def test_a_bill_of_materials_names_the_wheel_that_it_is_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """auditwheel describes what it took from a distribution's packages in a document that names the wheel."""
    versions = ("1.0+cu130.sm10.avx2", "1.0+cu130.sm100.avx2", "1.0+cu130.sm90.avx2")
    wheels = []
    for version in versions:
        info, one = f"torchvision-{version}.dist-info", raw("avx2", version)
        files = {path.replace(INFO, info): file for path, file in one.files.items()}
        wheels.append(RawWheel(name=f"torchvision-{version}-py3-none-linux_x86_64.whl", isa="avx2", files=files))
    purl, first = "pkg:pypi/torchvision@{}?file_name=torchvision-{}-py3-none-linux_x86_64.whl", versions[0]
    text = json.dumps({"purl": purl.format(*[quote(first, safe="")] * 2), "version": first, "tool": "auditwheel 1.0"})
    auditwheel = Auditwheel(monkeypatch)
    monkeypatch.setattr(
        auditwheel,
        "bundle",
        lambda wheel: Bundle(
            platform="manylinux_2_28_x86_64",
            files={f"torchvision-{first}.dist-info/sboms/auditwheel.cdx.json": Member(text.encode())},
        ),
    )
    bundles = find_bundles(wheels, [], Path("unused"))
    assert auditwheel.given == [wheels[:1], []]
    for version, bundle in zip(versions, bundles, strict=True):
        ((path, file),) = bundle.files.items()
        assert path == f"torchvision-{version}.dist-info/sboms/auditwheel.cdx.json"
        assert json.loads(file.data) == {
            "purl": purl.format(*[quote(version, safe="")] * 2),
            "version": version,
            "tool": "auditwheel 1.0",
        }


def test_another_file_about_the_wheel_itself_is_not_given_to_another(monkeypatch: pytest.MonkeyPatch) -> None:
    auditwheel = Auditwheel(monkeypatch, writes=f"{INFO}/made-for.txt")
    wheels = [raw("avx2", sm) for sm in ("sm80", "sm90", "sm100")]
    find_bundles(wheels, [], Path("unused"))
    assert auditwheel.given == [wheels[:1], wheels[1:]]


def test_modules_that_ask_for_other_libraries_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    auditwheel = Auditwheel(monkeypatch)
    other = raw("avx2", "sm90")
    changed = Object(needed=("libother.so",)).build()
    other = RawWheel(name=other.name, isa="avx2", files={**other.files, "torchvision/_C.so": Member(changed)})
    wheels = [raw("avx2", "sm80"), other]
    find_bundles(wheels, [], Path("unused"))
    assert auditwheel.given == [wheels, []]


def test_wheels_of_one_name_do_not_take_each_others_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wheels for a variant-aware index have no local version: only their label, which comes last, tells them apart."""

    def bundle(command: list[str | Path], **_: object) -> None:
        out = Path(command[command.index("-w") + 1])
        for wheel in map(Path, command[command.index("-w") + 2 :]):
            made = out / wheel.name.replace("linux_", "manylinux_2_28_")
            assert not made.exists()
            archive.write({**archive.read(wheel), "torchvision/new": Member(wheel.read_bytes())}, made)

    monkeypatch.setattr(bundling, "run", bundle)
    wheels = [raw(isa, "sm90") for isa in ("avx2", "avx512")]
    bundles = find_bundles(wheels, [], tmp_path)
    for wheel, found in zip(wheels, bundles, strict=True):
        assert wheel.files["torchvision/_C.so"].data in found.files["torchvision/new"].data
        assert found.platform == "manylinux_2_28_x86_64"

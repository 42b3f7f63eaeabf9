"""What the table says of a release is compared with its modules: their names, operators and ABI."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest
from _elf import CODE, Object
from test_audit import Wheel, failing, schemas
from test_hostile_wheels import torch_site

from build_torchvision.binary.elf import Elf, read_elf
from build_torchvision.binary.elf_file import EM_AARCH64, EM_X86_64
from build_torchvision.facts import releases
from build_torchvision.facts.operators import operators_of
from build_torchvision.variants import parse
from build_torchvision.verify import libraries as lib
from build_torchvision.verify import static
from build_torchvision.verify.libraries import TorchFacts, check_abi, check_extensions, policies
from build_torchvision.verify.operators import check_operators, computing_modules, registered_in
from build_torchvision.verify.package import Package, check_requirement
from build_torchvision.verify.session import VerifyOptions, verify_wheel
from build_torchvision.verify.stable_abi import check_stable_abi
from build_torchvision.verify.static import audit_wheel

CPU = parse("torchvision-python313-cpu-avx512")
STABLE = releases()["0.29.1"]
SHIMS = ("aoti_torch_empty_strided", "torch_call_dispatcher", "aoti_torch_library_def")
UNSTABLE = "_ZN2at5emptyEN3c108ArrayRefIlEE"


def modules(*names: str) -> lib.Libraries:
    return lib.Libraries(
        extensions={f"torchvision/{name}.so": read_elf(Object().build()) for name in names}, bundled={}
    )


def stable(*symbols: str) -> dict[str, Elf]:
    return {"torchvision/_C_stable.so": read_elf(Object(undefined=dict.fromkeys(symbols)).build())}


# --- modules ----------------------------------------------------------------------------------------------------------


def test_modules_of_any_name_and_number_are_those_of_the_release() -> None:
    for release in releases().values():
        assert check_extensions(modules(*release.extensions), CPU, release.extensions).ok


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (("_C_stable",), "torchvision/image_stable.so is missing"),
        (("_C_stable", "image_stable", "_C"), "torchvision/_C.so is none of the release's modules"),
        (("_C", "image"), "torchvision/_C_stable.so is missing"),
        ((), "there is no extension module"),
    ],
)
def test_a_row_that_lies_about_its_modules_turns_it_red(found: tuple[str, ...], said: str) -> None:
    check = check_extensions(modules(*found), CPU, STABLE.extensions)
    assert not check.ok
    assert said in check.detail


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("_C_stable", "image_stable"), "torchvision/_C_stable.so is missing"),
        (("_C",), "torchvision/image.so is none of the release's modules"),
        (("_C", "image", "video_reader"), "torchvision/video_reader.so is missing"),
    ],
)
def test_a_wheel_does_not_hold_beside_a_row_that_lies_about_its_modules(
    row: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = Wheel().write(tmp_path)
    assert audit_wheel(wheel).ok
    lying = {**releases(), "0.21.0": replace(releases()["0.21.0"], extensions=row)}
    monkeypatch.setattr(static, "releases", lambda: lying)
    failed = failing(audit_wheel(wheel))
    assert failed.keys() == {"extensions"}
    assert said in failed["extensions"]


def test_modules_of_an_unlisted_release_are_listed_and_not_judged() -> None:
    check = check_extensions(modules("_D", "video"), CPU, None)
    assert (check.ok, check.judged) == (True, False)
    assert "torchvision/_D.so, torchvision/video.so" in check.detail
    assert not check_extensions(modules(), CPU, None).ok
    arm = replace(CPU, isa="armv9")
    assert not check_extensions(modules("_D"), arm, None).ok, "the platform is judged all the same"


# --- operators --------------------------------------------------------------------------------------------------------


def registering(release: str) -> dict[str, bytes]:
    return {"torchvision/a.so": schemas("torchvision", release), "torchvision/b.so": schemas("image", release)}


@pytest.mark.parametrize("release", ["0.21.0", "0.26.0", "0.28.0", "0.29.1"])
def test_operators_are_those_of_the_release_in_modules_of_any_name(release: str) -> None:
    assert check_operators(registering(release), operators_of(release)).ok


def test_what_the_descriptor_calls_ours_is_shown_and_has_to_be_registered() -> None:
    check = check_operators(registering("0.28.0"), operators_of("0.28.0"), ["torchvision::qnms"], ["torchvision::nms"])
    assert "CPU kernels of ours: qnms; GPU kernels of ours: nms; all others are upstream's" in check.detail
    check = check_operators(registering("0.27.0"), operators_of("0.27.0"), ["torchvision::qnms"])
    assert check.detail == "the descriptor says that torchvision::qnms is ours, and no module registers it"
    assert not check.ok


def test_a_missing_new_operator_turns_it_red() -> None:
    check = check_operators(registering("0.27.0"), operators_of("0.28.0"))
    assert "torchvision::qnms is registered nowhere" in check.detail
    assert "torchvision::qroi_align is registered nowhere" in check.detail
    assert not check.ok


def test_a_wheel_without_one_of_its_operators_does_not_hold(tmp_path: Path) -> None:
    wheel = Wheel()
    wheel.main.rodata = wheel.main.rodata.replace(b"torchvision::deform_conv2d(", b"torchvision::deform_conv9d(")
    failed = failing(audit_wheel(wheel.write(tmp_path)))
    assert failed.keys() == {"operators"}
    assert "torchvision::deform_conv2d is registered nowhere" in failed["operators"]


def test_an_operator_that_the_table_does_not_list_turns_it_red() -> None:
    check = check_operators(registering("0.28.0"), operators_of("0.25.0"))
    assert "registers torchvision::box_iou_rotated, which the table of this release does not list" in check.detail


def test_operators_of_an_unlisted_release_are_listed_and_not_judged() -> None:
    check = check_operators({"torchvision/_C.so": b"\0torchvision::fresh(Tensor x) -> Tensor\0"}, None)
    assert (check.ok, check.judged) == (True, False)
    assert "1 of torchvision" in check.detail


def test_a_stable_module_names_its_namespace_once() -> None:
    code = b"\0torchvision\0nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor\0"
    assert registered_in(code, ["torchvision::nms", "torchvision::roi_align"]) == {"torchvision::nms"}
    assert registered_in(code.replace(b"torchvision\0", b"elsewhere\0"), ["torchvision::nms"]) == frozenset()


QNMS = b"torchvision\0qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor\0"


def merged(machine: int, *, refers: bool) -> bytes:
    """A module whose linker kept the schema of nms as the end of qnms's, and code that refers to it or does not."""
    middle = Object(rodata=QNMS, machine=machine, code=bytes(8)).build().index(b"nms(")
    middle += 0 if refers else 3
    if machine == EM_X86_64:  # lea rdi, [rip + distance], at the first address of the code; then ret
        code = b"\x48\x8d\x3d" + struct.pack("<i", middle - (CODE + 7)) + b"\xc3"
    else:  # adrp x1; add x1, x1, #n
        assert middle >> 12 == CODE >> 12, "so the distance in pages is 0"
        code = struct.pack("<II", 0x90000001, 0x91000021 | (middle & 0xFFF) << 10)
    return Object(rodata=QNMS, machine=machine, code=code).build()


@pytest.mark.parametrize("machine", [EM_X86_64, EM_AARCH64])
def test_a_schema_that_is_the_end_of_another_counts_where_code_refers_to_it(machine: int) -> None:
    both = ["torchvision::nms", "torchvision::qnms"]
    assert registered_in(merged(machine, refers=True), both) == set(both)
    assert registered_in(merged(machine, refers=False), both) == {"torchvision::qnms"}
    assert registered_in(QNMS, both) == {"torchvision::qnms"}, "what is no ELF file refers to nothing"


def test_image_coders_alone_do_not_show_the_isa() -> None:
    named = {"torchvision/x.so": schemas("torchvision"), "torchvision/y.so": schemas("image")}
    assert computing_modules(named) == ("torchvision/x.so",)
    both = {"torchvision/all.so": schemas("torchvision") + schemas("image")}
    assert computing_modules(both) == ("torchvision/all.so",)


# --- the stable ABI ---------------------------------------------------------------------------------------------------


def test_the_report_says_what_the_audit_of_the_abi_finds() -> None:
    check = check_stable_abi(stable(*SHIMS, "memcpy"), STABLE)
    assert check is not None
    assert check.ok
    assert "3 shim symbols, 0 unstable, oldest torch 2." in check.detail


def test_one_unstable_symbol_turns_it_red() -> None:
    check = check_stable_abi(stable(*SHIMS, UNSTABLE), STABLE)
    assert check is not None
    assert not check.ok
    assert "uses 1 unstable symbols of torch, such as at::empty" in check.detail
    assert "TORCH_TARGET_VERSION" in check.detail


def test_a_module_that_is_none_of_the_releases_is_named() -> None:
    extra = {"torchvision/_C.so": read_elf(Object(undefined={UNSTABLE: None}).build())}
    check = check_stable_abi({**stable(*SHIMS), **extra}, STABLE)
    assert check is not None
    assert check.ok
    assert "torchvision/_C.so is none of the release's modules" in check.detail


def test_a_symbol_newer_than_the_oldest_torch_turns_it_red() -> None:
    older = replace(STABLE, torch_requirement=">=2.9.0", torch="2.9.0")
    check = check_stable_abi(stable("torch_call_dispatcher"), older)  # it came with torch 2.10
    assert check is not None
    assert not check.ok
    assert "the release admits 2.9.0" in check.detail


def test_a_module_without_torch_turns_it_red_and_other_releases_are_not_asked() -> None:
    check = check_stable_abi(stable("memcpy"), STABLE)
    assert check is not None
    assert "uses no symbol of torch" in check.detail
    assert check_stable_abi(stable(UNSTABLE), releases()["0.28.0"]) is None


def test_a_module_of_stable_symbols_has_no_strings_of_an_abi() -> None:
    torch = TorchFacts(version="2.14.0", cuda=None, cxx11_abi=True, lib_dir=None)
    assert check_abi(lib.Libraries(extensions=stable(*SHIMS), bundled={}), torch).ok
    assert not check_abi(lib.Libraries(extensions=stable("memcpy"), bundled={}), torch).ok


# --- pairs and levels -------------------------------------------------------------------------------------------------


def stable_wheel(folder: Path, requirement: str = "torch>=2.14.0") -> Path:
    wheel = Wheel()
    local = wheel.version.partition("+")[2]
    wheel.version, wheel.requirement = f"0.29.1+{local}", requirement
    wheel.descriptor["torchvision"] = "0.29.1"
    wheel.descriptor["torch"] = {**wheel.descriptor["torch"], "version": "2.14.0"}
    return wheel.write(folder)


@pytest.mark.parametrize("torch", ["2.14.0", "2.14.1", "2.15.0"])
def test_a_stable_wheel_is_right_beside_every_torch_that_it_admits(torch: str, tmp_path: Path) -> None:
    check = check_requirement(Package(stable_wheel(tmp_path)), torch)
    assert check.ok, check.detail


def test_an_older_torch_is_not_admitted(tmp_path: Path) -> None:
    assert "requires torch>=2.14.0" in check_requirement(Package(stable_wheel(tmp_path)), "2.13.0").detail
    pinned = check_requirement(Package(stable_wheel(tmp_path, "torch==2.14.0")), "2.14.0")
    assert "the release pins torch>=2.14.0" in pinned.detail


def test_levels_are_those_of_auditwheel() -> None:
    levels = dict(policies("x86_64"))
    assert levels[2, 28].name == "manylinux_2_28"
    assert "libc.so.6" in levels[2, 28].libraries
    assert "2.28" in levels[2, 28].symbols["GLIBC"]
    assert "2.29" not in levels[2, 28].symbols["GLIBC"]
    assert dict(policies("aarch64"))[2, 28].libraries


def unlisted(folder: Path) -> Path:
    wheel = Wheel()
    local = wheel.version.partition("+")[2]
    wheel.version, wheel.requirement = f"0.30.0a0+{local}.unlisted", "torch==2.6.0"
    wheel.descriptor |= {"torchvision": "0.30.0a0", "listed": False, "paired": False}
    wheel.descriptor["source"] = {**wheel.descriptor["source"], "version": "0.30.0a0", "origin": "local"}
    return wheel.write(folder)


def test_a_release_that_no_row_lists_is_judged_as_far_as_possible(tmp_path: Path) -> None:
    report = audit_wheel(unlisted(tmp_path))
    assert failing(report) == {}
    assert {check.name for check in report.not_judged} == {"extensions", "operators"}
    beside = VerifyOptions(static_only=True, torch=str(torch_site(tmp_path / "torch", None)))
    assert verify_wheel(unlisted(tmp_path), options=beside).ok


def test_a_fault_of_an_unlisted_release_is_seen_all_the_same(tmp_path: Path) -> None:
    path = unlisted(tmp_path)
    renamed = path.rename(path.with_name(path.name.replace("avx512", "avx2")))
    failed = failing(audit_wheel(renamed))
    assert "renamed" in failed["identity"]
    assert "beyond avx2" in failed["instructions"]

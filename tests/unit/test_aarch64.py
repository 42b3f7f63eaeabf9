"""AArch64 code is decoded to the last word, and a fault planted in it is seen. No compiler, no emulator, no network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from test_audit import NEW_STRING, Wheel, failing

from build_torchvision import prefetch
from build_torchvision.binary.elf import Section
from build_torchvision.binary.instructions import Scan, allowed_features, beyond, evidence, scan
from build_torchvision.binary.instructions.aarch64 import BASE, NAMES
from build_torchvision.errors import BadInput, MissingInput
from build_torchvision.execute.transform_ir import retarget
from build_torchvision.facts import isas
from build_torchvision.inputs import apt, emulator
from build_torchvision.inputs.resolve import BuildRequest
from build_torchvision.releases import release_named
from build_torchvision.variants import parse
from build_torchvision.verify import _time_boxed_tests, runtime
from build_torchvision.verify.processor import check_processor, features_of
from build_torchvision.verify.static import audit_wheel
from build_torchvision.verify.upstream import judge, read_report


def words(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4, "little") for number in numbers)


RET = words(0xD65F03C0)
FADD_NEON = words(0x4E22D420)  # fadd v0.4s, v1.4s, v2.4s
FADD_HALF = words(0x4E421420)  # fadd v0.8h, v1.8h, v2.8h
SQRDMLAH = words(0x2E428420)
CRC = words(0x1AC24020)
LDADD = words(0xF8E20000)  # ldaddal x2, x0, [x0]
LDADD_HELPER = words(0xF8E00020)  # ldaddal x0, x0, [x1]: libgcc's lse.S
UDOT = words(0x6E829420)
LDAPR = words(0xF8BFC020)
FCMLA = words(0x6E82CC20)
ADD_SVE = words(0x04A20020)  # add z0.s, z1.s, z2.s
HISTCNT = words(0x45A2C020)  # SVE2
BFDOT = words(0x6E42FC20)
USDOT = words(0x4E829C20)
CLAMP = words(0x64A22420)  # fclamp z0.s, z1.s, z2.s: SVE2.1 or SME2
SMSTART = words(0xD503477F)
AESE = words(0x4E284820)
BEXT = words(0x4502B020)
IRG = words(0x9ADF1020)
PACIASP, BTI, RETAA = words(0xD503233F), words(0xD503245F), words(0xD65F0BFF)
MRS_FPCR, MRS_RNDR = words(0xD53B4400), words(0xD53B2400)
NOTHING = words(0xFFFFFFFF)
TABLE = words(0x00000018)  # a jump table's entry: `udf #24`
ZERO = words(0)


def scanned(*code: bytes) -> Scan:
    return scan([Section(name=".text", address=0x1000, data=b"".join(code))], "aarch64")


@pytest.mark.parametrize(
    ("code", "armv8_2", "armv9"),
    [
        (FADD_NEON, True, True),
        (FADD_HALF, True, True),
        (SQRDMLAH, True, True),
        (CRC, True, True),
        (LDADD, True, True),
        (PACIASP, True, True),  # hints: older CPUs do nothing there
        (BTI, True, True),
        (MRS_FPCR, True, True),
        (UDOT, False, True),
        (LDAPR, False, True),
        (FCMLA, False, True),
        (ADD_SVE, False, True),
        (HISTCNT, False, True),
        (BFDOT, False, False),
        (USDOT, False, False),
        (CLAMP, False, False),
        (SMSTART, False, False),
        (AESE, False, False),
        (BEXT, False, False),
        (IRG, False, False),
        (RETAA, False, False),
        (MRS_RNDR, False, False),
    ],
)
def test_an_instruction_is_within_an_isa_or_beyond_it(code: bytes, armv8_2: bool, armv9: bool) -> None:
    found = scanned(code, RET)
    assert found.total == 2
    assert not found.invalid
    assert (not beyond(found, "armv8_2"), not beyond(found, "armv9")) == (armv8_2, armv9)


def test_what_is_no_instruction_is_an_error_and_not_skipped() -> None:
    assert scanned(RET, NOTHING, RET, NOTHING).invalid == [".text+0x4", ".text+0xc"]
    assert scanned(RET, TABLE).invalid == [".text+0x4"]
    assert scanned(RET, b"\x1f").invalid == [".text+0x4"]


def test_zeros_between_objects_are_padding() -> None:
    found = scanned(RET, ZERO, ZERO, RET)
    assert (found.total, found.invalid) == (2, [])


def test_evidence_is_counted_for_what_only_the_isa_has() -> None:
    assert evidence("armv8_2").kind == "lse"
    assert evidence("armv9").kind == "sve"
    assert dict(scanned(FADD_NEON, LDADD_HELPER).shown) == {"lse": 0, "sve": 0}
    assert dict(scanned(LDADD, LDADD, ADD_SVE).shown) == {"lse": 2, "sve": 1}


def test_every_feature_of_the_arm_table_is_named_or_of_the_base() -> None:
    features = {feature for isa in isas().values() if isa.platform == "aarch64" for feature in isa.features}
    assert features - NAMES.keys() == {"asimd", "fp"}
    assert BASE < allowed_features("armv8_2") < allowed_features("armv9")


def arm_wheel(isa: str, code: bytes) -> Wheel:
    wheel = Wheel(f"torchvision-python313-cpu-{isa}")
    wheel.tag = "cp313-cp313-manylinux_2_28_aarch64"
    wheel.descriptor["torch"]["cxx11_abi"] = True
    memcpy = ("libc.so.6", "GLIBC_2.17")
    for each in (wheel.main, wheel.image, *wheel.bundled.values()):
        each.machine, each.code = 183, RET
        each.undefined = {NEW_STRING: None, "memcpy": memcpy} if each.undefined else {}
    wheel.main.code = code + RET
    return wheel


@pytest.mark.parametrize(("isa", "code"), [("armv8_2", LDADD), ("armv9", ADD_SVE)])
def test_a_wheel_that_is_what_it_says_is_proved(isa: str, code: bytes, tmp_path: Path) -> None:
    assert failing(audit_wheel(arm_wheel(isa, code).write(tmp_path))) == {}


@pytest.mark.parametrize(
    ("isa", "code", "name", "said"),
    [
        ("armv8_2", LDADD + UDOT, "instructions", "1 HasDotProd instructions, beyond armv8_2: udot"),
        ("armv8_2", LDADD + ADD_SVE, "instructions", "beyond armv8_2"),
        ("armv9", ADD_SVE + BFDOT, "instructions", "HasBF16"),
        ("armv9", ADD_SVE + NOTHING, "instructions", "no instruction"),
        ("armv8_2", FADD_NEON + LDADD_HELPER, "ISA in use", "trap 1"),
        ("armv9", FADD_NEON + LDADD, "ISA in use", "trap 1"),
    ],
)
def test_a_planted_fault_is_seen(isa: str, code: bytes, name: str, said: str, tmp_path: Path) -> None:
    found = failing(audit_wheel(arm_wheel(isa, code).write(tmp_path)))
    assert list(found) == [name]
    assert said in found[name]


def test_intermediate_code_for_arm_is_told_the_range_of_vector_lengths() -> None:
    body = 'attributes #0 = { nounwind "target-cpu"="generic" "target-features"="+v8a" }\nattributes #1 = { cold }\n'
    changed = retarget('target triple = "aarch64-unknown-linux-gnu"\n' + body)
    assert "attributes #0 = { nounwind vscale_range(1,16) }\nattributes #1 = { cold }\n" in changed
    assert "vscale" not in retarget('target triple = "x86_64-unknown-linux-gnu"\n' + body)


def test_binaries_come_from_this_systems_own_archives_and_their_fixes() -> None:
    listed = (
        "http://two.example/debian/|bookworm|/keys/a.gpg\nhttp://two.example/debian/|bookworm-updates|/keys/a.gpg\n"
        "http://two.example/debian/|bookworm-backports|/keys/a.gpg\nhttp://third.example/apt/|bookworm|\n"
        "http://one.example/debian-security/|bookworm-security|$(SIGNED_BY)\n"
    )
    system = {"ID": "debian", "VERSION_CODENAME": "bookworm"}
    found = apt.own_archives(listed, system)
    assert [archive.suite for archive in found] == ["bookworm", "bookworm-updates", "bookworm-security"]
    assert all(str(archive).startswith("deb ") and "$" not in str(archive) for archive in found)
    (trixie,) = apt.suite_archives(listed, system, "trixie")
    assert (trixie.uri, trixie.suite) == ("http://two.example/debian/", "trixie")


def test_on_ubuntu_the_ports_archive_has_what_is_not_x86() -> None:
    listed = "http://one.example/ubuntu/|noble|\nhttp://two.example/ubuntu-ports/|noble|/keys/u.gpg\n"
    (found,) = apt.own_archives(listed, {"ID": "ubuntu", "VERSION_CODENAME": "noble"})
    assert str(found) == "deb [signed-by=/keys/u.gpg] http://two.example/ubuntu-ports/ noble main universe"


def test_links_stay_inside_what_was_unpacked(tmp_path: Path) -> None:
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/x.so.1").write_text("real")
    (tmp_path / "usr/lib/x.so").symlink_to("/lib/x.so.1")
    apt._close(tmp_path)
    assert (tmp_path / "usr/lib/x.so").read_text() == "real"
    assert (tmp_path / "usr/lib/x.so").resolve().is_relative_to(tmp_path)


def test_an_emulated_python_is_one_that_the_distribution_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulator, "os_release", lambda: {"ID": "debian"})
    with pytest.raises(BadInput, match=r"--python 311,313"):
        emulator.emulator("aarch64", "312")


def test_results_of_two_processors_are_compared_bit_for_bit() -> None:
    assert runtime.same_bits({"a": {"nms": "1"}, "b": {"nms": "1"}}).ok
    differing = runtime.same_bits({"a": {"nms": "1", "PNG": "2"}, "b": {"nms": "3", "PNG": "2"}})
    assert differing.detail == "nms: b gives other bits than a"
    assert not runtime.same_bits({"a": {"nms": "1"}, "b": {}}).ok
    assert not runtime.same_bits({"a": {}, "b": {}}).ok


def test_time_boxed_tests_take_turns() -> None:
    names = ["A::f[cpu-1]", "A::f[cpu-2]", "A::f[cuda-1]", "A::g[cpu]", "B::h"]
    assert [names[place] for place in _time_boxed_tests.in_turns(names)] == [
        "A::f[cpu-1]",
        "A::g[cpu]",
        "B::h",
        "A::f[cpu-2]",
        "A::f[cuda-1]",
    ]


def test_what_ran_in_a_time_box_is_told() -> None:
    report = (
        '<testsuite><testcase classname="test.test_ops.TestNMS" name="test_a[1]"/>'
        '<testcase classname="test.test_ops.TestNMS" name="test_a[2]"/>'
        '<testcase classname="test.test_ops.TestNMS" name="test_b"><skipped message="CUDA"/></testcase></testsuite>'
    )
    check = judge(read_report(report), 1, which=True)
    assert check.ok
    assert check.detail == "2 passed, 0 failed, 1 skipped (1 CUDA); what ran: TestNMS.test_a x 2"


# --- a processor by name ----------------------------------------------------------------------------------------------


def test_a_graviton3_owner_is_told_what_to_take_instead() -> None:
    armv9 = parse("torchvision-python313-cpu-armv9")
    check = check_processor(armv9, "graviton3", [scanned(ADD_SVE, HISTCNT)])
    assert not check.ok
    assert "lacks sve2 (1 instructions here, such as histcnt" in check.detail
    assert "SIGILL" in check.detail
    assert "`build-torchvision build torchvision-python313-cpu-armv8_2`" in check.detail


@pytest.mark.parametrize(
    ("isa", "name", "runs"),
    [
        ("armv8_2", "graviton2", True),
        ("armv8_2", "graviton3", True),
        ("armv9", "graviton4", True),
        ("armv9", "grace", True),
        ("armv9", "neoverse_n1", False),
        ("avx2", "graviton3", False),
        ("avx512", "haswell", False),
        ("avx512bf16", "zen4", True),
    ],
)
def test_a_variant_runs_on_a_processor_or_not(isa: str, name: str, runs: bool) -> None:
    assert check_processor(parse(f"torchvision-python313-cpu-{isa}"), name, []).ok is runs


def test_an_unknown_processor_is_refused() -> None:
    with pytest.raises(BadInput, match="Did you mean graviton3"):
        features_of("graviton33")


def test_all_that_arm_needs_of_this_machine_is_named_in_one_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch.shutil, "which", lambda name: None)
    monkeypatch.setattr(prefetch, "is_foreign", lambda platform: platform == "aarch64")
    request = BuildRequest(
        variants=(parse("torchvision-python313-cpu-armv9"), parse("torchvision-python313-cpu-avx2")),
        release=release_named("0.21.0"),
    )
    with pytest.raises(MissingInput, match=r"`sudo apt-get install qemu-user-static`"):
        prefetch.prepare(request)
    with pytest.raises(MissingInput, match=r"`sudo apt-get install g\+\+-aarch64-linux-gnu qemu-user-static`"):
        prefetch.prepare(replace(request, glibc="host"))

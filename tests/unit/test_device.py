"""GPU code is read from the files alone, and judged before anything runs. The fat binaries here are real ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import capstone
import pytest
from _elf import Object

from build_torchvision.binary import cuda_registration
from build_torchvision.binary.cuda_registration import registrations
from build_torchvision.binary.elf import NotElf
from build_torchvision.binary.fatbin import BadFatbin, images, kernels
from build_torchvision.compatibility import CodegenKind
from build_torchvision.errors import BadInput, MissingInput
from build_torchvision.facts import releases
from build_torchvision.releases import TorchBuild, unlisted_release
from build_torchvision.variants import parse
from build_torchvision.verify import gpu_run, session
from build_torchvision.verify import target as targets
from build_torchvision.verify.checks import Check, Part
from build_torchvision.verify.device import check_device_code, kernel_name, launched, registered_kernels
from build_torchvision.verify.gpu import GpuHost, VisibleGpu, advice, check_gpu, choose, groups_of
from build_torchvision.verify.gpu_run import on
from build_torchvision.verify.package import parse_file_name
from build_torchvision.verify.run_probe import ProbeResult
from build_torchvision.verify.target import Place, existing, laid_over
from build_torchvision.verify.upstream import UpstreamCase, judge, read_report

FATBINS = Path(__file__).with_name("fatbins")
TINY = "_ZN6vision3ops12_GLOBAL__N_116tiny_kernel_implIfEEviPKT_PS3_"
TABLE = "_ZN6vision3ops12_GLOBAL__N_112table_kernelEPKiPf"
SM90 = parse("torchvision-python312-cuda13_0-sm90-avx2")
SM80 = parse("torchvision-python312-cuda13_0-sm80-avx2")
H100 = VisibleGpu(index=0, name="NVIDIA H100 80GB HBM3", capability="9.0")
A100 = VisibleGpu(index=1, name="NVIDIA A100-SXM4-40GB", capability="8.0")


def extension(*fatbins: str, registered: tuple[str, ...] = (TINY, TABLE)) -> dict[str, bytes]:
    code = b"".join((FATBINS / f"{name}.fatbin").read_bytes() for name in fatbins)
    return {"torchvision/_C.so": Object(fatbin=code, registers=registered).build()}


def failing(checks: tuple[Check, ...]) -> dict[str, str]:
    return {check.name: check.detail for check in checks if not check.ok}


# --- what the files hold ----------------------------------------------------------------------------------------------


def test_a_cubin_is_read_with_its_registers_stack_and_code() -> None:
    ((image,),) = images(extension("sm90")["torchvision/_C.so"])
    assert (image.kind, image.sm) == ("cubin", "sm90")
    found = {kernel.name: kernel for kernel in kernels(image)}
    assert found.keys() == {TINY, TABLE}
    assert (found[TABLE].code, found[TABLE].registers, found[TABLE].stack) == (896, 11, 256)
    assert (found[TINY].code, found[TINY].registers, found[TINY].stack) == (640, 10, 0)


def test_exactly_the_planned_code_holds_and_its_use_of_the_gpu_is_reported() -> None:
    checks = check_device_code(extension("sm90"), SM90)
    assert failing(checks) == {}
    assert "2 kernels, 2 KiB of code, at most 11 registers a thread; 1 keep up to 256 bytes" in checks[-1].detail


def test_ptx_beside_a_cubin_holds_only_where_it_was_asked_for() -> None:
    both = extension("sm80-ptx80")
    assert failing(check_device_code(both, SM80, ptx=True)) == {}
    assert "PTX for sm80" in failing(check_device_code(both, SM80))["device code"]
    assert "lacks PTX for sm80" in failing(check_device_code(extension("sm80"), SM80, ptx=True))["device code"]


@pytest.mark.parametrize(
    ("fatbins", "said"),
    [
        (("sm80-sm90",), "holds a cubin for sm80"),
        (("sm90", "sm80"), "holds a cubin for sm80"),
        (("sm80",), "lacks a cubin for sm90"),
        (("sm90a",), "holds a cubin for sm90a"),
        (("ptx80",), "holds PTX for sm80"),
        ((), "without CUDA"),
    ],
    ids=["an extra SM", "an extra fat binary", "a wrong SM", "an SM of its own", "PTX for a cubin", "none"],
)
def test_code_that_was_not_planned_turns_it_red(fatbins: tuple[str, ...], said: str) -> None:
    assert said in failing(check_device_code(extension(*fatbins), SM90))["device code"]


@pytest.mark.parametrize(
    ("registered", "said"),
    [
        ((TINY, TABLE, TINY.replace("tiny", "tidy")), "tidy_kernel_implIfEEviPKT_PS3_ is registered and has no cubin"),
        ((TINY,), "table_kernelEPKiPf has cubin and nothing registers it"),
        ((), "no kernel is registered"),
    ],
    ids=["a missing kernel", "an unregistered kernel", "none"],
)
def test_kernels_and_their_registration_must_match(registered: tuple[str, ...], said: str) -> None:
    assert said in failing(check_device_code(extension("sm90", registered=registered), SM90))["kernels"]


def test_a_registration_whose_name_cannot_be_read_turns_it_red() -> None:
    code = (FATBINS / "sm90.fatbin").read_bytes()
    module = Object(fatbin=code, registers=(TINY, TABLE), unreadable_registrations=1).build()
    checks = check_device_code({"torchvision/_C.so": module}, SM90)
    assert "registers 1 kernels under names that cannot be read" in failing(checks)["kernels"]


def test_a_name_in_the_data_that_no_call_passes_is_no_registration() -> None:
    module = Object(rodata=b"\0" + TINY.encode() + b"\0", registers=(TABLE,)).build()
    assert registrations(module).names == {TABLE}
    assert registrations(Object(rodata=TINY.encode()).build()).names == frozenset()


def test_constants_are_followed_through_code_for_arm() -> None:
    words = (
        0x90000022,  # adrp x2, 0x5000 (from 0x1000)
        0x91004042,  # add x2, x2, #0x10
        0xAA0203E3,  # mov x3, x2
        0xF9400004,  # ldr x4, [x0]
    )
    decoder = capstone.Cs(capstone.CS_ARCH_AARCH64, capstone.CS_MODE_ARM)
    decoder.detail = True
    known = cuda_registration._followed_aarch64(words, 0x1000, decoder)
    assert known == {2: 0x5010, 3: 0x5010}
    overwritten = cuda_registration._followed_aarch64((*words, 0xF9400003), 0x1000, decoder)  # ldr x3, [x0]
    assert 3 not in overwritten
    assert 3 not in cuda_registration._followed_aarch64((*words, 0x94000000), 0x1000, decoder)  # bl: x3 is lost


def test_a_damaged_object_has_no_registrations() -> None:
    with pytest.raises(NotElf):
        registrations(Object(registers=(TABLE,)).build()[:200])


def test_device_code_in_a_cpu_variant_turns_it_red() -> None:
    cpu = parse("torchvision-python312-cpu-avx2")
    assert "holds device code" in failing(check_device_code(extension("sm90"), cpu))["device code"]
    assert failing(check_device_code(extension(), cpu)) == {}


def test_a_fat_binary_that_is_cut_is_no_code() -> None:
    whole = (FATBINS / "sm90.fatbin").read_bytes()
    with pytest.raises(BadFatbin, match="runs past"):
        list(images(Object(fatbin=whole[:-100]).build()))
    cut = {"torchvision/_C.so": Object(fatbin=whole[:-100]).build()}
    assert "cannot be read" in failing(check_device_code(cut, SM90))["device code"]


@pytest.mark.parametrize(
    ("spelled", "name"),
    [
        ("vision::ops::(anonymous namespace)::gather_keep_from_mask(bool*, int)", "gather_keep_from_mask"),
        ("void vision::ops::(anonymous namespace)::nms<c10::Half>(int, c10::Half const*)", "nms<c10::Half>"),
        ("void unit_a::vision::ops::im2col<double, long>(long, double*)", "im2col<double,long>"),
        ("plain_kernel", "plain_kernel"),
    ],
)
def test_a_kernel_is_known_by_the_name_that_a_profiler_gives(spelled: str, name: str) -> None:
    assert kernel_name(spelled) == name


def test_registered_kernels_are_all_found_though_their_names_touch() -> None:
    assert registered_kernels(extension()) == {"tiny_kernel_impl<float>", "table_kernel"}


UNIT = "void unit_nms_kernel::vision::ops::(anonymous namespace)::"
REGISTERED = frozenset({"nms_kernel_impl<float>", "im2col_kernel<c10::Half,int>", "im2col_kernel<c10::Half,long>"})


@pytest.mark.parametrize(
    ("seen", "ok", "said"),
    [
        ((), True, "not judged"),
        (
            (f"{UNIT}nms_kernel_impl<float>(int, double)", f"{UNIT}im2col_kernel<c10::Half, long>(long)", "Memset"),
            True,
            "2 of 3 were launched; 1 kernels for the other index width were not exercised",
        ),
        ((f"{UNIT}nms_kernel_impl<float>(int, double)",), False, "im2col_kernel<c10::Half,int> was never launched"),
        (("void at::native::fill_kernel<float>(int)",), False, "nms_kernel_impl<float> was never launched"),
        ((f"{UNIT}nms_kernel_impl<double>(int, double)",), False, "nms_kernel_impl<float> was never launched"),
    ],
)
def test_each_registered_kernel_must_have_run_where_a_profiler_saw_any(
    seen: tuple[str, ...], ok: bool, said: str
) -> None:
    check = launched(REGISTERED, seen)
    assert check.ok is ok
    assert said in check.detail


# --- which GPU runs it ------------------------------------------------------------------------------------------------


def test_a_wheel_for_another_gpu_is_refused_with_the_variant_that_would_run() -> None:
    check, chosen = check_gpu(groups_of(extension("sm80")), SM80, GpuHost(gpus=(H100,), driver="580.159.04"))
    assert not check.ok
    assert chosen is None
    assert "NVIDIA H100 80GB HBM3 (9.0) cannot run it: it carries a cubin for sm80." in check.detail
    assert "torchvision-python312-cuda13_0-sm90-avx2 would run there." in check.detail


def test_of_several_gpus_the_one_with_a_cubin_is_chosen() -> None:
    both = GpuHost(gpus=(H100, A100), driver="580.159.04")
    assert choose(groups_of(extension("sm80-ptx80")), both) == (A100, "native")
    assert choose(groups_of(extension("sm90")), both) == (H100, "native")
    check, chosen = check_gpu(groups_of(extension("ptx80")), SM80, both)
    assert (check.ok, chosen) == (True, (H100, "ptx"))
    assert "compiles the PTX" in check.detail


def test_a_driver_older_than_the_toolkit_needs_is_refused() -> None:
    check, chosen = check_gpu(groups_of(extension("sm90")), SM90, GpuHost(gpus=(H100,), driver="570.26"))
    assert (check.ok, chosen) == (False, None)
    assert "driver 570.26 is older than 580" in check.detail


@pytest.mark.parametrize(
    ("name", "capability", "best"),
    [
        ("torchvision-python313-cuda12_8-sm90-avx512", "10.3", "torchvision-python313-cuda12_8-sm103-avx512 would"),
        ("torchvision-python313-cuda13_0-sm90-avx512", "7.0", "torchvision-python313-cuda12_9-sm70-avx512 would"),
        ("torchvision-python313-cuda13_0-sm90-avx512", "13.0", "sm121-avx512 built with --ptx would"),
        ("torchvision-python313-cuda13_0-sm90-avx512", "3.5", "No variant of the matrix runs on capability 3.5."),
    ],
)
def test_the_advice_names_a_variant_that_exists_and_runs(name: str, capability: str, best: str) -> None:
    assert best in advice(parse(name), VisibleGpu(index=0, name="GPU", capability=capability))


@pytest.mark.parametrize(
    ("listed", "left"),
    [(None, [0, 1]), ("1", [1]), ("1,0", [0, 1]), ("-1", []), ("", []), ("GPU-8f1d", [0, 1])],
)
def test_cuda_visible_devices_hides_gpus(listed: str | None, left: list[int]) -> None:
    host = GpuHost(gpus=(H100, A100)).visible({} if listed is None else {"CUDA_VISIBLE_DEVICES": listed})
    assert [gpu.index for gpu in host.gpus] == left


def test_without_a_gpu_the_error_says_what_to_type() -> None:
    with pytest.raises(MissingInput, match=r"no library.*Leave out --device"):
        GpuHost(trouble="no library").require("x.whl")
    hidden = GpuHost(gpus=(H100,)).visible({"CUDA_VISIBLE_DEVICES": "3"})
    with pytest.raises(MissingInput, match="CUDA_VISIBLE_DEVICES=3"):
        hidden.require("x.whl")


def test_the_chosen_gpu_is_the_only_one_that_a_run_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    there = on(Place(python=Path("python")), A100, jit=False)
    assert there.env["CUDA_VISIBLE_DEVICES"] == "1"
    assert there.env["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert there.env["CUDA_DISABLE_PTX_JIT"] == "1"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-8f1d")
    assert "CUDA_VISIBLE_DEVICES" not in on(Place(python=Path("python")), A100, jit=True).env


@pytest.mark.parametrize(
    ("served", "ran", "compiled", "ok"),
    [
        ("native", True, False, True),
        ("native", True, True, False),
        ("native", False, False, False),
        ("ptx", True, True, True),
        ("ptx", False, False, False),
    ],
)
def test_whether_the_driver_compiled_is_told_only_of_what_ran(
    served: CodegenKind, ran: bool, compiled: bool, ok: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, bool]] = []

    def probe(
        place: Place, codecs: object, *, device: dict[str, object], label: str, part: Part
    ) -> tuple[ProbeResult, ...]:
        asked.append((place.env["CUDA_DISABLE_PTX_JIT"], bool(device["refused"])))
        cache = Path(place.env["CUDA_CACHE_PATH"])
        if compiled and not device["refused"]:
            cache.mkdir()
            (cache / "index").write_bytes(b"code")
        listed = ("tiny_kernel_impl<float>(int)", "named_kernel::table_kernel()")
        return (
            ProbeResult(check=Check(name=f"{label}: nms", ok=ran, detail="", part=part)),
            ProbeResult(
                check=Check(name=f"{label}: kernels", ok=ran, detail="not run", part=part),
                kernels=listed,
                lists_kernels=True,
            ),
        )

    class Wheel:
        extensions = extension("sm90")
        bundled: ClassVar = {"torchvision.libs/libnvjpeg-1a.so.13": b""}
        descriptor = None

    monkeypatch.setattr(gpu_run, "probe", probe)
    checks = gpu_run.run_on_gpu(Place(python=Path("python")), Wheel(), H100, served)  # type: ignore[arg-type]
    assert {check.name: check.ok for check in checks}["JIT"] is ok
    told = {check.name: check.detail for check in checks}["GPU: kernels"]
    assert told == ("2 of 2 were launched" if ran else "not run")
    assert {check.part for check in checks} == {"gpu"}
    assert asked == ([("1", False)] if served == "native" else [("0", False), ("1", True)])


# --- an existing environment ------------------------------------------------------------------------------------------


def test_an_environment_is_laid_over_and_left_as_it_is(tmp_path: Path) -> None:
    over = tmp_path / "over"
    over.mkdir()
    (over / "planted.py").write_text("where = __file__")
    script = tmp_path / "say.py"
    script.write_text("import planted, sys; print(planted.where, sys.argv[1:], sys.flags.isolated)")
    there = Place(python=Path(sys.executable), over=(over,))
    done = subprocess.run(
        list(map(str, there.command(script, "a", "--", "b"))), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"{over / 'planted.py'} ['a', '--', 'b'] 1"
    assert there.under(X="1").env == {"X": "1"}


def test_an_environment_without_torch_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="it has no torch"):
        existing(Path(sys.executable))
    with pytest.raises(BadInput, match="no interpreter"):
        existing(tmp_path)
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(BadInput, match="does not run"):
        existing(broken)


def test_an_environment_without_what_the_checks_compare_with_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = json.dumps({"python": "312", "folders": dict.fromkeys(("numpy", "PIL")) | {"torch": "/x/torch"}})
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho '{told}'\n")
    python.chmod(0o755)
    with pytest.raises(MissingInput, match="numpy and pillow"):
        existing(python)
    monkeypatch.setattr(targets, "BESIDE", {})
    told_more = told.replace('"/x/torch"}', '"/x/torch"}, "torchvision": "0.26.0"')
    python.write_text(f"#!/bin/sh\necho '{told_more}'\n")
    assert (existing(python).site, existing(python).torchvision) == (Path("/x"), "0.26.0")


@pytest.mark.parametrize(
    ("tag", "release", "version", "refused"),
    [
        ("cp312-cp312", "0.28.0", "313", r"That is Python 3\.13, the wheel is for 3\.12"),
        ("cp312-cp312", "0.28.0", "312", None),
        ("py3-none", "0.29.1", "311", None),
        ("py3-none", "0.29.1", "313", None),
        ("py3-none", "0.29.1", "39", r"That is Python 3\.9, the wheel is for 3\.10, 3\.11, .* 3\.14t"),
        ("py3-none", "0.99.0", "39", None),  # nobody can tell
    ],
)
def test_a_wheel_for_another_python_is_refused_before_anything_runs(
    tag: str, release: str, version: str, refused: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = Path(f"torchvision-{release}+cu130.sm90.avx2-{tag}-manylinux_2_28_x86_64.whl")
    package = SimpleNamespace(path=wheel, file_name=parse_file_name(wheel.name))
    row = releases().get(release) or unlisted_release(release, TorchBuild.parse("2.14.0"))
    target = targets.PythonTarget(
        python=Path("python"), version=version, site=Path(), torchvision=None, modules=frozenset()
    )
    monkeypatch.setattr(session, "existing", lambda given: target)
    if refused is None:
        assert session._existing(Path("python"), package, SM90, row) is target  # type: ignore[arg-type]
        return
    with pytest.raises(BadInput, match=refused):
        session._existing(Path("python"), package, SM90, row)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("release", "torch", "paired", "refused"),
    [
        ("0.28.0", "2.13.0+cpu", True, None),
        ("0.29.1", "2.15.0+cu132", True, None),
        ("0.29.1", "2.13.0+cpu", True, r"It has torch 2\.13\.0\+cpu, and TorchVision 0\.29\.1 needs torch >=2\.14\.0"),
        ("0.29.1", "2.13.0+cpu", False, None),  # it was built for another
    ],
)
def test_an_environment_with_another_torch_is_refused_in_words_of_its_own(
    release: str, torch: str, paired: bool, refused: str | None, tmp_path: Path
) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "version.py").write_text(f"__version__ = {torch!r}\n", encoding="utf-8")
    target = targets.PythonTarget(
        python=Path("python"), version="313", site=tmp_path, torchvision=None, modules=frozenset()
    )
    package = SimpleNamespace(path=Path("a.whl"), descriptor=SimpleNamespace(paired=paired))
    if refused is None:
        session._check_pair(target, package, releases()[release])  # type: ignore[arg-type]
        return
    with pytest.raises(BadInput, match=refused):
        session._check_pair(target, package, releases()[release])  # type: ignore[arg-type]


def test_what_is_no_wheel_cannot_be_laid_over(tmp_path: Path) -> None:
    (tmp_path / "x.whl").write_bytes(b"no zip")
    other = targets.PythonTarget(
        python=Path("python"), version="312", site=Path(), torchvision=None, modules=frozenset()
    )
    with pytest.raises(BadInput), laid_over(tmp_path / "x.whl", other):
        pass


# --- upstream's tests -------------------------------------------------------------------------------------------------

REPORT = """<testsuites><testsuite>
<testcase classname="test.test_ops.TestNMS" name="test_nms_gpu[cuda-0.2]"/>
<testcase classname="test.test_image" name="test_decode_jpegs_cuda[False-RGB]"><skipped message="no nvJPEG"/></testcase>
<testcase classname="test.test_ops.TestRoIAlign" name="test_backward[True-cuda-0]">
<failure message="RuntimeError: donated buffers&#10;and more">text</failure></testcase>
</testsuite></testsuites>"""
BACKWARD = "test/test_ops.py::TestRoIAlign::test_backward[True-cuda-0]"


def test_a_report_gives_each_test_the_name_that_pytest_takes() -> None:
    assert read_report(REPORT) == [
        UpstreamCase(
            node="test/test_ops.py::TestNMS::test_nms_gpu[cuda-0.2]",
            test="TestNMS::test_nms_gpu",
            outcome="passed",
            message="",
        ),
        UpstreamCase(
            node="test/test_image.py::test_decode_jpegs_cuda[False-RGB]",
            test="test_decode_jpegs_cuda",
            outcome="skipped",
            message="no nvJPEG",
        ),
        UpstreamCase(
            node=BACKWARD,
            test="TestRoIAlign::test_backward",
            outcome="failed",
            message="RuntimeError: donated buffers",
        ),
    ]


def test_a_failure_that_the_stock_package_shares_is_named_and_no_fault_of_ours() -> None:
    cases = read_report(REPORT)
    assert not judge(cases, 1).ok
    shared = judge(cases, 1, shared=frozenset({BACKWARD}), stock="torchvision 0.26.0")
    assert shared.ok
    assert "1 passed, 1 failed, 1 skipped (1 no nvJPEG)" in shared.detail
    assert "fails with torchvision 0.26.0 too: TestRoIAlign::test_backward (1): RuntimeError: donated" in shared.detail
    assert judge(cases, 2, shared=frozenset({BACKWARD}), stock="torchvision 0.26.0").ok
    few = judge(cases, 3, shared=frozenset({BACKWARD}), stock="torchvision 0.26.0")
    assert not few.ok
    assert "fails with torchvision 0.26.0 too" in few.detail
    assert "2 tests passed or failed as they do upstream; expected at least 3" in few.detail


def test_a_failure_that_does_not_come_back_is_named() -> None:
    unsteady = judge(read_report(REPORT), 1, unsteady=frozenset({BACKWARD}), stock="torchvision 0.26.0")
    assert unsteady.ok
    assert "failed once, and passed 3 times alone: TestRoIAlign::test_backward[True-cuda-0]" in unsteady.detail

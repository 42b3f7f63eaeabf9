"""Broken environments, each made from small files, get the right diagnosis and the command that mends it."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from _elf import Object
from _environments import ADD_ZMM, CUDA, INDEX, JPEG, NEW, OLD, RET, Site, metadata
from _machines import record, sources

from build_torchvision.doctor.causes.diagnosis import Diagnosis
from build_torchvision.doctor.causes.gpu import served
from build_torchvision.doctor.diagnose import diagnose, running
from build_torchvision.doctor.installation import DeviceCode, device_code, inspect_installation
from build_torchvision.machine.environment import read_environment
from build_torchvision.machine.report import Distribution, GpuFound, Machine, detect


def examined(root: Path, machine: str = "haswell", **changes: object) -> tuple[list[Diagnosis], Machine]:
    environment = read_environment(root)
    found = replace(detect(sources(record(machine)), environment), **changes)  # type: ignore[arg-type]  # any field
    return list(diagnose(inspect_installation(environment, root / "bin"), found)), found


def only(root: Path, machine: str = "haswell", **changes: object) -> Diagnosis:
    found, _ = examined(root, machine, **changes)
    assert [one.name for one in found] == [found[0].name if found else "nothing"], [one.cause for one in found]
    return found[0]


# --- healthy ----------------------------------------------------------------------------------------------------------


def test_a_healthy_environment_has_no_diagnosis(tmp_path: Path) -> None:
    assert examined(Site().write(tmp_path))[0] == []


def test_a_healthy_environment_is_told_what_it_runs(tmp_path: Path) -> None:
    name = "torchvision-python312-cuda12_8-sm90-avx512"
    site = Site(descriptor={"variant": name, "torch": "2.8.0", "torch_cuda": "12.8", "gencode": ["x"]})
    root = site.with_cuda("2.8.0+cu128", "12.8", "sm90").write(tmp_path)
    found, machine = examined(root, "h100")
    assert found == []
    state = running(inspect_installation(read_environment(root), tmp_path), machine)
    assert state is not None
    assert (state.variant, state.cuda, state.device) == (name, "12.8", ("sm90",))
    assert state.kinds == (("NVIDIA H100 80GB HBM3", "native"),)


# --- ten and more broken ones -----------------------------------------------------------------------------------------


def test_a_torch_of_another_release_is_version_skew(tmp_path: Path) -> None:
    one = only(Site(torch="2.13.0+cu130", torch_cuda="13.0").write(tmp_path))
    assert one.name == "version skew"
    assert "torchvision::nms does not exist" in one.symptom
    assert one.fix.endswith("bin/python -m pip install --force-reinstall --no-deps torchvision==0.28.0")


def test_skew_beside_a_torch_of_no_release_changes_the_torch(tmp_path: Path) -> None:
    one = only(Site(torch="2.8.1+cu128", torch_cuda="12.8").write(tmp_path))
    assert one.fix is not None
    assert one.fix.endswith("pip install torch==2.8.0 torchvision==0.23.0")


def test_a_cuda_build_beside_a_cpu_torch_is_named(tmp_path: Path) -> None:
    site = Site()
    site.main = replace(site.main, needed=[*site.main.needed, *CUDA])
    one = only(site.write(tmp_path))
    assert one.name == "CUDA beside a CPU torch"
    assert one.fix is not None
    assert one.fix.endswith(f"pip install --force-reinstall --no-deps --index-url {INDEX}/cpu torchvision==0.23.0")


def test_another_cuda_major_is_named(tmp_path: Path) -> None:
    site = Site(torchvision="0.28.0", requirement="torch==2.13.0")
    site.with_cuda("2.13.0+cu130", "13.0", "sm90")
    one = only(site.write(tmp_path), "h100")
    assert one.name == "CUDA versions differ"
    assert "different CUDA major versions" in one.symptom
    assert one.fix.endswith("torchvision==0.28.0")


def test_no_compiled_operators_is_named(tmp_path: Path) -> None:
    one = only(Site(tamper=lambda site: (site / "torchvision" / "_C.so").unlink()).write(tmp_path))
    assert one.name == "no extension"
    assert "Couldn't load custom C++ ops" in one.symptom
    assert one.fix is not None
    assert one.fix.endswith(f"pip install --force-reinstall --no-deps --index-url {INDEX}/cpu torchvision==0.23.0")


def test_a_bundled_library_that_went_missing_is_named(tmp_path: Path) -> None:
    one = only(Site(tamper=lambda site: (site / "torchvision.libs" / JPEG).unlink()).write(tmp_path))
    assert one.name == "files missing"
    assert JPEG in one.cause


def test_a_library_that_nothing_brings_is_named(tmp_path: Path) -> None:
    site = Site()
    site.image = replace(site.image, needed=[*site.image.needed, "libturbojpeg.so.0"])
    one = only(site.write(tmp_path))
    assert (one.name, one.symptom) == (
        "library missing",
        "libturbojpeg.so.0: cannot open shared object file",
    )


def test_a_library_by_an_absolute_run_path_is_found(tmp_path: Path) -> None:
    """As in a Nix store path, or a distribution's package."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "libturbojpeg.so.0").write_bytes(Object(soname="libturbojpeg.so.0").build())
    site = Site()
    site.image = replace(
        site.image, needed=[*site.image.needed, "libturbojpeg.so.0"], runpath=f"{tmp_path / 'store'}:$ORIGIN"
    )
    assert examined(site.write(tmp_path / "env"))[0] == []


def test_a_file_cut_short_is_named(tmp_path: Path) -> None:
    def cut(site: Path) -> None:
        path = site / "torchvision" / "_C.so"
        path.write_bytes(path.read_bytes()[:2000])

    assert only(Site(tamper=cut).write(tmp_path)).name == "damaged"


def test_another_platforms_code_is_named(tmp_path: Path) -> None:
    site = Site()
    site.main = replace(site.main, machine=183, code=b"\xc0\x03\x5f\xd6")  # EM_AARCH64, ret
    site.image = replace(site.image, machine=183)
    one = only(site.write(tmp_path))
    assert one.name == "wrong platform"
    assert one.cause == "_C.so and image.so: compiled for aarch64, and this machine is x86_64"


@pytest.mark.parametrize("old_torch", [True, False])
def test_the_wrong_abi_flag_is_told_from_other_undefined_symbols(old_torch: bool, tmp_path: Path) -> None:
    site = Site()
    site.torch_libraries["libc10.so"] = Object(defined=[OLD if old_torch else NEW])
    for name in ("main", "image"):
        undefined = {NEW if old_torch else OLD: None}
        setattr(site, name, replace(getattr(site, name), undefined=undefined))
    found, _ = examined(site.write(tmp_path))
    assert [one.name for one in found] == ["wrong C++ ABI"]
    assert f"_GLIBCXX_USE_CXX11_ABI={int(old_torch)}" in found[0].cause
    assert found[0].symptom == f"undefined symbol: {NEW if old_torch else OLD}"


def test_a_symbol_that_torch_does_not_bring_is_named(tmp_path: Path) -> None:
    site = Site()
    site.main = replace(site.main, undefined={**site.main.undefined, "_ZN2at5gone_ERKNS_6TensorE": None})
    one = only(site.write(tmp_path))
    assert (one.name, one.symptom) == ("undefined symbol", "undefined symbol: _ZN2at5gone_ERKNS_6TensorE")


def test_instructions_that_this_processor_lacks_are_named_with_the_first(tmp_path: Path) -> None:
    site = Site()
    site.main = replace(site.main, code=ADD_ZMM + RET)
    root = site.write(tmp_path)
    one = only(root, "haswell")
    assert one.name == "illegal instruction"
    assert "SIGILL" in one.symptom
    assert "vaddps" in one.cause
    assert "torchvision-python312-cpu-avx2" in one.fix
    assert examined(root, "l40s")[0] == []


def test_sve2_code_on_graviton3_is_named(tmp_path: Path) -> None:
    """Trap 5: Graviton3 has SVE and no SVE2."""
    sve2 = bytes.fromhex("20c0a245")  # histcnt z0.s, p0/z, z1.s, z2.s
    site = Site(torch="2.8.0")
    for name in ("main", "image"):
        setattr(site, name, replace(getattr(site, name), machine=183, code=sve2 + b"\xc0\x03\x5f\xd6"))
    root = site.write(tmp_path)
    found, _ = examined(root, "graviton3")
    assert [one.name for one in found] == ["illegal instruction"]
    assert "armv8_2" in found[0].fix
    assert examined(root, "graviton4")[0] == []


@pytest.mark.parametrize(("operands", "name"), [("x0, x0, [x1]", None), ("x2, x0, [x0]", "illegal instruction")])
def test_atomics_behind_a_test_of_the_cpu_are_no_fault(operands: str, name: str | None, tmp_path: Path) -> None:
    """libgcc's helpers hold LSE instructions for the CPUs that have them; a Cortex-A72 has none."""
    code = {"x0, x0, [x1]": "2000e0f8", "x2, x0, [x0]": "0000e2f8"}[operands]
    site = Site(torch="2.8.0")
    for part in ("main", "image"):
        setattr(site, part, replace(getattr(site, part), machine=183, code=bytes.fromhex(code) + b"\xc0\x03\x5f\xd6"))
    features = detect(sources(record("graviton2"))).cpu.features - {"atomics"}
    cpu = replace(detect(sources(record("graviton2"))).cpu, features=features, isa=None)
    found, _ = examined(site.write(tmp_path), "graviton2", cpu=cpu)
    assert [one.name for one in found] == ([name] if name else [])


def test_a_codec_that_was_left_out_is_named(tmp_path: Path) -> None:
    site = Site()
    site.image = replace(site.image, rodata=b"\0decode_webp: torchvision not compiled with libwebp support\0")
    one = only(site.write(tmp_path))
    assert (one.name, one.symptom) == ("codec missing", "torchvision not compiled with libwebp support")


def test_a_build_for_a_newer_system_is_named(tmp_path: Path) -> None:
    site = Site()
    site.main = replace(site.main, undefined={**site.main.undefined, "log2f": ("libm.so.6", "GLIBC_2.29")})
    root = site.write(tmp_path)
    one = only(root, "haswell", glibc="2.28")
    assert (one.name, one.symptom) == ("system too old", "version `GLIBC_2.29' not found (required by _C.so)")
    assert examined(root, "haswell", glibc="2.29")[0] == []


def test_no_kernel_image_is_foreseen(tmp_path: Path) -> None:
    site = Site().with_cuda("2.8.0+cu128", "12.8", "sm80", torch_images=("sm80", "sm90"))
    one = only(site.write(tmp_path), "h100")
    assert one.name == "no kernel image"
    assert "no kernel image is available" in one.symptom
    assert "torchvision-python312-cuda12_8-sm90-avx512bf16" in one.fix


@pytest.mark.parametrize(
    ("name", "loads"),
    [("ptx80", True), ("sm80-ptx80", True), ("sm80-sm90", True), ("sm80", False), ("sm90", True)],
)
def test_the_foresight_is_what_an_h100_does(name: str, loads: bool, tmp_path: Path) -> None:
    """`loads` is what cuModuleLoadData answered there (driver 580): 0, or 209, "no kernel image is available"."""
    library = tmp_path / "_C.so"
    library.write_bytes(
        Object(fatbin=Path(__file__).with_name("fatbins").joinpath(f"{name}.fatbin").read_bytes()).build()
    )
    device = device_code(library)
    assert device is not None
    (h100,) = detect(sources(record("h100"))).gpus
    assert (served(device, h100) is not None) is loads


@pytest.mark.parametrize(
    ("code", "capability", "kind"),
    [
        ("sm90a", "9.0", "native"),
        ("sm100a", "10.3", None),
        ("sm100f", "10.3", "compatible"),
        ("sm100a PTX", "12.0", None),
        ("sm100f PTX", "12.0", None),
        ("sm100 PTX", "12.0", "ptx"),
    ],
)
def test_code_for_one_architecture_alone_serves_no_other(code: str, capability: str, kind: str | None) -> None:
    sm, _, ptx = code.partition(" ")
    group = (frozenset[str](), frozenset({sm})) if ptx else (frozenset({sm}), frozenset[str]())
    gpu = GpuFound(name="GPU", capability=capability, memory_mib=None)
    assert served(DeviceCode(groups={group: 1}), gpu) == kind


def test_a_torch_without_code_for_the_gpu_is_told_apart(tmp_path: Path) -> None:
    site = Site(torchvision="0.21.0", requirement="torch==2.6.0")
    site.with_cuda("2.6.0+cu124", "12.4", "sm50", "sm80", "sm90")
    one = only(site.write(tmp_path), "b200")
    assert one.name == "torch has no code for the GPU"
    assert one.fix.endswith("pip install torch==2.10.0 torchvision==0.25.0")


def test_ptx_and_older_cubins_of_the_major_do_run(tmp_path: Path) -> None:
    site = Site().with_cuda("2.8.0+cu128", "12.8", "sm80", "sm90 PTX", torch_images=("sm80", "sm90 PTX"))
    root = site.write(tmp_path)
    assert examined(root, "l40s")[0] == examined(root, "b200")[0] == []


def old_driver(tmp_path: Path, driver: str, distribution: Distribution | None, **more: object) -> Diagnosis:
    site = Site(torchvision="0.28.0", requirement="torch==2.13.0").with_cuda("2.13.0+cu130", "13.0", "sm80")
    site.main = replace(site.main, needed=[name.replace("so.12", "so.13") for name in site.main.needed])
    site.torch_libraries["libcudart.so.13"] = site.torch_libraries.pop("libcudart.so.12")
    one = only(site.write(tmp_path), "a100", driver=driver, distribution=distribution, **more)
    assert one.name == "old driver"
    assert "needs driver 580 or newer" in one.cause
    return one


UBUNTU = Distribution(name="Ubuntu 24.04", ids=("ubuntu", "debian"), version="24.04")
DEBIAN = Distribution(name="Debian GNU/Linux 13 (trixie)", ids=("debian",), version="13")
FEDORA = Distribution(name="Fedora Linux 43", ids=("fedora",), version="43")


def test_an_old_driver_gets_the_newest_pair_that_it_can_run(tmp_path: Path) -> None:
    one = old_driver(tmp_path, "535.216.01", None)
    assert one.fix is not None
    assert one.fix.endswith("-m pip install torch==2.10.0 torchvision==0.25.0")


@pytest.mark.parametrize(
    ("distribution", "container", "fix", "note"),
    [
        (UBUNTU, None, "sudo apt-get install nvidia-driver-580", None),
        (FEDORA, None, "sudo dnf install akmod-nvidia", None),
        (DEBIAN, None, None, "has driver 550: take 580 or newer from NVIDIA's repository"),
        (UBUNTU, "docker", None, "on the host of this container"),
        (None, None, None, "as this distribution packages it"),
    ],
)
def test_a_driver_is_installed_by_the_name_that_the_distribution_gives_it(
    distribution: Distribution | None, container: str | None, fix: str | None, note: str | None, tmp_path: Path
) -> None:
    one = old_driver(tmp_path, "470.82.01", distribution, container=container)
    assert one.fix == fix
    assert (note or "") in (one.remedy.note or "")


def test_a_source_tree_in_the_way_is_named(tmp_path: Path) -> None:
    root = Site().write(tmp_path / "env")
    (tmp_path / "vision" / "torchvision").mkdir(parents=True)
    (tmp_path / "vision" / "torchvision" / "__init__.py").write_text("")
    environment = read_environment(root)
    machine = detect(sources(record("haswell")), environment)
    (one,) = diagnose(inspect_installation(environment, tmp_path / "vision"), machine)
    assert one.name == "shadowed"


def test_two_installations_in_one_folder_are_named(tmp_path: Path) -> None:
    one = only(Site(tamper=lambda site: metadata(site, "torchvision", "0.19.0")).write(tmp_path))
    assert one.name == "two installations"
    assert one.fix.startswith("rm -r ")
    assert len(shlex.split(one.fix)) > 5


@pytest.mark.parametrize(("gone", "name"), [("torch", "no torch"), ("torchvision", "no torchvision")])
def test_what_is_not_installed_is_named(gone: str, name: str, tmp_path: Path) -> None:
    def remove(site: Path) -> None:
        for path in [*site.glob(f"{gone}-*.dist-info/*"), *(site / gone).glob("*.*")]:
            path.unlink()
        for path in site.glob(f"{gone}-*.dist-info"):
            path.rmdir()

    one = only(Site(tamper=remove).write(tmp_path))
    assert one.name == name
    assert "-m pip install" in one.fix


def test_where_neither_is_installed_torch_comes_along(tmp_path: Path) -> None:
    def remove(site: Path) -> None:
        for path in site.iterdir():
            shutil.rmtree(path)

    one = only(Site(tamper=remove).write(tmp_path))
    assert one.name == "no torchvision"
    assert "&& " in one.fix
    assert "--no-deps" not in one.fix


def test_a_cause_hides_its_consequences(tmp_path: Path) -> None:
    """Another torch: its symbols are missing too, and are not a second diagnosis."""
    site = Site(torch="2.13.0+cu130", torch_cuda="13.0")
    site.torch_libraries["libtorch_cpu.so"] = Object()
    assert only(site.write(tmp_path)).name == "version skew"


def test_independent_faults_are_all_told(tmp_path: Path) -> None:
    site = Site(torch="2.13.0+cu130", torch_cuda="13.0")
    site.main = replace(site.main, code=ADD_ZMM + RET)
    found, _ = examined(site.write(tmp_path))
    assert [one.name for one in found] == ["version skew", "illegal instruction"]

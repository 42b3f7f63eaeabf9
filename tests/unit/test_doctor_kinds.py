"""Environments of the kinds that people report, in shapes that nobody reported, judged as a user would judge."""

from __future__ import annotations

import fnmatch
import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from _elf import Object, fatbin
from _environments import INDEX, OP, Site, metadata
from _examined import Examined, cuda_pair
from _machines import record, sources

from build_torchvision.choose.advice import Advice, advise
from build_torchvision.machine.environment import read_environment
from build_torchvision.machine.nvml import Nvml, NvmlDevice
from build_torchvision.machine.report import Machine, detect

REPLACE = "--force-reinstall --no-deps"
RTX_5090 = NvmlDevice(name="NVIDIA GeForce RTX 5090", capability="12.0", memory_mib=32607)
K80 = NvmlDevice(name="Tesla K80", capability="3.7", memory_mib=11441)


def packages_of(root: Path, python: str = "3.12") -> Path:
    return root / "lib" / f"python{python}" / "site-packages"


def with_gpu(machine: str, device: NvmlDevice, driver: str, cuda: str) -> Machine:
    return detect(
        replace(sources(record(machine)), nvml=lambda: Nvml(driver=driver, cuda=cuda, devices=(device,))), None
    )


def advice_for(root: Path, machine: str) -> Advice:
    return advise(detect(sources(record(machine)), read_environment(root, {})))


# --- torch's files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gone", [["libtorch_cpu.so"], ["libc10.so", "libtorch.so", "libtorch_cpu.so"]])
def test_a_torch_without_its_own_libraries_is_installed_again(gone: list[str], tmp_path: Path) -> None:
    """As after a full disk; TorchVision, which needs them too, is not at fault."""

    def remove(site: Path) -> None:
        for name in gone:
            (site / "torch" / "lib" / name).unlink()

    examined = Examined(Site(tamper=remove).write(tmp_path))
    assert examined.one.name == "torch files missing"
    assert all(name in examined.one.cause for name in gone)
    assert examined.fix.endswith(f"-m pip install --force-reinstall --index-url {INDEX}/cpu torch==2.8.0+cpu")


def test_a_library_that_torchs_record_lists_is_one_of_its_own(tmp_path: Path) -> None:
    def record_more(site: Path) -> None:
        text = "torch/lib/libc10.so,,\ntorch/lib/libtorch_nvshmem.so,,\ntorch/__init__.py,,\n"
        (site / "torch-2.8.0+cpu.dist-info" / "RECORD").write_text(text, encoding="utf-8")

    examined = Examined(Site(tamper=record_more).write(tmp_path))
    assert examined.one.name == "torch files missing"
    assert "libtorch_nvshmem.so" in examined.one.cause


@pytest.mark.parametrize("left", ["metadata", "half a folder"])
@pytest.mark.parametrize("package", ["torch", "torchvision"])
def test_what_is_left_of_a_package_is_no_package(package: str, left: str, tmp_path: Path) -> None:
    """An installation that broke off, or an uninstallation: pip lists it and Python does not find it."""

    def remove(site: Path) -> None:
        if left == "metadata":
            shutil.rmtree(site / package)
        else:
            (site / package / "__init__.py").unlink()

    examined = Examined(Site(tamper=remove).write(tmp_path))
    assert examined.one.name == f"no {package}"
    assert "is left of it" in examined.one.cause
    assert "--force-reinstall" in examined.fix
    assert f" {package}==" in examined.fix


def test_libraries_of_torch_come_in_the_versions_that_torch_asks_for(tmp_path: Path) -> None:
    site = cuda_pair("2.11.0+cu130", "13.0", "0.26.0", "sm80", "sm90")
    site.torch_metadata = (
        'Requires-Dist: cuda-toolkit[cublas,cudart]==13.0.2; platform_system == "Linux"\n'
        'Requires-Dist: nvidia-cudnn-cu13==9.19.0.56; platform_system == "Linux"\n'
        "Requires-Dist: nvidia-nccl-cu13==2.28.9; platform_system == 'Linux'\n"
    )
    needed = ["libcublas.so.13", "libcudnn.so.9", "libnccl.so.2"]
    site.torch_libraries["libtorch_cpu.so"] = Object(defined=[OP], needed=needed)
    site.tamper = lambda folder: metadata(folder, "nvidia_nccl_cu13", "2.28.9")  # there, and its library is not
    examined = Examined(site.write(tmp_path), "h100")
    assert examined.one.name == "torch does not load"
    first, second = examined.fix.split(" && ")
    assert first.endswith("-m pip install 'cuda-toolkit[cublas,cudart]==13.0.2' nvidia-cudnn-cu13==9.19.0.56")
    assert second.endswith(f"-m pip install {REPLACE} nvidia-nccl-cu13==2.28.9")


# --- what Python finds first ------------------------------------------------------------------------------------------


def test_an_archive_on_the_path_is_imported_first_and_named(tmp_path: Path) -> None:
    root = Site().write(tmp_path)
    egg = packages_of(root) / "torchvision-0.22.0-py3.12.egg"
    with zipfile.ZipFile(egg, "w") as archive:
        archive.writestr("torchvision/__init__.py", "")
    text = f"import sys; sys.__plen = len(sys.path)\n./{egg.name}\nimport sys; p=getattr(sys,'__egginsert',0)\n"
    (packages_of(root) / "easy-install.pth").write_text(text, encoding="utf-8")
    examined = Examined(root)
    assert examined.one.name == "imported from an archive"
    assert examined.fix == f"rm {egg}"
    (packages_of(root) / "easy-install.pth").write_text(f"./{egg.name}\n", encoding="utf-8")  # behind site-packages
    assert Examined(root).healthy


def test_a_copy_that_pythonpath_names_is_replaced_where_it_lies(tmp_path: Path) -> None:
    """What pip installs into the environment would stay behind it."""
    folder = tmp_path / "deps"
    Site(torch="2.7.1+cpu").fill(folder)
    root = Site().write(tmp_path / "env")
    for name in ("torch", "torchvision"):
        shutil.rmtree(packages_of(root) / name)
        for path in packages_of(root).glob(f"{name}-*"):
            shutil.rmtree(path)
    examined = Examined(root, variables={"PYTHONPATH": str(folder)})
    assert examined.one.name == "version skew"
    assert examined.fix.endswith(
        f"-m pip install --target {folder} --upgrade {REPLACE} --index-url {INDEX}/cpu torchvision==0.22.1"
    )


def test_a_users_own_torchvision_before_the_one_that_fits_is_left_out(tmp_path: Path) -> None:
    root = tmp_path / "python"
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "python3.12").write_text("", encoding="utf-8")
    Site().fill(packages_of(root))
    (root / "lib" / "python3.12" / "os.py").write_text("", encoding="utf-8")
    own = packages_of(tmp_path / "home" / ".local")
    Site(torchvision="0.24.1", requirement="torch==2.9.1").fill_torchvision(own)
    examined = Examined(root / "bin" / "python3.12", variables={"HOME": str(tmp_path / "home")}, cwd=root)
    assert examined.one.name == "version skew"
    assert examined.fix == "export PYTHONNOUSERSITE=1"
    assert str(own) in (examined.one.remedy.note or "")


# --- conda ------------------------------------------------------------------------------------------------------------


def conda(root: Path, site: Site, build: str) -> Path:
    """A conda environment whose torch conda installed."""
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "python").write_text("", encoding="utf-8")
    (root / "conda-meta").mkdir()
    stated = {"name": "pytorch", "channel": "https://conda.anaconda.org/conda-forge/linux-64"}
    name = f"pytorch-{site.torch}-{build}_generic_py312_h123.json"
    (root / "conda-meta" / name).write_text(json.dumps(stated), encoding="utf-8")
    site.fill(packages_of(root))
    (packages_of(root) / "pip").mkdir()
    (packages_of(root) / "pip" / "__init__.py").write_text("", encoding="utf-8")
    return root


def test_condas_torch_takes_its_partner_from_its_channel_and_keeps_its_kind(tmp_path: Path) -> None:
    site = Site().with_torch_cuda("2.8.0", "12.9", "sm80", "sm89")
    root = conda(tmp_path / "env", site, "cuda129")
    (root / "conda-meta" / "torchvision-0.23.0-cpu_py312_h1.json").write_text("{}", encoding="utf-8")
    examined = Examined(root, "l40s")
    assert examined.one.name == "no GPU code"
    specs = "'torchvision=0.23.0=cuda*' 'pytorch=2.8.0=cuda*'"
    assert examined.fix == f"conda install --prefix {root} --yes --channel conda-forge {specs}"


def test_a_wheel_beside_condas_torch_goes_before_conda_installs(tmp_path: Path) -> None:
    root = conda(tmp_path / "env", Site(torch="2.8.0", torchvision="0.22.1", requirement="torch==2.7.1"), "cpu")
    (packages_of(root) / "torchvision-0.22.1.dist-info" / "INSTALLER").write_text("pip\n", encoding="utf-8")
    first, second = Examined(root).fix.split(" && ")
    assert first == f"{root}/bin/python -m pip uninstall --yes torchvision"
    assert second.endswith("'torchvision=0.23.0=cpu*' 'pytorch=2.8.0=cpu*'")


def test_a_wheel_of_torch_in_a_conda_environment_is_none_of_condas(tmp_path: Path) -> None:
    site = Site(torch="2.8.0+cpu", torchvision="0.22.1", requirement="torch==2.7.1")
    root = conda(tmp_path / "env", site, "cpu")
    (packages_of(root) / "torch-2.8.0+cpu.dist-info" / "INSTALLER").write_text("pip\n", encoding="utf-8")
    assert "conda" not in Examined(root).fix.replace(str(root), "")


# --- GPUs -------------------------------------------------------------------------------------------------------------


def test_no_driver_is_offered_for_a_gpu_that_torch_has_no_code_for(tmp_path: Path) -> None:
    """A K80's newest driver is 470."""
    site = cuda_pair("2.6.0+cu124", "12.4", "0.21.0", "sm50", "sm80")
    machine = with_gpu("a100", K80, "470.256.02", "11.4")
    examined = Examined(site.write(tmp_path), "a100", gpus=machine.gpus, driver="470.256.02")
    assert examined.one.name == "torch has no code for the GPU"
    assert examined.one.fix is None


def test_a_pair_for_the_gpu_mends_a_skew_too(tmp_path: Path) -> None:
    site = cuda_pair("2.10.0+cu128", "12.8", "0.24.1", "sm75", "sm80")
    site.requirement = "torch==2.9.1"
    examined = Examined(site.write(tmp_path), "p100")
    assert examined.names == ["version skew", "torch has no code for the GPU"]
    assert {one.fix and one.fix.partition(" install ")[2] for one in examined.found} == {
        "torch==2.7.1 torchvision==0.22.1"
    }


def test_code_for_another_platform_is_not_held_to_the_gpu_too(tmp_path: Path) -> None:
    site = cuda_pair("2.9.1+cu130", "13.0", "0.24.1", "sm80")
    main, image = site.main, site.image
    site.for_arm()
    site.main, site.image = main, image
    site.torch_libraries["libtorch_cuda.so"] = Object(machine=183, fatbin=fatbin("sm110"))
    assert Examined(site.write(tmp_path), "thor").names == ["wrong platform"]


def test_detect_says_which_cuda_would_serve_a_gpu_that_torchs_does_not(tmp_path: Path) -> None:
    site = cuda_pair("2.6.0+cu124", "12.4", "0.21.0", "sm80", "sm90")
    found = with_gpu("rtx4090", RTX_5090, "572.16", "12.8")
    advice = advise(replace(found, environment=read_environment(site.write(tmp_path), {})))
    (note,) = [note for note in advice.notes if "RTX 5090" in note]
    assert note.endswith("beside torch 2.6.0+cu124 of CUDA 12.4: a torch of CUDA 12.8, 12.9 would change this.")


@pytest.mark.parametrize("command", ["doctor", "detect"])
def test_a_cpu_torch_beside_a_gpu_is_noted(command: str, tmp_path: Path) -> None:
    root = Site(torch="2.8.0+cpu").write(tmp_path)
    notes = Examined(root, "rtx4090").notes if command == "doctor" else " ".join(advice_for(root, "rtx4090").notes)
    assert "the GPU stays idle" in notes


def test_a_torchvision_without_gpu_code_beside_a_rocm_torch_is_noted_with_its_partner(tmp_path: Path) -> None:
    site = Site(torch="2.8.0+rocm6.4", torch_constants={"hip": "6.4.43482"})
    examined = Examined(site.write(tmp_path))
    assert examined.healthy
    assert "is built with ROCm. It works here" in examined.notes
    assert f"--index-url {INDEX}/rocm6.4 torchvision==0.23.0" in examined.notes


# --- systems ----------------------------------------------------------------------------------------------------------


def test_a_system_without_glibc_gets_no_variant_and_the_reason(tmp_path: Path) -> None:
    site = Site()
    site.torch_libraries["libc10.so"].needed = ["libc.so.6"]
    root = site.write(tmp_path)
    examined = Examined(root, glibc=None)
    assert examined.one.name == "no glibc"
    assert examined.one.fix is None
    advice = advise(examined.machine)
    assert advice.best is None
    assert all("no glibc" in choice.why for choice in advice.unfit if choice.variant.platform == "x86_64")


def test_a_managed_python_gets_a_torch_beside_the_variant_whatever_torch_it_had(tmp_path: Path) -> None:
    """Debian's own torch is in no index: the new environment gets the release's, or the wheel would have none."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").write_text("", encoding="utf-8")
    standard = tmp_path / "lib" / "python3.13"
    standard.mkdir(parents=True)
    for name in ("os.py", "EXTERNALLY-MANAGED"):
        (standard / name).write_text("", encoding="utf-8")
    Site(python="3.13", torch="2.9.1+debian").fill(tmp_path / "lib" / "python3" / "dist-packages")
    _, made, torch, wheel = Examined(tmp_path / "bin" / "python3").fix.split(" && ")
    assert made.endswith("-m venv .venv")
    assert torch.endswith(f"pip install --index-url {INDEX}/cpu torch==2.9.1")
    assert wheel.startswith(f".venv/bin/python -m pip install {REPLACE} dist/torchvision-0.24.1+cpu.")


@pytest.mark.parametrize("python", ["3.13", "3.14t"])
def test_the_wheels_pattern_matches_the_file_that_build_makes(python: str, tmp_path: Path) -> None:
    site = Site(python=python, torch="2.9.1+cpu", torchvision="0.24.1", requirement="torch==2.9.1")
    best = advice_for(site.write(tmp_path), "zen2").best
    assert best is not None
    assert best.install is not None
    number = python.replace(".", "")
    tags = f"cp{number.removesuffix('t')}-cp{number}-manylinux_2_28_x86_64"
    pattern = best.install.rpartition(" ")[2]
    assert fnmatch.fnmatch(f"dist/torchvision-0.24.1+cpu.avx2-{tags}.whl", pattern)


def test_words_before_a_vowel_are_written_so(tmp_path: Path) -> None:
    site = Site(torch="2.9.1+xpu", torch_constants={"xpu": "2025"}, torchvision="0.24.1", requirement="torch==2.9.1")
    examined = Examined(site.write(tmp_path))
    assert "an XPU (Intel) build" in examined.notes
    assert "an XPU (Intel) build" in " ".join(advise(examined.machine).notes)


@pytest.mark.parametrize(("torch", "short"), [("2.15.0+cu132", "cuda13_2-sm90-avx512bf16"), ("2.15.0+cpu", "cpu-")])
def test_a_python_newer_than_the_releases_torch_is_built_for_beside_the_torch_that_is_there(
    torch: str, short: str, tmp_path: Path
) -> None:
    """One wheel of the stable ABI serves all Pythons: the Python has to be one of the torch that is built against."""
    site = Site(python="3.15", torch=torch, torchvision="0.29.2", requirement="torch>=2.14.0")
    if "cu" in torch:
        site.with_torch_cuda(torch, "13.2", "sm80", "sm90")
    best = advice_for(site.write(tmp_path), "h100").best
    assert best is not None
    assert best.build is not None, best.needs
    assert best.choice.variant.short.startswith(short)
    assert best.build.endswith(f"--torchvision 0.29.1 --torch {packages_of(tmp_path, '3.15')}")

"""Recorded machines get the right answer; so does this one."""

from __future__ import annotations

import importlib.resources
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from _machines import FOLDER, NAMES, record, sources

from build_torchvision.choose.advice import advise
from build_torchvision.choose.auto import auto_variant
from build_torchvision.choose.ranking import choose, driver_is_older
from build_torchvision.cli.wheel_options import WheelOptions
from build_torchvision.errors import BadInput
from build_torchvision.facts import gpus, isas
from build_torchvision.machine.cpu import read_cpu
from build_torchvision.machine.environment import (
    InstalledPackage,
    PythonEnvironment,
    current_environment,
    environment_with_torch,
    read_environment,
)
from build_torchvision.machine.nvml import MISMATCH, NO_MODULE, Nvml, NvmlDevice, read_nvml
from build_torchvision.machine.report import Machine, detect
from build_torchvision.machine.sources import this_machine
from build_torchvision.variants import TRACKS, enumerate_variants, parse
from build_torchvision.wheel.descriptor import DESCRIPTOR

TWELVE = (
    *("rtx4090", "l40s", "a100", "b200", "dgx-spark", "thor", "orin", "graviton2", "graviton3", "graviton4"),
    *("haswell", "zen2"),
)


def recorded(name: str, environment: PythonEnvironment | None = None) -> Machine:
    return detect(sources(record(name)), environment)


def with_torch(version: str, cuda: str | None, python: str = "313") -> PythonEnvironment:
    torch = InstalledPackage(version=version, folder=Path("/env/torch"), info=None, cuda=cuda)
    return PythonEnvironment(
        python=python, executable=Path("/env/bin/python"), paths=(Path("/env"),), torch=torch, torchvision=None
    )


# --- the right answer on recorded machines ----------------------------------------------------------------------------


def test_the_twelve_machines_are_recorded() -> None:
    assert set(TWELVE) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_recording_says_where_it_is_from(name: str) -> None:
    head = (FOLDER / f"{name}.toml").read_text().partition("platform")[0]
    assert all(line.startswith("# ") for line in head.splitlines())
    assert "/proc/cpuinfo" in head or "the same as" in head


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_machine_gets_the_right_variants(name: str) -> None:
    data = record(name)
    advice = advise(detect(sources(data)))
    found = {"best": advice.best, "seed": advice.seed, "called_for": advice.called_for}
    assert {key: str(offer.choice.variant) for key, offer in found.items() if offer} == data["expect"]


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        *((name, ("native", "native", "native")) for name in ("rtx4090", "l40s", "a100", "b200", "orin", "h100")),
        ("dgx-spark", ("native", "compatible", "native")),
        ("thor", ("native", "ptx", "native")),
        ("haswell", (None, None, None)),
    ],
)
def test_each_offer_says_how_its_code_serves_the_gpu(name: str, kinds: tuple[str | None, ...]) -> None:
    advice = advise(recorded(name))
    offers = (advice.best, advice.seed, advice.called_for)
    assert tuple(offer.choice.kind for offer in offers if offer) == kinds


@pytest.mark.parametrize("name", NAMES)
def test_the_best_choice_runs_and_each_other_says_why_it_is_behind(name: str) -> None:
    machine = recorded(name)
    for choice in choose(machine, enumerate_variants("313", TRACKS, None)):
        assert choice.why
        if choice.fits:
            assert set(choice.variant.isa_facts.features) <= machine.cpu.features
            assert choice.variant.platform == machine.platform


@pytest.mark.parametrize(
    ("name", "isa"),
    [("haswell", "avx2"), ("l40s", "avx512bf16"), ("graviton3", "armv8_2"), ("thor", "armv9"), ("rosetta", None)],
)
def test_the_isa_is_the_highest_that_every_core_has(name: str, isa: str | None) -> None:
    assert recorded(name).cpu.isa == isa


def archspecs_recordings() -> list[Path]:
    folder = importlib.resources.files("archspec.json") / "tests" / "targets"
    return [
        path
        for path in sorted(Path(str(folder)).glob("linux-*"))
        if "CPU implementer" in path.read_text() or "vendor_id" in path.read_text()
    ]


@pytest.mark.parametrize("path", archspecs_recordings(), ids=lambda path: path.name)
def test_archspecs_own_recordings_get_archspecs_own_name(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    platform = "aarch64" if "CPU implementer" in text else "x86_64"
    cpu = read_cpu(replace(sources(record("zen2")), platform=platform, read={"/proc/cpuinfo": text}.get))
    assert cpu.microarchitecture == path.name.split("-")[2]
    assert cpu.isa is None or set(isas()[cpu.isa].features) <= cpu.features


# --- this machine -----------------------------------------------------------------------------------------------------


def test_this_machine_is_read_without_an_error() -> None:
    machine = detect(this_machine())
    assert machine.cpu.features
    assert machine.cpus >= 1
    assert advise(machine).best is not None or machine.cpu.isa is None


def test_no_driver_is_an_answer() -> None:
    assert isinstance(read_nvml(), Nvml)


# --- containers, control groups, emulation, WSL2 ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "container", "limit"),
    [
        (
            {"/.dockerenv": "", "/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "150000 100000\n"},
            "docker",
            1.5,
        ),
        ({"/run/.containerenv": "", "/sys/fs/cgroup/cpu.max": "max 100000\n"}, "podman", None),
        (
            {
                "/proc/1/cgroup": "5:cpu,cpuacct:/kubepods/pod1/abc\n",
                "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000\n",
                "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            "kubernetes",
            4.0,
        ),
        (
            {
                "/proc/self/cgroup": "0::/user.slice/build.scope\n",
                "/sys/fs/cgroup/cpu.max": "200000 100000\n",
                "/sys/fs/cgroup/user.slice/build.scope/cpu.max": "50000 100000\n",
            },
            None,
            0.5,
        ),
        (
            {"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"},
            None,
            None,
        ),
    ],
)
def test_containers_and_their_limits_are_seen(
    files: dict[str, str], container: str | None, limit: float | None
) -> None:
    machine = detect(replace(sources(record("zen2")), read={**record("zen2")["files"], **files}.get))
    assert (machine.container, machine.cpu_limit) == (container, limit)


KERNEL_HAS_IT = {
    "/proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.126.20  Wed Feb 18 05:56:34\n"
}


@pytest.mark.parametrize(
    ("files", "nvml", "said"),
    [
        ({**KERNEL_HAS_IT, "/.dockerenv": ""}, Nvml(trouble="no library"), "--gpus all"),
        (KERNEL_HAS_IT, Nvml(trouble="no library"), "install the driver's libraries"),
        ({"/proc/version": "Linux 5.15-microsoft-standard-WSL2"}, Nvml(trouble="no library"), "on Windows"),
        ({}, Nvml(trouble=NO_MODULE), "modprobe nvidia"),
        ({}, Nvml(trouble=MISMATCH), "restart the machine"),
        ({}, Nvml(trouble="GPU is lost"), "GPU is lost"),
    ],
)
def test_a_driver_that_does_not_answer_gets_a_remedy(files: dict[str, str], nvml: Nvml, said: str) -> None:
    machine = detect(replace(sources(record("zen2")), read={**record("zen2")["files"], **files}.get, nvml=lambda: nvml))
    assert any(said in note for note in machine.notes)
    assert best(machine) == "cpu-avx2"


def test_a_machine_without_gpu_and_driver_has_nothing_to_remark() -> None:
    assert recorded("haswell").notes == ()


def test_rosetta_is_named_and_gets_the_stock_wheel() -> None:
    machine = recorded("rosetta")
    assert machine.cpu.emulated == "Rosetta"
    assert any("pip install torchvision" in note for note in advise(machine).notes)


def test_the_processor_has_the_last_word_under_user_mode_emulation() -> None:
    """qemu-x86_64 -cpu Haswell on a Zen 4 host: /proc/cpuinfo is the host's, CPUID is Haswell's."""
    host, haswell = record("l40s"), recorded("haswell")
    cpu = read_cpu(replace(sources(host), cpuid=lambda: haswell.cpu.features))
    assert cpu.isa == "avx2"
    assert cpu.emulated is not None


def test_another_platforms_cpuinfo_means_emulation() -> None:
    """An x86-64 program under qemu on an Arm machine reads the Arm machine's /proc/cpuinfo."""
    arm = record("graviton3")
    cpu = read_cpu(replace(sources({**arm, "platform": "x86_64"}), cpuid=lambda: recorded("haswell").cpu.features))
    assert cpu.isa == "avx2"
    assert cpu.emulated is not None
    assert "another platform" in cpu.emulated


def test_cores_that_differ_count_by_what_all_of_them_can() -> None:
    text = record("dgx-spark")["files"]["/proc/cpuinfo"]
    weaker = text.replace(" sve2 ", " ", 1)
    cpu = read_cpu(replace(sources(record("dgx-spark")), read={"/proc/cpuinfo": weaker}.get))
    assert cpu.isa == "armv8_2"


@pytest.mark.parametrize("text", ["", "garbage", "processor: 0\nflags:\n", "\0\xff\n\n\n"])
def test_an_unknown_processor_is_no_error(text: str) -> None:
    machine = detect(replace(sources(record("zen2")), read={"/proc/cpuinfo": text}.get))
    assert machine.cpu.isa is None
    advice = advise(machine)
    assert advice.best is None
    assert any("stock wheel" in note for note in advice.notes)


# --- GPUs -------------------------------------------------------------------------------------------------------------


def gpu_machine(name: str, *capabilities: str, driver: str = "580.95.05", cuda: str = "13.0") -> Machine:
    devices = tuple(NvmlDevice(name=f"GPU {cap}", capability=cap, memory_mib=1) for cap in capabilities)
    return detect(replace(sources(record(name)), nvml=lambda: Nvml(driver=driver, cuda=cuda, devices=devices)))


def best(machine: Machine) -> str:
    offer = advise(machine).best
    assert offer is not None
    return offer.choice.variant.short


def test_several_gpus_are_answered_one_by_one() -> None:
    advice = advise(recorded("several-gpus"))
    assert [(gpu.capability, choice and choice.variant.sm) for gpu, choice in advice.per_gpu] == [
        ("8.9", "sm89"),
        ("12.0", "sm120"),
        ("8.6", "sm86"),
    ]
    said = " ".join(advice.notes)
    assert "most capable, NVIDIA GeForce RTX 5090" in said
    assert "No one variant runs on all of them" in said


def test_two_gpus_of_one_major_can_share_the_older_code() -> None:
    said = " ".join(advise(gpu_machine("rtx4090", "8.9", "8.6")).notes)
    assert "torchvision-python313-cuda12_8-sm86-avx2 runs on all of them" in said


def test_mig_is_told_and_changes_nothing() -> None:
    machine = recorded("mig")
    assert any("MIG 1g.10gb" in note for note in machine.notes)
    assert machine.container == "kubernetes"


@pytest.mark.parametrize(
    ("capability", "short"),
    [
        ("12.3", "cuda13_0-sm121-avx512bf16"),
        ("8.5", "cuda12_8-sm80-avx512bf16"),
        ("9.1", "cuda12_8-sm90-avx512bf16"),
    ],
)
def test_an_unknown_gpu_takes_the_nearest_older_cubin_of_its_major(capability: str, short: str) -> None:
    machine = gpu_machine("l40s", capability)
    assert best(machine) == short
    offer = advise(machine).best
    assert offer is not None
    assert offer.choice.kind == "compatible"


def test_a_gpu_of_a_generation_to_come_says_which_track_will_know_it() -> None:
    machine = gpu_machine("l40s", "13.0", driver="610.1", cuda="13.4")
    advice = advise(machine)
    assert any("newer than CUDA 13.2" in note for note in advice.notes)
    # PTX of compute_100 runs there, compiled by the driver: better than nothing, and named as what it is.
    assert advice.best is not None
    assert advice.best.choice.kind == "ptx"


def test_a_gpu_older_than_every_track_gets_the_cpu_variant() -> None:
    machine = gpu_machine("l40s", "3.5", driver="470.1", cuda="11.4")
    assert best(machine) == "cpu-avx512bf16"
    assert any("served by no track" in note for note in advise(machine).notes)


def test_an_old_driver_leaves_the_cpu_variant_and_says_so() -> None:
    machine = gpu_machine("l40s", "8.9", driver="470.82", cuda="11.4")
    assert best(machine) == "cpu-avx512bf16"
    assert any("too old for every track" in note for note in advise(machine).notes)


def test_a_driver_between_two_floors_rules_out_the_newer_track() -> None:
    ranked = choose(recorded("rtx4090"), enumerate_variants("313", TRACKS, None))
    why = {choice.variant.short: choice.why for choice in ranked if not choice.fits}
    assert why["cuda13_0-sm89-avx2"] == "driver 570.133.04 is older than 580, which it needs"


def test_under_wsl2_only_the_drivers_branch_is_compared() -> None:
    machine = replace(recorded("wsl2"), driver="525.05")
    assert not driver_is_older(machine, "525.60.13")
    assert driver_is_older(replace(machine, wsl=False), "525.60.13")
    assert driver_is_older(machine, "570")


def test_a_gpu_beside_a_processor_of_no_isa_gets_nothing() -> None:
    advice = advise(gpu_machine("rosetta", "8.9"))
    assert (advice.best, advice.seed, advice.called_for) == (None, None, None)
    assert [choice for _, choice in advice.per_gpu] == [None]


def test_a_gpu_that_nothing_serves_leaves_the_place_to_the_other() -> None:
    advice = advise(gpu_machine("l40s", "3.5", "8.9"))
    assert advice.best is not None
    assert advice.best.choice.variant.sm == "sm89"


def test_orins_code_and_other_gpus_code_do_not_mix() -> None:
    ranked = choose(recorded("orin"), enumerate_variants("313", TRACKS, None))
    assert {choice.variant.sm for choice in ranked if choice.fits} == {"sm87", None}


# --- torch decides too ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("torch", "cuda", "short", "said"),
    [
        ("2.6.0+cu124", "12.4", "cuda12_4-sm89-avx512bf16", ""),
        ("2.8.0+cu128", "12.8", "cuda12_8-sm89-avx512bf16", ""),
        ("2.13.0+cu130", "13.0", "cuda13_0-sm89-avx512bf16", ""),
        ("2.13.0+cpu", None, "cpu-avx512bf16", "GPU stays idle"),
        ("2.7.1+cu126", "12.6", "cuda12_6-sm89-avx512bf16", ""),
        ("2.9.1+cu129", "12.9", "cuda12_9-sm89-avx512bf16", ""),
        ("2.8.0+cu118", "11.8", "cpu-avx512bf16", "no track of the matrix"),
    ],
)
def test_the_installed_torch_decides_the_track(torch: str, cuda: str | None, short: str, said: str) -> None:
    machine = recorded("l40s", with_torch(torch, cuda))
    assert best(machine) == short
    advice = advise(machine)
    assert said in " ".join(advice.notes)
    assert advice.seed is not None
    assert advice.seed.choice.variant.short == "cuda12_8-sm89-avx512bf16"


def test_on_an_h100_the_torch_that_is_there_decides() -> None:
    machine = recorded("h100", with_torch("2.11.0+cu130", "13.0", python="312"))
    offer = advise(machine).best
    assert offer is not None
    assert (offer.choice.variant.short, offer.choice.kind) == ("cuda13_0-sm90-avx512bf16", "native")
    assert offer.build.endswith("--torchvision 0.26.0")


@pytest.mark.parametrize(
    ("name", "best_release", "seed_release"),
    [("rtx4090", "0.25.0", "0.25.0"), ("thor", "0.29.1", None), ("zen2", "0.29.1", "0.29.1")],
)
def test_without_a_torch_the_release_is_the_newest_whose_torch_has_that_cuda(
    name: str, best_release: str, seed_release: str | None
) -> None:
    advice = advise(recorded(name))
    assert advice.best is not None
    assert advice.seed is not None
    assert advice.best.release is not None
    assert advice.best.release.torchvision == best_release
    assert (advice.seed.release and advice.seed.release.torchvision) == seed_release
    assert (seed_release is None) == ("--torch" in (advice.seed.needs or ""))
    assert (seed_release is None) == (advice.seed.build is None)


def test_the_release_is_the_one_that_goes_with_the_installed_torch() -> None:
    offer = advise(recorded("l40s", with_torch("2.8.0+cu128", "12.8", python="312"))).best
    assert offer is not None
    assert offer.build == (
        "build-torchvision build torchvision-python312-cuda12_8-sm89-avx512bf16 --torchvision 0.23.0"
    )
    assert offer.install.startswith(
        "/env/bin/python -m pip install dist/torchvision-0.23.0+cu128.sm89.avx512bf16-cp312-"
    )


def test_a_cpu_variant_goes_with_a_cuda_torch_of_its_release() -> None:
    offer = advise(recorded("zen2", with_torch("2.8.0+cu128", "12.8"))).best
    assert offer is not None
    assert (offer.release and offer.release.torchvision, offer.needs) == ("0.23.0", None)


def test_a_variant_of_another_python_does_not_fit_an_environment() -> None:
    machine = recorded("zen2", with_torch("2.6.0", None, python="312"))
    (choice,) = choose(machine, [parse("torchvision-python313-cpu-avx2")])
    assert not choice.fits
    assert "the environment has 3.12" in choice.why


@pytest.mark.parametrize("python", ["38", "39"])
def test_a_python_outside_the_matrix_gets_no_variant_and_is_told_so(python: str) -> None:
    advice = advise(recorded("zen2", with_torch("2.6.0", None, python=python)))
    assert advice.best is None
    assert f"no variant for Python 3.{python[1:]}" in advice.notes[0]
    with pytest.raises(BadInput, match=rf"3\.{python[1:]}"):
        advise(recorded("zen2"), python)


def test_no_code_is_given_to_what_cannot_be_built_from_a_published_torch() -> None:
    (choice,) = choose(recorded("l40s"), [parse("torchvision-python313-cuda12_9-sm89-avx2")])
    assert choice.fits


# --- build --auto -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "torchvision", "short", "why"),
    [
        ("zen2", "0.21.0", "cpu-avx2", None),
        ("a100", "0.21.0", "cuda12_4-sm80-avx2", None),
        ("l40s", "0.25.0", "cuda12_8-sm89-avx512bf16", None),
        ("b200", "0.21.0", "cpu-avx512bf16", "is built with CUDA 12.4; cuda12_8-sm100-avx512bf16"),
        ("rtx4090", "0.28.0", "cpu-avx2", "is built with CUDA 13.0; cuda12_8-sm89-avx2"),
        ("dgx-spark", "0.21.0", "cpu-armv9", "is CPU-only; cuda13_0-sm121-armv9"),
        ("dgx-spark", "0.28.0", "cuda13_0-sm121-armv9", None),
        ("zen2", None, "cpu-avx2", None),
        ("rtx4090", None, "cuda12_8-sm89-avx2", None),  # its driver is too old for CUDA 13
        ("b200", None, "cuda12_8-sm100-avx512bf16", None),
        ("dgx-spark", None, "cuda13_0-sm121-armv9", None),
    ],
)
def test_auto_takes_the_gpu_where_the_releases_torch_allows_it(
    name: str, torchvision: str | None, short: str, why: str | None
) -> None:
    variant, said = auto_variant(recorded(name), "313", torchvision=torchvision)
    assert variant.short == short
    assert (why is None) == (said is None)
    assert (why or "") in (said or "")


def test_auto_without_a_gpu_is_the_best_cpu_variant_for_the_running_python() -> None:
    machine = detect(this_machine())
    if machine.gpus or machine.cpu.isa is None:
        pytest.skip("this machine has a GPU, or a processor of no ISA of the matrix")
    python = f"{sys.version_info.major}{sys.version_info.minor}"
    assert str(WheelOptions().best_variant()) == f"torchvision-python{python}-cpu-{machine.cpu.isa}"


def test_auto_on_a_processor_without_any_isa_is_refused() -> None:
    with pytest.raises(BadInput, match="stock wheel"):
        auto_variant(recorded("rosetta"), "313")


# --- environments are read, not run -----------------------------------------------------------------------------------


def environment_tree(root: Path, *, python: str = "3.12", torch: str = "2.6.0+cu124", cuda: str = "'12.4'") -> Path:
    site = root / "lib" / f"python{python}" / "site-packages"
    info = site / f"torch-{torch}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {torch}\n")
    (site / "torch").mkdir()
    (site / "torch" / "version.py").write_text(f"raise SystemExit\n__version__ = '{torch}'\ncuda = {cuda}\n")
    (root / "bin").mkdir()
    (root / "bin" / "python").write_text("#!/bin/false\n")
    (root / "pyvenv.cfg").write_text(f"home = /usr/bin\nversion = {python}.4\n")
    return root


@pytest.mark.parametrize("part", ["", "bin/python", "lib/python3.12/site-packages"])
def test_an_environment_is_read_by_its_python_its_folder_or_its_packages(part: str, tmp_path: Path) -> None:
    found = read_environment(environment_tree(tmp_path) / part)
    assert found.python == "312"
    assert found.torch is not None
    assert (found.torch.public, found.torch.cuda, found.torchvision) == ("2.6.0", "12.4", None)


def test_a_torchvision_of_ours_is_known_by_its_variant(tmp_path: Path) -> None:
    root = environment_tree(tmp_path)
    info = root / "lib/python3.12/site-packages/torchvision-0.21.0+cpu.avx2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torchvision\nVersion: 0.21.0+cpu.avx2\n")
    (info / DESCRIPTOR).write_text(json.dumps({"variant": "torchvision-python312-cpu-avx2"}))
    environment = read_environment(root)
    assert environment.torchvision is not None
    assert environment.torchvision.variant == "torchvision-python312-cpu-avx2"
    torchless = replace(environment, torch=None)
    assert any("installed there already" in note for note in advise(recorded("zen2", torchless)).notes)


def test_uvs_spelling_of_the_version_is_read(tmp_path: Path) -> None:
    root = environment_tree(tmp_path)
    (root / "pyvenv.cfg").write_text("home = /usr/bin\nversion_info = 3.12.4\n")
    assert read_environment(root).python == "312"


@pytest.mark.parametrize("name", ["nowhere", "", "python"])
def test_what_is_no_environment_is_told(name: str, tmp_path: Path) -> None:
    (tmp_path / "python").write_text("#!/bin/sh\nexec something\n")
    with pytest.raises(BadInput):
        read_environment(tmp_path / name)


def test_the_active_environment_counts_with_torch_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIRTUAL_ENV", str(environment_tree(tmp_path / "env")))
    found = environment_with_torch()
    assert found is not None
    assert found.torch is not None
    empty = tmp_path / "empty"
    (empty / "bin").mkdir(parents=True)
    (empty / "bin" / "python").touch()
    (empty / "pyvenv.cfg").write_text("version = 3.12.1\n")
    monkeypatch.setenv("VIRTUAL_ENV", str(empty))
    assert environment_with_torch() is None
    assert current_environment().executable == empty / "bin" / "python"


def test_tegra_systems_are_told_from_each_other() -> None:
    names = [gpu.tegra for gpu in gpus().values() if gpu.tegra]
    assert len(set(names)) == len(names) == 2

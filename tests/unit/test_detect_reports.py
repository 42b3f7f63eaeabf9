"""What detect answers for machines and environments as people report them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from _environments import Site
from _machines import record, sources

from build_torchvision.choose.advice import Advice, advise
from build_torchvision.machine.environment import read_environment
from build_torchvision.machine.nvml import Nvml, NvmlDevice
from build_torchvision.machine.report import Machine, detect


def recorded(name: str) -> Machine:
    return detect(sources(record(name)))


def beside(root: Path, machine: str, *gpus: NvmlDevice) -> Advice:
    """The advice for the environment in `root` on a recorded machine, with `gpus` in place of its own where given."""
    found = sources(record(machine))
    if gpus:
        found = replace(found, nvml=lambda: Nvml(driver="580.95.05", cuda="13.0", devices=gpus))
    return advise(detect(found, read_environment(root, {})))


RTX_5090 = NvmlDevice(name="NVIDIA GeForce RTX 5090", capability="12.0", memory_mib=32607)


def test_a_torch_of_an_index_is_built_against_as_it_stands_on_a_dgx_spark(tmp_path: Path) -> None:
    """model-compose 24: without --torch, build refuses: the release's own torch is of CUDA 12.8."""
    site = Site().with_torch_cuda("2.10.0+cu130", "13.0", "sm80", "sm90", "sm100", "sm110", "sm120").for_arm()
    offer = beside(site.write(tmp_path), "dgx-spark").best
    assert offer is not None
    packages = tmp_path / "lib" / "python3.12" / "site-packages"
    assert offer.build == (
        f"build-torchvision build torchvision-python312-cuda13_0-sm121-armv9 --torchvision 0.25.0 --torch {packages}"
    )


def test_a_torch_of_an_index_is_built_against_as_it_stands_on_a_5090(tmp_path: Path) -> None:
    site = Site().with_torch_cuda("2.9.1+cu130", "13.0", "sm80", "sm90", "sm120")
    offer = beside(site.write(tmp_path), "rtx4090", RTX_5090).best
    assert offer is not None
    packages = tmp_path / "lib" / "python3.12" / "site-packages"
    assert offer.build == (
        f"build-torchvision build torchvision-python312-cuda13_0-sm120-avx2 --torchvision 0.24.1 --torch {packages}"
    )


def test_a_torch_without_code_for_the_gpu_is_offered_no_build_that_build_refuses(tmp_path: Path) -> None:
    site = Site().with_torch_cuda("2.9.1+cu130", "13.0", "sm80", "sm90")
    offer = beside(site.write(tmp_path), "rtx4090", RTX_5090).best
    assert offer is not None
    assert offer.build is None
    assert "no code that runs there" in (offer.needs or "")


@pytest.mark.parametrize(
    ("torch", "cuda", "short"),
    [
        ("2.7.1+cu126", "12.6", "cuda12_6-sm89-avx512bf16"),
        ("2.15.0+cu132", "13.2", "cuda13_2-sm89-avx512bf16"),
        ("2.14.0+cu131", "13.1", "cuda13_0-sm89-avx512bf16"),
    ],
)
def test_the_track_of_torchs_own_cuda_or_of_its_major_version_serves(
    torch: str, cuda: str, short: str, tmp_path: Path
) -> None:
    """roboflow 2531."""
    site = Site().with_torch_cuda(torch, cuda, "sm80", "sm89")
    gpu = NvmlDevice(name="NVIDIA L40S", capability="8.9", memory_mib=46068)
    advice = beside(site.write(tmp_path), "l40s", gpu)
    assert advice.best is not None
    assert advice.best.choice.variant.short == short
    own = short.split("-")[0] == f"cuda{cuda.replace('.', '_')}"
    assert any("code of one CUDA major version" in note for note in advice.notes) is not own


@pytest.mark.parametrize(
    ("torch", "constants", "said"),
    [
        ("2.9.1+rocm6.4", {"hip": "6.4.4"}, "https://download.pytorch.org/whl/rocm6.4 torchvision==0.24.1"),
        ("2.9.1+xpu", {"xpu": "20250301"}, "https://download.pytorch.org/whl/xpu torchvision==0.24.1"),
    ],
)
def test_beside_a_torch_for_other_hardware_no_variant_is_offered(
    torch: str, constants: dict[str, str | None], said: str, tmp_path: Path
) -> None:
    advice = beside(Site(torch=torch, torch_constants=constants).write(tmp_path), "l40s")
    assert (advice.best, advice.seed, advice.called_for)[0] is None
    assert said in " ".join(advice.notes)


def test_a_cuda_torch_where_no_gpu_is_visible_is_told_what_a_cpu_variant_means(tmp_path: Path) -> None:
    site = Site().with_torch_cuda("2.9.1+cu130", "13.0", "sm80")
    notes = " ".join(beside(site.write(tmp_path), "zen2").notes)
    assert "Could not run 'torchvision::nms' with arguments from the 'CUDA' backend" in notes
    assert "https://download.pytorch.org/whl/cu130 torchvision==0.24.1" in notes


def test_a_torch_newer_than_the_tables_is_told_so(tmp_path: Path) -> None:
    site = Site().with_torch_cuda("2.19.0+cu130", "13.0", "sm80")
    assert "newer than this program knows" in " ".join(beside(site.write(tmp_path), "zen2").notes)


@pytest.mark.parametrize(
    ("machine", "model", "isa"),
    [
        ("raspberry-pi-4", "Cortex-A72", None),
        ("raspberry-pi-5", "Cortex-A76", "armv8_2"),
        ("orin", "Cortex-A78AE", "armv8_2"),
        ("snapdragon-x", "Oryon", "armv8_2"),
        ("kunpeng-920", "TaiShan v110 (Kunpeng 920)", "armv8_2"),
        ("dgx-spark", "Cortex-A725, Cortex-X925", "armv9"),
        ("graviton3", "Neoverse-V1", "armv8_2"),
    ],
)
def test_an_arm_processor_is_called_by_its_cores_names(machine: str, model: str, isa: str | None) -> None:
    """pytorch 176993, ultralytics 15835: all of them were "armv9.2a"."""
    cpu = recorded(machine).cpu
    assert (cpu.model, cpu.isa) == (model, isa)
    assert not cpu.microarchitecture.startswith("armv")


def test_a_raspberry_pi_4_gets_no_variant_and_the_reason() -> None:
    advice = advise(recorded("raspberry-pi-4"))
    assert advice.best is None
    assert "Cortex-A72" in advice.notes[0]
    assert "atomics" in advice.notes[0]


@pytest.mark.parametrize("machine", ["riscv64", "ppc64le", "loongarch64", "armv7l"])
def test_a_platform_without_pytorch_wheels_is_called_what_it_is(machine: str) -> None:
    """LLM-TPU 166, vision 4087."""
    found = recorded(machine)
    advice = advise(found)
    assert advice.best is None
    assert f"PyTorch publishes no wheels for {machine}" in advice.notes[0]
    assert "stock wheel" not in " ".join(advice.notes)
    assert found.cpu.emulated is None
    assert found.cpu.model not in ("", "unknown")


def test_a_p100_gets_the_track_whose_published_torch_has_its_code() -> None:
    """kaggle-cli 1151."""
    advice = advise(recorded("p100"))
    assert advice.best is not None
    assert advice.best.build == "build-torchvision build torchvision-python313-cuda12_6-sm60-avx2 --torchvision 0.22.1"
    assert not any("none makes code" in note for note in advice.notes)


# --- what it costs ----------------------------------------------------------------------------------------------------


SLOW = ("torch", "torchvision", "httpx", "variantlib", "rich.table", "rich.logging", "build_torchvision.bench")


@pytest.mark.parametrize(
    ("command", "kept_out"),
    [
        ("detect", (*SLOW, "capstone", "filelock", "platformdirs", "importlib.metadata")),
        ("doctor", SLOW),
    ],
)
def test_neither_command_imports_torch_or_what_other_commands_need(
    command: str, kept_out: tuple[str, ...], tmp_path: Path
) -> None:
    root = Site().write(tmp_path)
    code = (
        "import sys\nfrom build_torchvision.cli.main import make_app\n"
        f"make_app()([{command!r}, '--python', {str(root)!r}, '--json'], result_action='return_value')\n"
        f"print(sorted(set({kept_out!r}) & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip().splitlines()[-1] == "[]", done.stderr

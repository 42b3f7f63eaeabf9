"""Our reader of GPU code beside NVIDIA's own: cuobjdump, from the package registry."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from build_torchvision.binary.fatbin import images, kernels
from build_torchvision.inputs.registry import download, extract

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from _elf import Object

pytestmark = pytest.mark.compiler
FATBINS = Path(__file__).parents[1] / "unit" / "fatbins"
FUNCTION = re.compile(r"Function (?P<name>\S+):\s+REG:(?P<registers>\d+) STACK:(?P<stack>\d+)")


@pytest.fixture(scope="module")
def cuobjdump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cuobjdump")
    wheel = download(
        "nvidia-cuda-cuobjdump==13.5.37",
        folder,
        platform="x86_64",
        python=None,
        action="Fetch cuobjdump",
        hint="Check the network.",
    )
    place = {"nvidia/cu13/bin/cuobjdump": "cuobjdump"}
    extract(wheel, folder, place.get, package="nvidia_cuda_cuobjdump")
    (folder / "cuobjdump").chmod(0o755)
    return folder / "cuobjdump"


@pytest.mark.parametrize("name", ["sm80", "sm90", "sm90a", "sm80-sm90", "sm80-ptx80", "ptx80"])
def test_images_and_kernels_are_those_that_cuobjdump_sees(name: str, cuobjdump: Path, tmp_path: Path) -> None:
    library = tmp_path / "lib.so"
    library.write_bytes(Object(fatbin=(FATBINS / f"{name}.fatbin").read_bytes()).build())
    (ours,) = images(library.read_bytes())

    def told(option: str) -> str:
        done = subprocess.run([cuobjdump, option, library], capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    found = {("cubin", f"sm{sm}") for sm in re.findall(r"\.sm_(\d+[af]?)\.cubin", told("-lelf"))}
    found |= {("ptx", f"sm{sm}") for sm in re.findall(r"\.sm_(\d+[af]?)\.ptx", told("-lptx"))}
    assert {(image.kind, image.sm) for image in ours} == found
    used = sorted((m["name"], int(m["registers"]), int(m["stack"])) for m in FUNCTION.finditer(told("-res-usage")))
    mine = [kernel for image in ours if image.kind == "cubin" for kernel in kernels(image)]
    assert sorted((kernel.name, kernel.registers, kernel.stack) for kernel in mine) == used
    assert bool(used) is (name != "ptx80")

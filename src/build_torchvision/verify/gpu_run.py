"""Run a wheel on a GPU: every CUDA operator against its reference, and whether the driver had to compile anything."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

from build_torchvision.compatibility import CodegenKind
from build_torchvision.verify.checks import Check
from build_torchvision.verify.device import launched, registered_kernels
from build_torchvision.verify.gpu import VisibleGpu
from build_torchvision.verify.libraries import CODECS
from build_torchvision.verify.package import Package
from build_torchvision.verify.run_probe import ProbeResult, probe
from build_torchvision.verify.target import Place


def on(place: Place, gpu: VisibleGpu, *, jit: bool, cache: Path | None = None) -> Place:
    """`place` with that GPU alone, with or without the driver's compiler, whose cache is then in folder `cache`."""
    variables = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_DISABLE_PTX_JIT": "0" if jit else "1"}
    listed = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
    if all(part.strip().isdigit() for part in listed.split(",")):
        variables["CUDA_VISIBLE_DEVICES"] = str(gpu.index)
    if cache is not None:
        variables |= {"CUDA_CACHE_DISABLE": "0", "CUDA_CACHE_PATH": str(cache)}
    return place.under(**variables)


def has_nvjpeg(package: Package) -> bool:
    """Whether JPEGs are decoded and encoded on the GPU: the library came along."""
    return any("libnvjpeg" in name for name in package.bundled)


def run_on_gpu(place: Place, package: Package, gpu: VisibleGpu, kind: CodegenKind) -> tuple[Check, ...]:
    """Call every CUDA operator, and check that the driver compiled nothing, or that it had to."""
    device = {"capability": gpu.capability, "nvjpeg": has_nvjpeg(package), "refused": False}
    codecs = package.descriptor.codec_names() if package.descriptor else tuple(CODECS)
    with tempfile.TemporaryDirectory(prefix="jit-") as scratch:
        cache = Path(scratch, "compiled")
        run_there = on(place, gpu, jit=kind == "ptx", cache=cache)
        checks = tuple(
            _judged(row, package) for row in probe(run_there, codecs, device=device, label="GPU", part="gpu")
        )
        size = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file()) / 1024
        problems = [] if all(check.ok for check in checks) else ["not shown: not everything ran"]
        if kind != "ptx":
            problems += [f"{size:.0f} KiB of code compiled in spite of CUDA_DISABLE_PTX_JIT=1"] if size else []
            said = "none: all of this ran with CUDA_DISABLE_PTX_JIT=1, from cubins"
            return (*checks, Check.of("JIT", problems, said, part="gpu"))
        without = on(place, gpu, jit=False, cache=Path(scratch, "none"))
        refused = probe(without, codecs, device={**device, "refused": True}, label="GPU without JIT", part="gpu")
        said = f"needed: the driver compiled this wheel's PTX ({size:.0f} KiB in its cache)"
        return (*checks, Check.of("JIT", problems, said, part="gpu"), *(row.check for row in refused))


def _judged(row: ProbeResult, package: Package) -> Check:
    """The check that listed what the GPU ran, compared with what host code registers; any other check as it is."""
    if not row.lists_kernels or not row.check.ok:
        return row.check
    judged = launched(registered_kernels(package.extensions), row.kernels)
    return replace(judged, name=row.check.name, part=row.check.part)

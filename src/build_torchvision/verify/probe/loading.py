"""Import torchvision, and ask which operators its extension modules register."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import torch

from .harness import Outcome, Probe, Wrong, has_gpu_code
from .images import nvjpeg

GPU_ONLY = frozenset(nvjpeg.OPERATORS)
"""Operators that are registered everywhere and run on a GPU alone."""


def dispatched() -> set[str]:
    """Every operator that torch's dispatcher knows, without overload names."""
    return {name.partition(".")[0] for name in torch._C._dispatch_get_all_op_names()}


def check_import(probe: Probe) -> Outcome:
    """Import it, and note what each library that it loads registers, in whatever namespace."""
    load: Any = torch.ops.load_library
    modules: list[str] = []

    def recorded(path: str) -> Any:
        before = dispatched()
        result = load(path)
        probe.registered |= dispatched() - before
        modules.append(Path(path).name)
        return result

    torch.ops.load_library = recorded
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            import torchvision
            from torchvision import extension
            from torchvision.io import image  # noqa: F401  (its import warns when its extension cannot be loaded)
    finally:
        torch.ops.load_library = load
    folder = Path(torchvision.__file__).parent
    shipped = sorted(path.name for path in folder.glob("*.so"))
    if not extension._has_ops():
        raise Wrong("Couldn't load custom C++ ops: " + _why_not_loaded(folder))
    has_images = any("image" in name for name in shipped)  # without such a module there is nothing to warn of
    messages = [str(warning.message) for warning in caught]
    found = [text for text in messages if "torchvision" in text or (has_images and "image" in text.lower())]
    if found:
        raise Wrong(found[0])
    unloaded = [name for name in shipped if name not in modules]
    if unloaded:
        raise Wrong(f"the package ships {', '.join(unloaded)}, and importing it does not load that")
    versions = f"torchvision {torchvision.__version__}, torch {torch.__version__}, Python {sys.version.split()[0]}"
    return Outcome(detail=f"{versions}; {', '.join(modules)} register {len(probe.registered)} operators")


def _why_not_loaded(folder: Path) -> str:
    paths = sorted(folder.glob("*.so"))
    for path in paths:
        try:
            torch.ops.load_library(str(path))
        except OSError as error:
            return str(error)
    return "each module loads by itself" if paths else f"no extension module in {folder}"


def check_all_called(probe: Probe, expected: frozenset[str] | None) -> Outcome:
    """Whether every registered operator was called, and every one that the release registers is there."""
    left = probe.registered - probe.called - GPU_ONLY
    missing = sorted((expected or frozenset()) - probe.registered)
    unknown = sorted(name for name in probe.called if name not in probe.registered)
    if missing or unknown:
        raise Wrong(f"not registered: {', '.join(sorted({*missing, *unknown}))}")
    if left:
        raise Wrong(f"registered, and this probe does not call them: {', '.join(sorted(left))}")
    if not probe.registered:
        raise Wrong("no operator is registered")
    return Outcome(detail=f"all {len(probe.registered - GPU_ONLY)} registered operators were called")


def check_all_called_on_gpu(probe: Probe) -> Outcome:
    """Whether every operator that is registered for CUDA was called on the GPU."""
    wanted = {name for name in probe.registered if has_gpu_code(name)} | (GPU_ONLY & probe.registered)
    left = wanted - probe.called
    if left:
        raise Wrong(f"registered for CUDA, and this probe does not call them: {', '.join(sorted(left))}")
    if not wanted:
        raise Wrong("no operator is registered for CUDA")
    return Outcome(detail=f"all {len(wanted)} operators with CUDA code were called")

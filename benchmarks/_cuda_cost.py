"""The CUDA side of build_cost.py: upstream's setup.py for one SM beside one, nine and thirty-six of our variants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from build_torchvision.facts import Release
from build_torchvision.inputs.cuda_sdk import CudaSdk, cuda_sdk
from build_torchvision.variants import Variant, enumerate_variants, select

TRACK, TORCH = (
    "cuda13_0",
    "2.11.0",
)  # the newest torch of the table whose own CUDA is a track with an nvcc in the registry
# Patterns of what is built, and the share of upstream's CPU seconds that it may cost.
STEPS = (("sm90-avx512", 0.4), ("*-avx512", 1.2), ("*-avx*", 0.42))


def pair(known: Release) -> Release:
    """`known` beside the torch that upstream's build is given."""
    return replace(known, torch=TORCH)


def toolkit_home(folder: Path) -> tuple[Path, CudaSdk]:
    """A CUDA_HOME as torch.utils.cpp_extension wants it, of the registry's wheels: lib64 with unversioned names."""
    sdk = cuda_sdk(TRACK)
    (folder / "lib64").mkdir(parents=True)
    for name in ("bin", "include", "nvvm"):
        (folder / name).symlink_to(sdk.root / name)
    for library in (sdk.root / "lib").glob("*.so.*"):
        (folder / "lib64" / (library.name.partition(".so")[0] + ".so")).symlink_to(library)
    return folder, sdk


def upstream_environment(home: Path) -> dict[str, str]:
    """What setup.py is told: CUDA for one SM, with the toolkit at `home`."""
    headers = ":".join(str(home / "include" / sub) for sub in ("", "cccl"))
    return {
        "FORCE_CUDA": "1",
        "CUDA_HOME": str(home),
        "TORCH_CUDA_ARCH_LIST": "9.0",
        "CPLUS_INCLUDE_PATH": headers,
        "LIBRARY_PATH": str(home / "lib64"),
    }


def variants_of(pattern: str, python: str) -> list[Variant]:
    """The x86-64 variants of the track that `pattern` names, for one Python."""
    universe = [v for v in enumerate_variants(python, (TRACK,)) if v.platform == "x86_64"]
    return select([f"{TRACK}-{pattern}"], universe)


def verdicts(base: float, spent: Callable[[str], float]) -> list[str]:
    """A line a step: its CPU seconds, its share of `base` and whether the goal is met."""
    lines = []
    for pattern, goal in STEPS:
        share = spent(pattern) / base
        verdict = "met" if share <= goal else "NOT MET"
        lines.append(
            f"{TRACK}-{pattern}: {spent(pattern):.1f} CPU s, {share:.2f} of upstream's {base:.0f} "
            f"(goal {goal}: {verdict})"
        )
    return lines

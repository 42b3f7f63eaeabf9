"""torchvision::_cuda_version: the CUDA that the package was built with."""

from __future__ import annotations

import torch

from ..harness import Outcome, Probe

OPERATORS = ("torchvision::_cuda_version",)


def check(probe: Probe) -> Outcome:
    """Call it; whether it is the right one is the static audit's matter."""
    version = probe.op(OPERATORS[0])()
    built = "no CUDA" if version == -1 else f"CUDA {version}"
    return Outcome(detail=f"built with {built}, beside torch {torch.__version__}")

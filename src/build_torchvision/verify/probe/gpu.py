"""What is asked of a GPU besides the operators: that it is the right one, what it ran, and how it refuses."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from .harness import Outcome, Probe, Wrong
from .operators import single_calls

NO_CODE = re.compile("no kernel image|PTX JIT|JIT compil|invalid device function|unsupported toolchain", re.IGNORECASE)
"""What CUDA's runtime says where a GPU has no code and may not compile any; it gives no other sign through torch."""


def check_device(capability: str) -> Outcome:
    """The GPU is the one that was judged, and torch itself runs there: what fails after this is TorchVision's."""
    if not torch.cuda.is_available():
        raise Wrong(f"torch {torch.__version__} sees no GPU")
    major, minor = torch.cuda.get_device_capability(0)
    name = torch.cuda.get_device_name(0)
    if f"{major}.{minor}" != capability:
        raise Wrong(f"torch would run on {name} ({major}.{minor}), and the package was judged for {capability}")
    seen = (torch.arange(1000.0, device="cuda") * 2).sum().item()
    if seen != 999000:
        raise Wrong(f"torch's own kernels give {seen} where 999000 is right")
    return Outcome(detail=f"{name} ({capability}), torch {torch.__version__} for CUDA {torch.version.cuda}")


def kernels(profile: Any) -> Outcome:
    """What the profiler saw on the GPU."""
    names = sorted({event.name for event in profile.events() if event.device_type == torch.autograd.DeviceType.CUDA})
    return Outcome(detail=f"{len(names)} kernels were seen by the profiler", kernels=tuple(names))


def refusals(probe: Probe) -> list[tuple[str, Callable[[], Outcome]]]:
    """Each operator must fail here for want of code."""
    return [(name.partition("::")[2], partial(_refused, call)) for name, call in single_calls(probe)]


def _refused(call: Callable[[], object]) -> Outcome:
    try:
        call()
    except RuntimeError as error:
        first = str(error).splitlines()[0]
        if NO_CODE.search(str(error)):
            return Outcome(detail=f"refused: {first[:120]}")
        raise Wrong(f"failed for another reason: {first}") from error
    raise Wrong("it ran without the driver's compiler")

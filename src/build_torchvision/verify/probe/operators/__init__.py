"""One file per operator: its reference in float64, and the check that compares the two.

A module says in OPERATORS which operators its check calls. `check` is the check in double and single precision,
`check_backward` calls the operator of the gradient directly, `half` is the check in float16 on inputs that it holds,
and `arguments` are small float32 arguments for a single call.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from ..harness import Outcome, Probe, has_gpu_code
from . import (
    box_iou_rotated,
    cuda_version,
    deform_conv2d,
    nms,
    ps_roi_align,
    ps_roi_pool,
    quantized,
    roi_align,
    roi_pool,
)

Check = tuple[str, tuple[str, ...], Callable[[Probe], Outcome]]
"""(name, the operators that it calls, the check)."""

WITH_GRADIENTS = (roi_align, roi_pool, ps_roi_align, ps_roi_pool, deform_conv2d)
EVERYWHERE: tuple[Check, ...] = (
    ("nms", nms.OPERATORS, nms.check),
    ("nms of many boxes", nms.OPERATORS, nms.check_many),
    *(
        row
        for module in WITH_GRADIENTS
        for row in (
            (module.OPERATORS[0].partition("::")[2], module.OPERATORS[:1], module.check),
            (module.OPERATORS[1].partition("::")[2], module.OPERATORS, module.check_backward),
        )
    ),
    ("box_iou_rotated", box_iou_rotated.OPERATORS, box_iou_rotated.check),
)
"""What a CPU and a GPU are asked."""
CPU_ONLY: tuple[Check, ...] = (
    ("quantized operators", (), quantized.check),
    ("_cuda_version", cuda_version.OPERATORS, cuda_version.check),
)


def check_half(probe: Probe) -> Outcome:
    """All operators in float16, whose coordinates lose what float32's keep: so these are multiples it can hold."""
    if probe.on_gpu:  # on a CPU nms has no float16
        nms.half(probe)
    outcomes: list[Outcome] = [
        module.half(probe) for module in WITH_GRADIENTS if set(module.OPERATORS) <= probe.registered
    ]
    return max(outcomes, key=lambda outcome: outcome.error or 0.0)


def checks(probe: Probe) -> list[tuple[str, Callable[[], Outcome]]]:
    """The checks of all operators that are registered here; on a GPU, of those that have GPU code."""
    rows = [*EVERYWHERE, ("float16", (), check_half), *(() if probe.on_gpu else CPU_ONLY)]
    return [(name, partial(check, probe)) for name, operators, check in rows if _runs_here(operators, probe)]


def _runs_here(operators: tuple[str, ...], probe: Probe) -> bool:
    """Whether all `operators` are registered, and on a GPU for CUDA (0.26's box_iou_rotated has CPU code alone)."""
    if not set(operators) <= probe.registered:
        return False
    return not probe.on_gpu or all(has_gpu_code(name) for name in operators)


def single_calls(probe: Probe) -> list[tuple[str, Callable[[], object]]]:
    """A call of each operator that has GPU code, with small arguments, whose result nobody compares."""
    found: list[tuple[str, Callable[[], object]]] = []
    for module in (nms, *WITH_GRADIENTS, box_iou_rotated):
        name = module.OPERATORS[0]
        if name in probe.registered and has_gpu_code(name):
            found.append((name, partial(_synchronized, probe, name, module.arguments())))
    return found


def _synchronized(probe: Probe, name: str, arguments: tuple[object, ...]) -> None:
    probe.op(name)(*arguments)
    torch.cuda.synchronize()


def covered() -> frozenset[str]:
    """Every operator that some check of this package calls."""
    named = [name for _, operators, _ in (*EVERYWHERE, *CPU_ONLY) for name in operators]
    return frozenset((*named, *quantized.OPERATORS))

"""torchvision::roi_pool and the operator of its gradient."""

from __future__ import annotations

from typing import Any

import torch

from ..harness import ITSELF, TOLERANCE, Outcome, Probe, boxes_of, draw, draw_half
from .sampling import half_rois, pool_whole_pixels

OPERATORS = ("torchvision::roi_pool", "torchvision::_roi_pool_backward")


def check(probe: Probe) -> Outcome:
    """Six regions at half scale."""
    x, rois = draw(2, 5, 37, 45), boxes_of(6, 2, 37, 45) * torch.tensor([1, 2, 2, 2, 2])
    return probe.compare(
        "roi_pool",
        lambda v: probe.op("torchvision::roi_pool")(v, rois.to(v.dtype), 0.5, 4, 2)[0],
        lambda v: pool_whole_pixels(v, rois, 0.5, (4, 2), average=False),
        [x],
    )


def check_backward(probe: Probe) -> Outcome:
    """The gradient's operator against the reference's autograd."""
    x, rois, grad = draw(2, 3, 20, 24).requires_grad_(), boxes_of(4, 2, 20, 24), draw(4, 3, 2, 2)
    (expected,) = torch.autograd.grad(pool_whole_pixels(x, rois, 1.0, (2, 2), average=False), x, grad)
    for dtype in TOLERANCE:
        largest = probe.op("torchvision::roi_pool")(x.detach().to(dtype), rois.to(dtype), 1.0, 2, 2)[1]
        found = probe.op("torchvision::_roi_pool_backward")(
            grad.to(dtype), rois.to(dtype), largest, 1.0, 2, 2, 2, 3, 20, 24
        )
        probe.close("_roi_pool_backward", found, expected, dtype)
    return Outcome(detail=f"{ITSELF} gradient")


def half(probe: Probe) -> Outcome:
    """Regions whose coordinates float16 holds."""
    rois, bins = half_rois(), (2, 2)
    return probe.compare(
        "roi_pool",
        lambda v: probe.op("torchvision::roi_pool")(v, rois.to(v.dtype), 1.0, *bins)[0],
        lambda v: pool_whole_pixels(v, rois, 1.0, bins, average=False),
        [draw_half(2, 8, 14, 14)],
        (torch.float16,),
    )


def arguments() -> tuple[Any, ...]:
    """Two regions of one small map."""
    return draw(1, 8, 14, 14).float(), boxes_of(2, 1, 14, 14).float(), 1.0, 2, 2

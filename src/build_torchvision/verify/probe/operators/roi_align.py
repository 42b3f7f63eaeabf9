"""torchvision::roi_align and the operator of its gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..harness import ITSELF, TOLERANCE, Outcome, Probe, boxes_of, draw, draw_half
from .sampling import half_rois, pooling_matrix

OPERATORS = ("torchvision::roi_align", "torchvision::_roi_align_backward")


def reference(x: Tensor, rois: Tensor, scale: float, bins: tuple[int, int], ratio: int, aligned: bool) -> Tensor:
    """Each region is a product with one matrix per axis."""
    out = []
    for roi in rois.tolist():
        left, top, right, bottom = (value * scale - (0.5 if aligned else 0.0) for value in roi[1:])
        if not aligned:
            right, bottom = max(right, left + 1), max(bottom, top + 1)
        rows = pooling_matrix(top, bottom, bins[0], ratio, x.shape[2])
        columns = pooling_matrix(left, right, bins[1], ratio, x.shape[3])
        out.append(rows @ x[int(roi[0])] @ columns.T)
    return torch.stack(out)


def check(probe: Probe) -> Outcome:
    """Three sampling ratios, one region beyond the borders."""
    x, rois = draw(2, 5, 41, 53), boxes_of(6, 2, 41, 53) * torch.tensor([1, 2, 2, 2, 2])
    rois[0, 1:] += torch.tensor([-9.0, -9.0, 15.0, 15.0])  # beyond the borders
    outcomes = [
        probe.compare(
            f"roi_align, sampling ratio {ratio}",
            lambda v, ratio=ratio, aligned=aligned: probe.op("torchvision::roi_align")(
                v, rois.to(v.dtype), 0.5, 3, 4, ratio, aligned
            ),
            lambda v, ratio=ratio, aligned=aligned: reference(v, rois, 0.5, (3, 4), ratio, aligned),
            [x],
        )
        for ratio, aligned in ((2, False), (-1, True), (17, True))
    ]
    return max(outcomes, key=lambda outcome: outcome.error or 0.0)


def check_backward(probe: Probe) -> Outcome:
    """The gradient's operator against the reference's autograd."""
    x, rois, grad = draw(2, 3, 20, 24).requires_grad_(), boxes_of(4, 2, 20, 24), draw(4, 3, 2, 2)
    (expected,) = torch.autograd.grad(reference(x, rois, 1.0, (2, 2), 3, True), x, grad)
    for dtype in TOLERANCE:
        found = probe.op("torchvision::_roi_align_backward")(
            grad.to(dtype), rois.to(dtype), 1.0, 2, 2, 2, 3, 20, 24, 3, True
        )
        probe.close("_roi_align_backward", found, expected, dtype)
    return Outcome(detail=f"{ITSELF} gradient")


def half(probe: Probe) -> Outcome:
    """Regions whose coordinates float16 holds."""
    rois, bins = half_rois(), (2, 2)
    return probe.compare(
        "roi_align",
        lambda v: probe.op("torchvision::roi_align")(v, rois.to(v.dtype), 1.0, *bins, 2, True),
        lambda v: reference(v, rois, 1.0, bins, 2, True),
        [draw_half(2, 8, 14, 14)],
        (torch.float16,),
    )


def arguments() -> tuple[Any, ...]:
    """Two regions of one small map."""
    return draw(1, 8, 14, 14).float(), boxes_of(2, 1, 14, 14).float(), 1.0, 2, 2, 2, True

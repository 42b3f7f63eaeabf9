"""Quantized nms and roi_align: kernels of their own names from 0.28 on, QuantizedCPU kernels of the others before."""

from __future__ import annotations

import torch
from torch import Tensor

from ..harness import Outcome, Probe, Wrong, boxes_of, draw
from .nms import reference as nms
from .roi_align import reference as roi_align

OPERATORS = ("torchvision::qnms", "torchvision::qroi_align")


def check(probe: Probe) -> Outcome:
    """Both of quint8, and where they are operators of their own, with a scale and a zero point other than 1 and 0."""
    _check_nms(probe)
    _check_roi_align(probe, 1.0, 0)
    if OPERATORS[1] in probe.registered:
        _check_roi_align(probe, 0.5, 10)
        return Outcome(detail="qnms and qroi_align of uint8 as the reference, to half a step")
    return Outcome(detail="nms and roi_align of quint8 as the reference, to half a step")


def _check_nms(probe: Probe) -> None:
    corner = torch.randint(0, 100, (200, 2)).double()
    boxes = torch.cat([corner, corner + torch.randint(20, 60, (200, 2))], dim=1)
    scores = (torch.randperm(300).double()[:200] / 2).floor()
    order = scores - torch.arange(200) * 1e-4  # equal scores keep their order: the sort is stable
    expected = nms(boxes, order, 0.5)
    if OPERATORS[0] in probe.registered:
        kept = probe.op(OPERATORS[0])(boxes.to(torch.uint8), scores.to(torch.uint8), 0.5)
    else:
        kept = probe.op("torchvision::nms")(_quantized(boxes, 1.0, 0), _quantized(scores, 1.0, 0), 0.5)
    probe.kept("quantized nms", kept, expected)


def _check_roi_align(probe: Probe, scale: float, zero: int) -> None:
    x = _steps(draw(1, 3, 30, 30) * 20 + 50, scale, zero)
    rois = _steps(boxes_of(4, 1, 30, 30).round(), scale, zero)  # one image: more are refused when quantized
    right = roi_align((x - zero) * scale, (rois - zero) * scale, 1.0, (3, 3), 2, False)
    if OPERATORS[1] in probe.registered:
        found = probe.op(OPERATORS[1])(
            x.to(torch.uint8), rois.to(torch.uint8), scale, zero, scale, zero, 1.0, 3, 3, 2, False
        )
    else:
        given = [_quantized((value - zero) * scale, scale, zero) for value in (x, rois)]
        found = probe.op("torchvision::roi_align")(*given, 1.0, 3, 3, 2, False).int_repr()
    probe.seen.append(found)
    error = float(((found.double() - zero) - right / scale).abs().max())
    if not error <= 0.5001:
        raise Wrong(f"quantized roi_align is off by {error:.3g} steps, more than half a step")


def _steps(values: Tensor, scale: float, zero: int) -> Tensor:
    """`values` as the numbers of a uint8 grid, in float64."""
    return (values / scale + zero).round().clamp(0, 255)


def _quantized(values: Tensor, scale: float, zero: int) -> Tensor:
    return torch.quantize_per_tensor(values.float(), scale, zero, torch.quint8)

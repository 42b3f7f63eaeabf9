"""torchvision::box_iou_rotated (0.26 and later): intersection over union of rotated boxes, forward only."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..harness import TOLERANCE, Outcome, Probe

OPERATORS = ("torchvision::box_iou_rotated",)
Point = tuple[float, float]


def corners(box: list[float]) -> list[Point]:
    """The corners of (centre x, centre y, width, height, degrees counter-clockwise in a picture), in order."""
    x, y, width, height, degrees = box
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return [
        (x + u * width / 2 * cosine + v * height / 2 * sine, y - u * width / 2 * sine + v * height / 2 * cosine)
        for u, v in ((-1, -1), (1, -1), (1, 1), (-1, 1))
    ]


def area(polygon: list[Point]) -> float:
    """By the shoelace formula; positive for the order that `corners` gives."""
    following = polygon[1:] + polygon[:1]
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(polygon, following, strict=True)) / 2


def clipped(polygon: list[Point], a: Point, b: Point) -> list[Point]:
    """What of a convex polygon lies on the inner side of the line from `a` to `b`."""

    def side(p: Point) -> float:
        return (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])

    kept: list[Point] = []
    for p, q in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        if side(p) >= 0:
            kept.append(p)
        if (side(p) > 0 > side(q)) or (side(p) < 0 < side(q)):
            t = side(p) / (side(p) - side(q))
            kept.append((p[0] + t * (q[0] - p[0]), p[1] + t * (q[1] - p[1])))
    return kept


def reference(first: Tensor, second: Tensor) -> Tensor:
    """One box is cut with the four sides of the other; the operator sorts intersection points into a hull instead."""
    out = torch.zeros(len(first), len(second), dtype=torch.float64)
    for i, one in enumerate(first.tolist()):
        for j, other in enumerate(second.tolist()):
            polygon, frame = corners(one), corners(other)
            for a, b in zip(frame, frame[1:] + frame[:1], strict=True):
                polygon = clipped(polygon, a, b) if polygon else polygon
            both = area(polygon) if polygon else 0.0
            out[i, j] = both / (one[2] * one[3] + other[2] * other[3] - both)
    return out


def drawn(count: int) -> Tensor:
    """Boxes of all angles, most of which overlap others; the numbers are such as float32 holds."""
    centre, size = torch.rand(count, 2) * 30, torch.rand(count, 2) * 20 + 6
    return torch.cat([centre, size, torch.rand(count, 1) * 360 - 180], dim=1).double()


def check(probe: Probe) -> Outcome:
    """40 x 50 boxes, of which one is inside another, one equal, and one far away."""
    first, second = drawn(40), drawn(50)
    first[0] = torch.tensor([10.0, 10.0, 30.0, 20.0, 30.0])
    second[0] = torch.tensor([10.0, 10.0, 6.0, 4.0, 75.0])
    second[1] = torch.tensor([500.0, 10.0, 6.0, 4.0, 75.0])
    second[2] = first[1]
    expected = reference(first, second)
    worst = 0.0
    for dtype in TOLERANCE:
        found = probe.op("torchvision::box_iou_rotated")(first.to(dtype), second.to(dtype))
        worst = max(worst, probe.close("box_iou_rotated", found, expected, torch.float32))  # it returns float32 always
    share = int((expected > 0).sum())
    return Outcome(detail=f"of 2000 pairs {share} overlap; largest error {worst:.1e}, forward only", error=worst)


def arguments() -> tuple[Any, ...]:
    """Two boxes and three."""
    return drawn(2).float(), drawn(3).float()

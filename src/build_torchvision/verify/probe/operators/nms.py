"""torchvision::nms: greedy suppression of overlapping boxes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..harness import TOLERANCE, Outcome, Probe, boxes_of

OPERATORS = ("torchvision::nms",)


def reference(boxes: Tensor, scores: Tensor, threshold: float) -> list[int]:
    """Greedy suppression, box by box."""
    rows: list[list[float]] = boxes.tolist()
    kept: list[int] = []
    for i in sorted(range(len(rows)), key=lambda k: -float(scores[k])):
        if all(_overlap(rows[i], rows[j]) <= threshold for j in kept):
            kept.append(i)
    return kept


def _overlap(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0.0) * max(height, 0.0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def check(probe: Probe) -> Outcome:
    """700 boxes at three thresholds."""
    corner, size = torch.rand(700, 2, dtype=torch.float64) * 60, torch.rand(700, 2, dtype=torch.float64) * 20 + 5
    boxes = torch.cat([corner, corner + size], dim=1)
    scores = torch.randperm(700).double() / 700
    counts = []
    for threshold in (0.2, 0.5, 0.8):
        expected = reference(boxes.float().double(), scores, threshold)
        for dtype in TOLERANCE:
            kept = probe.op("torchvision::nms")(boxes.float().to(dtype), scores.to(dtype), threshold)
            probe.kept(f"nms at {threshold} in {dtype}", kept, expected)
        counts.append(len(expected))
    return Outcome(detail=f"of 700 boxes {counts} kept at 0.2, 0.5, 0.8, as the reference")


MANY = 3000  # more than any implementation settles at a time
MARGIN = 5e-7  # between a threshold and every overlap: float32 rounds an overlap by less


def overlaps(boxes: Tensor) -> Tensor:
    """(boxes, boxes): intersection over union of each pair."""
    sides = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - torch.maximum(
        boxes[:, None, :2], boxes[None, :, :2]
    )
    both = sides.clamp(min=0).prod(dim=2)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    return both / (area[:, None] + area[None, :] - both)


def check_many(probe: Probe) -> Outcome:
    """MANY boxes whose coordinates and scores every precision holds, at a threshold that no overlap comes near."""
    corner, size = torch.randint(0, 1600, (MANY, 2)).double() / 8, torch.randint(40, 400, (MANY, 2)).double() / 8
    boxes, scores = torch.cat([corner, corner + size], dim=1), torch.randperm(MANY).double() - MANY / 2
    order = scores.argsort(descending=True)
    overlap = overlaps(boxes[order])
    threshold = next(t for t in (0.4937, 0.4941, 0.5077, 0.5113) if float((overlap - t).abs().min()) > MARGIN)
    removed, kept = torch.zeros(MANY, dtype=torch.bool), []
    for place in range(MANY):
        if not removed[place]:
            kept.append(int(order[place]))
            removed |= overlap[place] > threshold
    for dtype in (*TOLERANCE, *((torch.float16,) if probe.on_gpu else ())):
        found = probe.op("torchvision::nms")(boxes.to(dtype), scores.to(dtype), threshold)
        probe.kept(f"nms of {MANY} boxes in {dtype}", found, kept)
    return Outcome(detail=f"of {MANY} boxes {len(kept)} kept at {threshold}, as the reference")


def half(probe: Probe) -> None:
    """300 boxes whose coordinates float16 holds."""
    corner, size = torch.randint(0, 480, (300, 2)).double() / 8, torch.randint(40, 200, (300, 2)).double() / 8
    boxes, scores = torch.cat([corner, corner + size], dim=1), torch.randperm(300).double() / 512
    for threshold in (0.25, 0.5, 0.75):
        kept = probe.op("torchvision::nms")(boxes.half(), scores.half(), threshold)
        probe.kept(f"nms at {threshold} in float16", kept, reference(boxes, scores, threshold))


def arguments() -> tuple[Any, ...]:
    """Two boxes."""
    return boxes_of(2, 1, 14, 14).float()[:, 1:], torch.rand(2), 0.5

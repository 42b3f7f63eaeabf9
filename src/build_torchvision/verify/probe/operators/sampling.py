"""What the references of several operators share."""

from __future__ import annotations

import math

import torch
from torch import Tensor

HALF_ROIS = [[0, 1, 2, 9, 8], [1, 2.5, 1, 8.5, 11], [0, 3, 3, 11, 7], [1, 1, 1.5, 5, 9.5]]
"""Regions of a 14 x 14 map whose coordinates float16 holds."""


def half_rois() -> Tensor:
    """HALF_ROIS in float64."""
    return torch.tensor(HALF_ROIS, dtype=torch.float64)


def pooling_matrix(start: float, end: float, bins: int, ratio: int, size: int) -> Tensor:
    """(bins, size): a row averages one bin's bilinear samples on one axis; samples more than 1 outside are 0."""
    step = (end - start) / bins
    count = ratio if ratio > 0 else math.ceil(step)
    where = start + step * (torch.arange(bins * count, dtype=torch.float64) + 0.5) / count
    inside = (where >= -1) & (where <= size)
    hat = (1 - (where.clamp(0, size - 1)[:, None] - torch.arange(size)[None, :]).abs()).clamp(min=0)
    return (hat * inside[:, None]).reshape(bins, count, size).mean(dim=1)


def position_sensitive(pooled: Tensor) -> Tensor:
    """(rois, channels, h, w) -> (rois, channels / (h * w), h, w): bin (i, j) reads its own channel."""
    rois, channels, height, width = pooled.shape
    apart = pooled.reshape(rois, channels // (height * width), height * width, height * width)
    return apart.diagonal(dim1=2, dim2=3).reshape(rois, -1, height, width)


def pool_whole_pixels(x: Tensor, rois: Tensor, scale: float, bins: tuple[int, int], *, average: bool) -> Tensor:
    """Bins on whole pixels: their largest value, or (ps_roi_pool, which leaves out the last row and column) mean."""
    extra = 0 if average else 1
    out = []
    for roi in rois.tolist():
        left, top, right, bottom = (math.floor(value * scale + 0.5) for value in roi[1:])
        width, height = max(right - left + extra, 1), max(bottom - top + extra, 1)
        cells = []
        for i in range(bins[0]):
            for j in range(bins[1]):
                y = [top + math.floor(i * height / bins[0]), top + math.ceil((i + 1) * height / bins[0])]
                z = [left + math.floor(j * width / bins[1]), left + math.ceil((j + 1) * width / bins[1])]
                cell = x[int(roi[0]), :, y[0] : y[1], z[0] : z[1]].flatten(1)
                cells.append(cell.mean(dim=1) if average else cell.amax(dim=1))
        out.append(torch.stack(cells, dim=1).reshape(-1, *bins))
    return torch.stack(out)

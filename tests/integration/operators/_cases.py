"""Executed beside a torch, not imported: call operators of one library on generated cases and print what they return.

    python _cases.py LIBRARY.so[:LIBRARY.so] SEED FIRST END OPERATOR/DTYPE...

The libraries register torchvision's operators with torch. For each case from number FIRST to before END one line is
printed: OPERATOR/DTYPE, a digest of every bit of the results, with their types and shapes, where all NaNs are one
(which NaN an operation gives is not specified); or the error's type. Cases are drawn from SEED and their number alone,
so all libraries are given the same.

Left out is what upstream leaves undefined, where it reads outside its arrays: sampling points that are NaN, images that
are not in the batch, and an adaptive grid with a negative number of samples on one axis alone.
"""

from __future__ import annotations

import hashlib
import math
import random
import sys
from collections.abc import Callable

import torch
from torch import Tensor

ODD = (math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-42, -1e-42, 1e30)
INTEGERS = {torch.quint8: torch.uint8, torch.qint8: torch.int8, torch.qint32: torch.int32}
WIDE = 0.02  # of the cases: enough work for several threads
Results = tuple[Tensor, ...]


class Draw:
    """Everything that one case draws."""

    def __init__(self, seed: int, number: int, dtype: torch.dtype) -> None:
        self.random = random.Random(f"{seed}/{number}")
        self.generator = torch.Generator().manual_seed(self.random.getrandbits(62))
        self.dtype = dtype

    def one(self, *values):
        return self.random.choice(values)

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def size(self, low: int, high: int) -> int:
        return self.random.randint(low, high)

    def normal(self, *shape: int) -> Tensor:
        """Values of the case's type; in one of eight cases some are NaN, infinite, subnormal or zeros."""
        values = torch.randn(*shape, generator=self.generator, dtype=torch.float64)
        if self.chance(0.125) and values.numel():
            for _ in range(self.size(1, 4)):
                values.view(-1)[self.random.randrange(values.numel())] = self.one(*ODD)
        return values.to(self.dtype)

    def strided(self, values: Tensor) -> Tensor:
        """The same values with other strides: channels last, or a slice of something wider."""
        kind = self.random.random()
        if kind < 0.3 and values.dim() == 4:
            return values.contiguous(memory_format=torch.channels_last)
        if kind < 0.4 and values.numel():
            wide = torch.zeros(*values.shape[:-1], values.shape[-1] + 3, dtype=values.dtype)
            wide[..., 1 : values.shape[-1] + 1] = values
            return wide[..., 1 : values.shape[-1] + 1]
        if kind < 0.45 and values.dim() == 4:
            return values.transpose(2, 3).contiguous().transpose(2, 3)
        return values

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=self.generator, dtype=torch.float64)

    def regions(self, count: int, batch: int, height: int, width: int, scale: float, *, ordered: bool) -> Tensor:
        """(count, 5). Unless `ordered`, some end before they start."""
        centre = self.uniform(-0.2, 1.2, count, 2) * torch.tensor([width, height])
        sides = self.uniform(0, 1, count, 2) ** 2 * torch.tensor([width, height])
        for i in range(count):
            kind = self.random.random()
            if kind < 0.1:
                sides[i, self.size(0, 1)] = 0
            elif kind < 0.15:
                sides[i] = self.one(0.0, 1e-3, 1.0)
            elif kind < 0.25 and not ordered:
                sides[i, self.size(0, 1)] *= -1
            elif kind < 0.3:
                centre[i] += self.one(-3.0, 3.0) * max(height, width)
            elif kind < 0.4:
                centre[i], sides[i] = centre[i].round(), sides[i].round()
        corners = torch.cat([centre - sides / 2, centre + sides / 2], dim=1)
        if self.chance(0.3):
            corners = corners.round()
        image = torch.randint(0, batch, (count, 1), generator=self.generator).double()
        return torch.cat([image, corners / scale], dim=1).to(self.dtype)

    def scale(self) -> float:
        return self.one(1.0, 0.5, 0.25, 0.0625, 0.3)


def pooling_case(
    draw: Draw, *, ratio: bool, group: bool = False
) -> tuple[Tensor, Tensor, tuple[float | int | bool, ...]]:
    """(maps, regions, (scale, bins high, bins wide, sampling ratio))."""
    batch, height, width = draw.size(1, 3), draw.size(1, 24), draw.size(1, 24)
    bins = draw.size(1, 7), draw.size(1, 7)
    channels = draw.one(1, 2, 3, 5, 8, 16, 17, 31, 33, 64, 65, 70)
    if group:
        channels = draw.one(1, 2, 3, 4, 5, 9) * bins[0] * bins[1]
    scale = draw.scale()
    sampling = draw.one(-1, 0, 1, 2, 2, 3, 4) if ratio else 0
    count = draw.one(0, 1, 1, 2, 5, 12)
    if draw.chance(WIDE):
        channels, count = draw.one(2, 3) * (bins[0] * bins[1] if group else 70), draw.size(100, 300)
    regions = draw.regions(count, batch, height, width, scale, ordered=ratio and sampling <= 0)
    if draw.chance(0.2):
        regions = draw.strided(regions)
    return draw.strided(draw.normal(batch, channels, height, width)), regions, (scale, *bins, sampling)


def nms(draw: Draw) -> Results:
    count = draw.one(0, 1, 2, 3, 7, 20, 64, 65, 100, 200, 700) if not draw.chance(WIDE) else draw.size(5000, 9000)
    side = draw.one(10.0, 60.0, 300.0)
    corner, size = draw.uniform(0, side, count, 2), draw.uniform(0, side / 3, count, 2)
    if draw.chance(0.3):  # few places: the same boxes, and overlaps that are simple fractions
        corner, size = corner.round() % 5, (size.round() % 3) + draw.one(0, 1)
    boxes = torch.cat([corner, corner + size], dim=1) * draw.one(1.0, 1.0, 1.0, 1e-18, 1e-30, 1e12, 1e25)
    for _ in range(draw.one(0, 0, 1, 3)):
        if count:
            row, column = draw.size(0, count - 1), draw.size(0, 3)
            boxes[row, column] = draw.one(*ODD, float(boxes[row, (column + 2) % 4]), -float(boxes[row, column]))
    scores = draw.uniform(0, 1, count)
    if draw.chance(0.4):
        scores = (scores * draw.one(1, 4, 20)).round()
    if draw.chance(0.1) and count:
        scores[draw.size(0, count - 1)] = draw.one(*ODD)
    if draw.chance(0.2):
        scores = scores - 0.5
    threshold = draw.one(0.0, 1.0, 0.5, 0.3, 0.7, 1 / 3, 0.25, 1 / 7, 1e-7, 0.99999, -0.5, 2.0, draw.random.random())
    return (torch.ops.torchvision.nms(draw.strided(boxes.to(draw.dtype)), scores.to(draw.dtype), threshold),)


def roi_align(draw: Draw) -> Results:
    maps, regions, (scale, high, wide, ratio) = pooling_case(draw, ratio=True)
    return (torch.ops.torchvision.roi_align(maps, regions, scale, high, wide, ratio, draw.chance(0.5)),)


def roi_align_backward(draw: Draw) -> Results:
    maps, regions, (scale, high, wide, ratio) = pooling_case(draw, ratio=True)
    grad = draw.strided(draw.normal(len(regions), maps.shape[1], high, wide))
    return (
        torch.ops.torchvision._roi_align_backward(
            grad, regions, scale, high, wide, *maps.shape, ratio, draw.chance(0.5)
        ),
    )


def roi_pool(draw: Draw) -> Results:
    maps, regions, (scale, high, wide, _) = pooling_case(draw, ratio=False)
    return torch.ops.torchvision.roi_pool(maps, regions, scale, high, wide)


def roi_pool_backward(draw: Draw) -> Results:
    maps, regions, (scale, high, wide, _) = pooling_case(draw, ratio=False)
    shape = (len(regions), maps.shape[1], high, wide)
    places = torch.randint(-1, maps.shape[2] * maps.shape[3], shape, generator=draw.generator).int()
    grad = draw.strided(draw.normal(*shape))
    return (torch.ops.torchvision._roi_pool_backward(grad, regions, places, scale, high, wide, *maps.shape),)


def _mapping(draw: Draw, shape: tuple[int, int, int, int], channels: int) -> Tensor:
    if draw.chance(0.1) and channels:
        return torch.randint(0, channels, shape, generator=draw.generator).int()
    return torch.arange(channels, dtype=torch.int32).expand(shape[0], channels).reshape(shape).contiguous()


def ps_roi_align(draw: Draw) -> Results:
    maps, regions, (scale, high, wide, ratio) = pooling_case(draw, ratio=True, group=True)
    return torch.ops.torchvision.ps_roi_align(maps, regions, scale, high, wide, ratio)


def ps_roi_align_backward(draw: Draw) -> Results:
    maps, regions, (scale, high, wide, ratio) = pooling_case(draw, ratio=True, group=True)
    shape = (len(regions), maps.shape[1] // (high * wide), high, wide)
    grad, mapping = draw.strided(draw.normal(*shape)), _mapping(draw, shape, maps.shape[1])
    return (
        torch.ops.torchvision._ps_roi_align_backward(grad, regions, mapping, scale, high, wide, ratio, *maps.shape),
    )


def ps_roi_pool(draw: Draw) -> Results:
    maps, regions, (scale, high, wide, _) = pooling_case(draw, ratio=False, group=True)
    return torch.ops.torchvision.ps_roi_pool(maps, regions, scale, high, wide)


def ps_roi_pool_backward(draw: Draw) -> Results:
    maps, regions, (scale, high, wide, _) = pooling_case(draw, ratio=False, group=True)
    shape = (len(regions), maps.shape[1] // (high * wide), high, wide)
    grad, mapping = draw.strided(draw.normal(*shape)), _mapping(draw, shape, maps.shape[1])
    return (torch.ops.torchvision._ps_roi_pool_backward(grad, regions, mapping, scale, high, wide, *maps.shape),)


def _convolution(draw: Draw) -> tuple[list[Tensor], tuple[int | bool, ...], tuple[int, int, int, int]]:
    groups, offset_groups = draw.one(1, 1, 2, 3), draw.one(1, 1, 2)
    channels = groups * offset_groups * draw.one(1, 2, 4, 9, 17)
    batch, outputs = draw.one(0, 1, 1, 2, 3, 3, 5, 33), groups * draw.size(1, 3)
    kernel, stride = (draw.size(1, 3), draw.size(1, 3)), (draw.size(1, 3), draw.size(1, 3))
    pad, dilation = (draw.size(0, 3), draw.size(0, 3)), (draw.size(1, 2), draw.size(1, 2))
    least = [max(1, dilation[i] * (kernel[i] - 1) + 1 - 2 * pad[i]) for i in range(2)]
    height, width = least[0] + draw.size(0, 9), least[1] + draw.size(0, 9)
    if draw.chance(WIDE):
        height, width, batch = height + 50, width + 50, 1
    out = [
        (size + 2 * pad[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1
        for i, size in enumerate((height, width))
    ]
    taps = offset_groups * kernel[0] * kernel[1]
    offset = torch.randn(batch, 2 * taps, *out, generator=draw.generator, dtype=torch.float64) * draw.one(
        0.0, 0.5, 3.0, 30.0
    )
    if draw.chance(0.3):
        offset = offset.round()
    masked = draw.chance(0.6)
    mask = draw.normal(batch, taps, *out) if masked else torch.zeros(batch, 1, dtype=draw.dtype)
    tensors = [
        draw.strided(draw.normal(batch, channels, height, width)),
        draw.normal(outputs, channels // groups, *kernel),
        draw.strided(offset.to(draw.dtype)),
        mask,
        draw.normal(outputs),
    ]
    return tensors, (*stride, *pad, *dilation, groups, offset_groups, masked), (batch, outputs, *out)


def deform_conv2d(draw: Draw) -> Results:
    tensors, geometry, _ = _convolution(draw)
    return (torch.ops.torchvision.deform_conv2d(*tensors, *geometry),)


def deform_conv2d_backward(draw: Draw) -> Results:
    tensors, geometry, shape = _convolution(draw)
    return torch.ops.torchvision._deform_conv2d_backward(draw.strided(draw.normal(*shape)), *tensors, *geometry)


def box_iou_rotated(draw: Draw) -> Results:
    def boxes(count: int) -> Tensor:
        centre, sides = draw.uniform(0, spread, count, 2), draw.uniform(0, 1, count, 2) ** 3 * 40
        angle = draw.uniform(-400, 400, count, 1)
        if draw.chance(0.4):  # the same and touching boxes, and parallel sides
            centre, sides, angle = (centre / 5).round(), (sides / 10).round(), (angle / 45).round() * 45
        found = torch.cat([centre, sides, angle], dim=1)
        for _ in range(draw.one(0, 0, 1, 2)):
            if count:
                found[draw.size(0, count - 1), draw.size(0, 4)] = draw.one(*ODD, 1e-6, 1e-3, -5.0, 1e4)
        return (found * torch.tensor([*[draw_scale] * 4, 1.0], dtype=torch.float64)).to(draw.dtype)

    spread, draw_scale = draw.one(5.0, 50.0, 1000.0), draw.one(1.0, 1.0, 1.0, 1e-3, 1e3)
    first, second = boxes(draw.one(0, 1, 3, 9, 30)), boxes(draw.one(1, 2, 8, 40, 300))
    if draw.chance(0.3) and len(first):
        second = torch.cat([second, first])
    return (torch.ops.torchvision.box_iou_rotated(draw.strided(first), draw.strided(second)),)


def _is_quantized(draw: Draw) -> bool:
    """Whether tensors of the type are quantized: up to release 0.27 qnms is nms of such, and qroi_align roi_align."""
    return draw.dtype in INTEGERS


def _stored(draw: Draw, values: Tensor) -> Tensor:
    """Integers of the case's type, or those that a tensor of its quantized type stores."""
    dtype = INTEGERS.get(draw.dtype, draw.dtype)
    limits = torch.iinfo(dtype)
    return values.round().clamp(max(limits.min, -(2**30)), min(limits.max, 2**30)).to(dtype)


def qnms(draw: Draw) -> Results:
    count = draw.one(0, 1, 2, 7, 64, 65, 200, 700) if not draw.chance(WIDE) else draw.size(5000, 9000)
    corner, size = draw.uniform(-20, 90, count, 2), draw.uniform(-3, 37, count, 2)
    big = draw.one(1, 1, 100, 10**6)
    boxes = _stored(draw, torch.cat([corner, corner + size], dim=1) * big)
    scores = _stored(draw, draw.uniform(-100, 100, count))
    threshold = draw.one(0.0, 1.0, 0.5, 1 / 3, 0.25, -0.5, draw.random.random())
    boxes = draw.strided(boxes)
    if _is_quantized(draw):
        scale, zero = draw.one(1.0, 0.5, 5.0), draw.one(0, 0, 2)
        quantized = (torch._make_per_tensor_quantized_tensor(each, scale, zero) for each in (boxes, scores))
        return (torch.ops.torchvision.nms(*quantized, threshold),)
    return (torch.ops.torchvision.qnms(boxes, scores, threshold),)


def qroi_align(draw: Draw) -> Results:
    height, width, channels = draw.size(1, 24), draw.size(1, 24), draw.one(1, 2, 3, 17, 32, 33, 70)
    maps = _stored(
        draw, torch.randn(1, channels, height, width, generator=draw.generator).double() * 60 + draw.one(0, 100)
    )
    scale, ratio = draw.scale(), draw.one(-1, 0, 1, 2, 3)
    stored_scale, zero = draw.one(1.0, 0.5, 2.0, 0.37), draw.one(0, 1, 3)
    kept, draw.dtype = draw.dtype, torch.float64
    regions = draw.regions(
        draw.one(0, 1, 4, 9) if not draw.chance(WIDE) else 200, 1, height, width, scale, ordered=True
    )
    draw.dtype = kept
    regions = _stored(draw, (regions / stored_scale + zero).clamp(0, 120))
    maps, quantization = draw.strided(maps), (draw.one(1.0, 0.05, 0.3), draw.one(0, 2, 100))
    pooling = scale, draw.size(1, 7), draw.size(1, 7), ratio, draw.chance(0.5)
    if _is_quantized(draw):
        maps = torch._make_per_tensor_quantized_tensor(maps, *quantization)
        regions = torch._make_per_tensor_quantized_tensor(regions, stored_scale, zero)
        return (torch.ops.torchvision.roi_align(maps, regions, *pooling),)
    return (torch.ops.torchvision.qroi_align(maps, regions, *quantization, stored_scale, zero, *pooling),)


OPERATORS: dict[str, Callable[[Draw], Results]] = {
    function.__name__: function
    for function in (
        nms,
        roi_align,
        roi_align_backward,
        roi_pool,
        roi_pool_backward,
        ps_roi_align,
        ps_roi_align_backward,
        ps_roi_pool,
        ps_roi_pool_backward,
        deform_conv2d,
        deform_conv2d_backward,
        box_iou_rotated,
        qnms,
        qroi_align,
    )
}


def canonical(result: Tensor) -> bytes:
    """Its type, shape and every bit, but of NaNs that they are one."""
    values = (result.int_repr() if result.is_quantized else result).detach().contiguous()
    if values.is_floating_point():
        values = torch.where(values.isnan(), torch.full_like(values, math.nan), values)
    return f"{values.dtype} {tuple(values.shape)}".encode() + values.numpy().tobytes()


def main(libraries: str, seed: str, first: str, end: str, *names: str) -> None:
    for library in libraries.split(":"):
        torch.ops.load_library(library)
    for name in names:
        operator, dtype = name.split("/")
        for number in range(int(first), int(end)):
            draw = Draw(int(seed), number, getattr(torch, dtype))
            torch.set_num_threads(draw.one(1, 1, 2, 3))
            try:
                results = OPERATORS[operator](draw)
                print(name, hashlib.sha256(b"".join(map(canonical, results))).hexdigest()[:24])
            except RuntimeError as error:
                print(name, f"{type(error).__name__}: {str(error).splitlines()[0][:200]}")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What is measured: every operator that TorchVision compiles, at three sizes. Imported by the worker alone.

Needs torch and a torchvision on the path. Inputs are drawn from one seed, on torch's default device, so that two
contenders get the same ones.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SIZES = ("small", "typical", "large")
# (channels, height, width, boxes) of the pooling operators: a tile, a detector's stride-16 map, a stride-8 map.
MAPS = {"small": (32, 28, 28, 16), "typical": (256, 50, 68, 300), "large": (256, 100, 136, 1000)}
# ps_roi_* need channels = outputs * 7 * 7.
PS_MAPS = {"small": (2 * 49, 28, 28, 16), "typical": (10 * 49, 50, 68, 300), "large": (21 * 49, 100, 136, 300)}
# (batch, channels, height = width) of a 3x3 deformable convolution.
CONVOLUTIONS = {"small": (1, 16, 14), "typical": (1, 64, 56), "large": (2, 128, 64)}
BOXES = {"small": 100, "typical": 2000, "large": 8000}
IMAGES = {"small": (96, 128), "typical": (480, 640), "large": (1080, 1920)}
BINS = (7, 7)

Call = Callable[[], Any]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One thing to time. `group` is "op" or "codec"; `direction` "forward", "backward", "decode" or "encode"."""

    name: str
    size: str
    direction: str
    group: str
    make: Callable[[str], Call]

    @property
    def key(self) -> str:
        return f"{self.name}/{self.size}/{self.direction}"


def cases(device: str = "cpu") -> Iterator[Case]:
    """Every case of `device`, in the order of a table; on a GPU ("cuda") the operators that have code for it."""
    for name, make in OPERATORS.items():
        if device != "cpu" and name in CPU_ONLY:
            continue
        for direction in ("forward", "backward") if name in DIFFERENTIABLE else ("forward",):
            for size in SIZES:
                yield Case(name=name, size=size, direction=direction, group="op", make=_of(make, direction))
    for name, make_codec in CODECS.items() if device == "cpu" else ():
        direction, _, _ = name.partition("_")
        for size in SIZES:
            yield Case(name=name, size=size, direction=direction, group="codec", make=make_codec)


def _of(make: Callable[[str], tuple[Callable[..., Tensor], list[Tensor]]], direction: str) -> Callable[[str], Call]:
    def ready(size: str) -> Call:
        function, leaves = make(size)
        if direction == "forward":
            return lambda: function(*leaves)
        for leaf in leaves:
            leaf.requires_grad_()
        out = function(*leaves)
        drawn = torch.Generator(device=out.device).manual_seed(7)
        grad = torch.randn(out.shape, generator=drawn, dtype=torch.float32, device=out.device).to(out.dtype)
        return lambda: torch.autograd.grad(out, leaves, grad, retain_graph=True)

    return ready


def _boxes(count: int, height: float, width: float, low: float, high: float) -> Tensor:
    """(count, 4) corners inside an image; sides between `low` and `high` of the image's, log-uniform."""
    draw = torch.rand(count, 4)
    sides = low * (high / low) ** draw[:, 2:] * torch.tensor([width, height])
    corner = draw[:, :2] * (torch.tensor([width, height]) - sides)
    return torch.cat([corner, corner + sides], dim=1)


def _nms(size: str) -> tuple[Callable[..., Tensor], list[Tensor]]:
    boxes, scores = _boxes(BOXES[size], 800, 1088, 0.03, 0.5), torch.rand(BOXES[size])
    return lambda: torch.ops.torchvision.nms(boxes, scores, 0.5), []


def _qnms(size: str) -> tuple[Callable[..., Tensor], list[Tensor]]:
    boxes = torch.quantize_per_tensor(_boxes(BOXES[size], 800, 1088, 0.03, 0.5), 5.0, 0, torch.quint8)
    scores = torch.quantize_per_tensor(torch.rand(BOXES[size]), 1 / 255, 0, torch.quint8)
    if hasattr(torch.ops.torchvision, "qnms"):  # from 0.28 on an operator of its own, on integers
        stored = boxes.int_repr(), scores.int_repr()
        return lambda: torch.ops.torchvision.qnms(*stored, 0.5), []
    return lambda: torch.ops.torchvision.nms(boxes, scores, 0.5), []


def _rois(shape: tuple[int, int, int, int]) -> tuple[Tensor, Tensor]:
    """A feature map at stride 16 and boxes of an image of its size times 16, sides 64 pixels to half the image's."""
    channels, height, width, count = shape
    corners = _boxes(count, height * 16, width * 16, 0.08, 0.5)
    return torch.randn(1, channels, height, width), torch.cat([torch.zeros(count, 1), corners], dim=1)


def _roi_align(ratio: int) -> Callable[[str], tuple[Callable[..., Tensor], list[Tensor]]]:
    def make(size: str) -> tuple[Callable[..., Tensor], list[Tensor]]:
        features, rois = _rois(MAPS[size])
        return lambda x: torch.ops.torchvision.roi_align(x, rois, 1 / 16, *BINS, ratio, True), [features]

    return make


def _qroi_align(size: str) -> tuple[Callable[..., Tensor], list[Tensor]]:
    features, rois = _rois(MAPS[size])
    quantized = torch.quantize_per_tensor(features, 0.05, 128, torch.quint8)
    boxes = torch.quantize_per_tensor(rois, 8.0, 0, torch.quint8)
    if hasattr(torch.ops.torchvision, "qroi_align"):
        stored = quantized.int_repr(), boxes.int_repr(), 0.05, 128, 8.0, 0
        return lambda: torch.ops.torchvision.qroi_align(*stored, 1 / 16, *BINS, 2, True), []
    return lambda: torch.ops.torchvision.roi_align(quantized, boxes, 1 / 16, *BINS, 2, True), []


def _roi_pool(size: str) -> tuple[Callable[..., Tensor], list[Tensor]]:
    features, rois = _rois(MAPS[size])
    return lambda x: torch.ops.torchvision.roi_pool(x, rois, 1 / 16, *BINS)[0], [features]


def _ps_roi_align(size: str) -> tuple[Callable[..., Tensor], list[Tensor]]:
    features, rois = _rois(PS_MAPS[size])
    return lambda x: torch.ops.torchvision.ps_roi_align(x, rois, 1 / 16, *BINS, 2)[0], [features]


def _ps_roi_pool(size: str) -> tuple[Callable[..., Tensor], list[Tensor]]:
    features, rois = _rois(PS_MAPS[size])
    return lambda x: torch.ops.torchvision.ps_roi_pool(x, rois, 1 / 16, *BINS)[0], [features]


def _deform_conv2d(size: str) -> tuple[Callable[..., Tensor], list[Tensor]]:
    batch, channels, side = CONVOLUTIONS[size]
    features, weight = torch.randn(batch, channels, side, side), torch.randn(channels, channels, 3, 3) / 10
    offset, mask = torch.randn(batch, 18, side, side), torch.rand(batch, 9, side, side)
    bias = torch.randn(channels)
    geometry = (1, 1, 1, 1, 1, 1, 1, 1, True)
    return (
        lambda x, w, o, m, b: torch.ops.torchvision.deform_conv2d(x, w, o, m, b, *geometry),
        [features, weight, offset, mask, bias],
    )


OPERATORS: dict[str, Callable[[str], tuple[Callable[..., Tensor], list[Tensor]]]] = {
    "nms": _nms,
    "roi_align": _roi_align(2),
    "roi_align, adaptive": _roi_align(-1),
    "roi_pool": _roi_pool,
    "ps_roi_align": _ps_roi_align,
    "ps_roi_pool": _ps_roi_pool,
    "deform_conv2d": _deform_conv2d,
    "nms, quantized": _qnms,
    "roi_align, quantized": _qroi_align,
}
CPU_ONLY = {"nms, quantized", "roi_align, quantized"}
DIFFERENTIABLE = {"roi_align", "roi_align, adaptive", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d"}


def _picture(size: str) -> Tensor:
    """(3, height, width) uint8: smooth colours, edges and a little noise, as a photograph has."""
    height, width = IMAGES[size]
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    waves = torch.stack([torch.sin(9 * x + 5 * y), torch.cos(7 * y), torch.sin(11 * x * y)]) * 80 + 128
    edges = ((x * 8).floor() + (y * 6).floor()).remainder(2) * 30
    return (waves + edges + torch.randn(3, height, width) * 4).clamp(0, 255).to(torch.uint8)


def _screenshot(size: str) -> Tensor:
    """(3, height, width) uint8: plain areas, lines and small dark marks, as a screenshot has."""
    height, width = IMAGES[size]
    picture = torch.full((3, height, width), 245, dtype=torch.uint8)
    for top in range(0, height, 24):
        picture[:, top : top + 2] = 200
        for left in range(0, width, 16):
            if (top * 7 + left * 13) % 5 < 2:
                picture[:, top + 6 : top + 16, left + 3 : left + 11] = 30
    picture[:, :, : width // 8] = 40
    return picture


def _decode(
    pillow_format: str, op: str, make: Callable[[str], Tensor] = _picture, **options: Any
) -> Callable[[str], Call]:
    def ready(size: str) -> Call:
        from PIL import Image

        buffer = io.BytesIO()
        Image.fromarray(make(size).permute(1, 2, 0).numpy()).save(buffer, pillow_format, **options)
        data = torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)
        function = getattr(torch.ops.image, op)
        return (lambda: function(data)) if op == "decode_gif" else (lambda: function(data, 0))

    return ready


def _encode_jpeg(size: str) -> Call:
    picture = _picture(size)
    return lambda: torch.ops.image.encode_jpeg(picture, 75)


def _encode_png(size: str) -> Call:
    picture = _picture(size)
    return lambda: torch.ops.image.encode_png(picture, 6)


CODECS: dict[str, Callable[[str], Call]] = {
    "decode_jpeg": _decode("JPEG", "decode_jpeg", quality=90),
    "decode_png": _decode("PNG", "decode_png"),
    "decode_png, screenshot": _decode("PNG", "decode_png", _screenshot),
    "decode_webp": _decode("WEBP", "decode_webp", quality=90),
    "decode_gif": _decode("GIF", "decode_gif"),
    "encode_jpeg": _encode_jpeg,
    "encode_png": _encode_png,
}

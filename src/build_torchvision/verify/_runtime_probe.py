"""Executed inside a fresh environment, not imported: call every operator of an installed torchvision and compare.

    python -I _runtime_probe.py RESULTS.jsonl '{"codecs": ["jpeg", "png", "webp"], "device": null}'

With "device", {"capability": "9.0", "nvjpeg": true, "refused": false}, operators are called on the GPU, and the
references stay on the CPU; at the end "kernels" lists what the GPU ran. With "refused", every call must fail for want
of code.

Needs torch, numpy and Pillow beside torchvision. Before a check, {"start": name} is written to RESULTS.jsonl, and
after it {"name", "ok", "detail", "digest"}, the last of every bit that the operators returned. A process that dies of
an illegal instruction leaves the name of what it was doing.
References are written in plain float64 PyTorch, where autograd gives their gradients, in other terms than the
operators: bilinear sampling is a product with one matrix an axis, so that a fault of theirs cannot be repeated here.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor

TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-4}  # of the largest value of the reference
HALF_TOLERANCE = 1e-2  # of float16, on inputs whose coordinates float16 holds exactly
NO_CODE = re.compile("no kernel image|PTX JIT|JIT compil|invalid device function|unsupported toolchain", re.IGNORECASE)
CUDA_ONLY = {"image::decode_jpegs_cuda", "image::encode_jpegs_cuda"}
NOT_OURS = ("video_reader::",)
IMAGES = {"jpeg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF"}
CALLED: set[str] = set()
SEEN: list[Tensor] = []  # what the operators of the check that runs returned
ON_GPU = False  # operators are called with their tensors on the GPU, and give theirs back to the CPU


class Wrong(Exception):
    """An operator's result is not the reference's."""


def op(name: str) -> Any:
    """`namespace::name` as a callable; remembers that it was asked for."""
    CALLED.add(name)
    namespace, _, short = name.partition("::")
    call = getattr(getattr(torch.ops, namespace), short)
    return (lambda *values: moved(call(*moved(values, "cuda")), "cpu")) if ON_GPU else call


def moved(value: Any, device: str) -> Any:
    """`value`, or what a list or tuple of values holds, with every tensor on `device`; autograd follows."""
    if isinstance(value, (list, tuple)):
        return tuple(moved(item, device) for item in value)
    return value.to(device) if isinstance(value, Tensor) else value


def close(what: str, actual: Tensor, expected: Tensor, dtype: torch.dtype) -> float:
    """The error relative to the largest expected value. Raises Wrong beyond the dtype's tolerance, or for NaN."""
    SEEN.append(actual)
    if actual.shape != expected.shape:
        raise Wrong(f"{what}: shape {tuple(actual.shape)}, not {tuple(expected.shape)}")
    if actual.dtype != dtype:
        raise Wrong(f"{what}: {actual.dtype}, not {dtype}")
    size = float(expected.abs().max())
    if size == 0:
        raise Wrong(f"{what}: the reference is all zero and would show nothing")
    error = float((actual.double() - expected).abs().max()) / size
    limit = TOLERANCE.get(dtype, HALF_TOLERANCE)
    if not error <= limit:
        raise Wrong(f"{what} in {dtype}: off by {error:.3g} of the largest value, more than {limit:.3g}")
    return error


def exact(what: str, actual: Tensor, expected: Tensor) -> None:
    SEEN.append(actual)
    if actual.shape != expected.shape or not torch.equal(actual, expected):
        raise Wrong(f"{what}: {tuple(actual.shape)} is not bit for bit the expected {tuple(expected.shape)}")


# --- references -------------------------------------------------------------------------------------------------------


def reference_nms(boxes: Tensor, scores: Tensor, threshold: float) -> list[int]:
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


def pooling_matrix(start: float, end: float, bins: int, ratio: int, size: int) -> Tensor:
    """(bins, size): a row averages one bin's bilinear samples on one axis; samples more than 1 outside are 0."""
    step = (end - start) / bins
    count = ratio if ratio > 0 else math.ceil(step)
    where = start + step * (torch.arange(bins * count, dtype=torch.float64) + 0.5) / count
    inside = (where >= -1) & (where <= size)
    hat = (1 - (where.clamp(0, size - 1)[:, None] - torch.arange(size)[None, :]).abs()).clamp(min=0)
    return (hat * inside[:, None]).reshape(bins, count, size).mean(dim=1)


def reference_roi_align(
    x: Tensor, rois: Tensor, scale: float, bins: tuple[int, int], ratio: int, aligned: bool
) -> Tensor:
    out = []
    for roi in rois.tolist():
        left, top, right, bottom = (value * scale - (0.5 if aligned else 0.0) for value in roi[1:])
        if not aligned:
            right, bottom = max(right, left + 1), max(bottom, top + 1)
        rows = pooling_matrix(top, bottom, bins[0], ratio, x.shape[2])
        columns = pooling_matrix(left, right, bins[1], ratio, x.shape[3])
        out.append(rows @ x[int(roi[0])] @ columns.T)
    return torch.stack(out)


def position_sensitive(pooled: Tensor) -> Tensor:
    """(rois, channels, h, w) -> (rois, channels / (h * w), h, w): bin (i, j) reads its own channel."""
    rois, channels, height, width = pooled.shape
    apart = pooled.reshape(rois, channels // (height * width), height * width, height * width)
    return apart.diagonal(dim1=2, dim2=3).reshape(rois, -1, height, width)


def reference_roi_pool(x: Tensor, rois: Tensor, scale: float, bins: tuple[int, int], *, average: bool) -> Tensor:
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


def reference_deform_conv2d(
    x: Tensor, weight: Tensor, offset: Tensor, mask: Tensor, bias: Tensor, geometry: tuple[int, ...]
) -> Tensor:
    """Bilinear samples with zeros outside are products with hat functions of the distance to each pixel."""
    stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, groups, offset_groups = geometry
    batch, channels, height, width = x.shape
    out_channels, _, kernel_h, kernel_w = weight.shape
    out_h, out_w = offset.shape[2:]
    points = offset.reshape(batch, offset_groups, kernel_h, kernel_w, 2, out_h, out_w)
    y = torch.arange(out_h).reshape(-1, 1) * stride_h - pad_h + points[..., 0, :, :]
    y = y + torch.arange(kernel_h).reshape(-1, 1, 1, 1) * dilation_h
    z = torch.arange(out_w) * stride_w - pad_w + points[..., 1, :, :]
    z = z + torch.arange(kernel_w).reshape(-1, 1, 1) * dilation_w
    hat_y = (1 - (y[..., None] - torch.arange(height)).abs()).clamp(min=0)
    hat_z = (1 - (z[..., None] - torch.arange(width)).abs()).clamp(min=0)
    apart = x.reshape(batch, offset_groups, channels // offset_groups, height, width)
    samples = torch.einsum("ngklyxi,ngklyxj,ngcij->ngcklyx", hat_y, hat_z, apart)
    samples = samples * mask.reshape(batch, offset_groups, 1, kernel_h, kernel_w, out_h, out_w)
    samples = samples.reshape(batch, groups, channels // groups, kernel_h, kernel_w, out_h, out_w)
    kernels = weight.reshape(groups, out_channels // groups, channels // groups, kernel_h, kernel_w)
    out = torch.einsum("ngcklyx,gockl->ngoyx", samples, kernels).reshape(batch, out_channels, out_h, out_w)
    return out + bias.reshape(1, -1, 1, 1)


# --- operators --------------------------------------------------------------------------------------------------------


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def boxes_of(count: int, batch: int, height: float, width: float) -> Tensor:
    """(count, 5): batch index, then corners inside (2, size - 2), at least a third of each side apart."""
    low, high = torch.rand(count, 2, dtype=torch.float64), torch.rand(count, 2, dtype=torch.float64)
    size = torch.tensor([width - 4, height - 4], dtype=torch.float64)
    index = (torch.arange(count) % batch).double()[:, None]
    return torch.cat([index, 2 + low * size / 3, 2 + size * (2 + high) / 3], dim=1)


def compare(
    name: str,
    call: Callable[..., Tensor],
    reference: Callable[..., Tensor],
    leaves: list[Tensor],
    precisions: tuple[torch.dtype, ...] = tuple(TOLERANCE),
) -> str:
    """Forward in each precision, and the gradients of every leaf through autograd, against the reference's."""
    wanted = [leaf.clone().requires_grad_() for leaf in leaves]
    expected = reference(*wanted)
    grad = torch.randn_like(expected).to(precisions[-1]).double()
    gradients = torch.autograd.grad(expected, wanted, grad)
    worst = 0.0
    for dtype in precisions:
        own = [leaf.to(dtype).requires_grad_() for leaf in leaves]
        actual = call(*own)
        error = close(f"{name}, forward", actual.detach(), expected.detach(), dtype)
        found = torch.autograd.grad(actual, own, grad.to(dtype))
        errors = [
            close(f"{name}, gradient {i}", f, g, dtype) for i, (f, g) in enumerate(zip(found, gradients, strict=True))
        ]
        worst = max(worst, error, *errors) if dtype == precisions[-1] else worst
    return f"largest {str(precisions[-1]).removeprefix('torch.')} error {worst:.1e} of the largest value"


def check_nms() -> str:
    corner, size = torch.rand(700, 2, dtype=torch.float64) * 60, torch.rand(700, 2, dtype=torch.float64) * 20 + 5
    boxes = torch.cat([corner, corner + size], dim=1)
    scores = torch.randperm(700).double() / 700
    counts = []
    for threshold in (0.2, 0.5, 0.8):
        expected = reference_nms(boxes.float().double(), scores, threshold)
        for dtype in TOLERANCE:
            kept = op("torchvision::nms")(boxes.float().to(dtype), scores.to(dtype), threshold).tolist()
            SEEN.append(torch.tensor(kept))
            if kept != expected:
                raise Wrong(
                    f"nms at {threshold} in {dtype}: {len(kept)} boxes kept, the reference keeps {len(expected)}"
                )
        counts.append(len(expected))
    return f"of 700 boxes {counts} kept at 0.2, 0.5, 0.8, as the reference"


def check_roi_align() -> str:
    x, rois, said = draw(2, 5, 41, 53), boxes_of(6, 2, 41, 53) * torch.tensor([1, 2, 2, 2, 2]), ""
    rois[0, 1:] += torch.tensor([-9.0, -9.0, 15.0, 15.0])  # beyond the borders
    for ratio, aligned in ((2, False), (-1, True), (17, True)):
        said = compare(
            f"roi_align, sampling ratio {ratio}",
            lambda v, ratio=ratio, aligned=aligned: op("torchvision::roi_align")(
                v, rois.to(v.dtype), 0.5, 3, 4, ratio, aligned
            ),
            lambda v, ratio=ratio, aligned=aligned: reference_roi_align(v, rois, 0.5, (3, 4), ratio, aligned),
            [x],
        )
    return said


def check_roi_align_backward() -> str:
    x, rois, grad = draw(2, 3, 20, 24).requires_grad_(), boxes_of(4, 2, 20, 24), draw(4, 3, 2, 2)
    (expected,) = torch.autograd.grad(reference_roi_align(x, rois, 1.0, (2, 2), 3, True), x, grad)
    for dtype in TOLERANCE:
        found = op("torchvision::_roi_align_backward")(grad.to(dtype), rois.to(dtype), 1.0, 2, 2, 2, 3, 20, 24, 3, True)
        close("_roi_align_backward", found, expected, dtype)
    return "called by itself: the reference's gradient"


def check_ps_roi_align() -> str:
    x, rois = draw(2, 3 * 8, 33, 29), boxes_of(5, 2, 33, 29)
    return compare(
        "ps_roi_align",
        lambda v: op("torchvision::ps_roi_align")(v, rois.to(v.dtype), 1.0, 2, 4, -1)[0],
        lambda v: position_sensitive(reference_roi_align(v, rois, 1.0, (2, 4), -1, True)),
        [x],
    )


def check_ps_roi_align_backward() -> str:
    x, rois, grad = draw(2, 8, 20, 24).requires_grad_(), boxes_of(4, 2, 20, 24), draw(4, 2, 2, 2)
    reference = position_sensitive(reference_roi_align(x, rois, 1.0, (2, 2), 3, True))
    (expected,) = torch.autograd.grad(reference, x, grad)
    for dtype in TOLERANCE:
        mapping = op("torchvision::ps_roi_align")(x.detach().to(dtype), rois.to(dtype), 1.0, 2, 2, 3)[1]
        found = op("torchvision::_ps_roi_align_backward")(
            grad.to(dtype), rois.to(dtype), mapping, 1.0, 2, 2, 3, 2, 8, 20, 24
        )
        close("_ps_roi_align_backward", found, expected, dtype)
    return "called by itself: the reference's gradient"


def check_roi_pool() -> str:
    x, rois = draw(2, 5, 37, 45), boxes_of(6, 2, 37, 45) * torch.tensor([1, 2, 2, 2, 2])
    return compare(
        "roi_pool",
        lambda v: op("torchvision::roi_pool")(v, rois.to(v.dtype), 0.5, 4, 2)[0],
        lambda v: reference_roi_pool(v, rois, 0.5, (4, 2), average=False),
        [x],
    )


def check_roi_pool_backward() -> str:
    x, rois, grad = draw(2, 3, 20, 24).requires_grad_(), boxes_of(4, 2, 20, 24), draw(4, 3, 2, 2)
    (expected,) = torch.autograd.grad(reference_roi_pool(x, rois, 1.0, (2, 2), average=False), x, grad)
    for dtype in TOLERANCE:
        largest = op("torchvision::roi_pool")(x.detach().to(dtype), rois.to(dtype), 1.0, 2, 2)[1]
        found = op("torchvision::_roi_pool_backward")(grad.to(dtype), rois.to(dtype), largest, 1.0, 2, 2, 2, 3, 20, 24)
        close("_roi_pool_backward", found, expected, dtype)
    return "called by itself: the reference's gradient"


def check_ps_roi_pool() -> str:
    x, rois = draw(2, 3 * 8, 33, 29), boxes_of(5, 2, 33, 29)
    return compare(
        "ps_roi_pool",
        lambda v: op("torchvision::ps_roi_pool")(v, rois.to(v.dtype), 1.0, 2, 4)[0],
        lambda v: position_sensitive(reference_roi_pool(v, rois, 1.0, (2, 4), average=True)),
        [x],
    )


def check_ps_roi_pool_backward() -> str:
    x, rois, grad = draw(2, 8, 20, 24).requires_grad_(), boxes_of(4, 2, 20, 24), draw(4, 2, 2, 2)
    reference = position_sensitive(reference_roi_pool(x, rois, 1.0, (2, 2), average=True))
    (expected,) = torch.autograd.grad(reference, x, grad)
    for dtype in TOLERANCE:
        mapping = op("torchvision::ps_roi_pool")(x.detach().to(dtype), rois.to(dtype), 1.0, 2, 2)[1]
        found = op("torchvision::_ps_roi_pool_backward")(
            grad.to(dtype), rois.to(dtype), mapping, 1.0, 2, 2, 2, 8, 20, 24
        )
        close("_ps_roi_pool_backward", found, expected, dtype)
    return "called by itself: the reference's gradient"


GEOMETRY = (2, 1, 1, 2, 1, 2, 2, 2)  # strides, paddings, dilations, groups, offset groups


def deform_leaves() -> list[Tensor]:
    """input, weight, offset, mask, bias for GEOMETRY, with a 3x2 kernel."""
    out_h, out_w = (15 + 2 - 3) // 2 + 1, 18 + 4 - 3 + 1
    return [draw(2, 4, 15, 18), draw(6, 2, 3, 2), draw(2, 24, out_h, out_w), draw(2, 12, out_h, out_w), draw(6)]


def check_deform_conv2d() -> str:
    leaves = deform_leaves()
    said = compare(
        "deform_conv2d with a mask",
        lambda *v: op("torchvision::deform_conv2d")(*v, *GEOMETRY, True),
        lambda x, w, o, m, b: reference_deform_conv2d(x, w, o, m, b, GEOMETRY),
        leaves,
    )
    x, weight, offset, mask, bias = leaves
    plain = reference_deform_conv2d(x, weight, offset, torch.ones_like(mask), bias, GEOMETRY)
    for dtype in TOLERANCE:
        none = torch.zeros(2, 1, dtype=dtype)
        found = op("torchvision::deform_conv2d")(
            *(v.to(dtype) for v in (x, weight, offset)), none, bias.to(dtype), *GEOMETRY, False
        )
        close("deform_conv2d without a mask", found, plain, dtype)
    return said


def check_deform_conv2d_backward() -> str:
    leaves = [leaf.requires_grad_() for leaf in deform_leaves()]
    x, weight, offset, mask, bias = leaves
    out = reference_deform_conv2d(x, weight, offset, mask, bias, GEOMETRY)
    grad = torch.randn_like(out)
    expected = torch.autograd.grad(out, leaves, grad)
    for dtype in TOLERANCE:
        own = [leaf.detach().to(dtype) for leaf in leaves]
        found = op("torchvision::_deform_conv2d_backward")(grad.to(dtype), *own, *GEOMETRY, True)
        for i, (f, g) in enumerate(zip(found, expected, strict=True)):
            close(f"_deform_conv2d_backward, gradient {i}", f, g, dtype)
    return "called by itself: the reference's five gradients"


def half_deform_leaves() -> list[Tensor]:
    """Those of `deform_leaves` as float16 holds them, the offsets a sixteenth off the pixels, where gradients jump."""
    leaves = [leaf.half().double() for leaf in deform_leaves()]
    leaves[2] = (leaves[2] * 8).round() / 8 + 1 / 16
    return leaves


def check_half() -> str:
    """All operators in float16, whose coordinates lose what float32's keep: so these are multiples it can hold."""
    half = (torch.float16,)

    def drawn(*shape: int) -> Tensor:
        return draw(*shape).half().double()

    corner, size = torch.randint(0, 480, (300, 2)).double() / 8, torch.randint(40, 200, (300, 2)).double() / 8
    boxes, scores = torch.cat([corner, corner + size], dim=1), torch.randperm(300).double() / 512
    if ON_GPU:  # on a CPU nms has no float16
        for threshold in (0.25, 0.5, 0.75):
            kept = op("torchvision::nms")(boxes.half(), scores.half(), threshold).tolist()
            expected = reference_nms(boxes, scores, threshold)
            if kept != expected:
                raise Wrong(f"nms at {threshold} in float16: {len(kept)} boxes kept, the reference {len(expected)}")
    x = drawn(2, 8, 14, 14)
    rois = torch.tensor(
        [[0, 1, 2, 9, 8], [1, 2.5, 1, 8.5, 11], [0, 3, 3, 11, 7], [1, 1, 1.5, 5, 9.5]], dtype=torch.float64
    )
    bins = (2, 2)
    said = [
        compare(
            "roi_align",
            lambda v: op("torchvision::roi_align")(v, rois.to(v.dtype), 1.0, *bins, 2, True),
            lambda v: reference_roi_align(v, rois, 1.0, bins, 2, True),
            [x],
            half,
        ),
        compare(
            "ps_roi_align",
            lambda v: op("torchvision::ps_roi_align")(v, rois.to(v.dtype), 1.0, *bins, 2)[0],
            lambda v: position_sensitive(reference_roi_align(v, rois, 1.0, bins, 2, True)),
            [x],
            half,
        ),
        compare(
            "roi_pool",
            lambda v: op("torchvision::roi_pool")(v, rois.to(v.dtype), 1.0, *bins)[0],
            lambda v: reference_roi_pool(v, rois, 1.0, bins, average=False),
            [x],
            half,
        ),
        compare(
            "ps_roi_pool",
            lambda v: op("torchvision::ps_roi_pool")(v, rois.to(v.dtype), 1.0, *bins)[0],
            lambda v: position_sensitive(reference_roi_pool(v, rois, 1.0, bins, average=True)),
            [x],
            half,
        ),
        compare(
            "deform_conv2d",
            lambda *v: op("torchvision::deform_conv2d")(*v, *GEOMETRY, True),
            lambda a, w, o, m, b: reference_deform_conv2d(a, w, o, m, b, GEOMETRY),
            half_deform_leaves(),
            half,
        ),
    ]
    return max(said, key=lambda text: float(text.split()[3]))


def check_quantized() -> str:
    corner = torch.randint(0, 100, (300, 2)).double()
    boxes = torch.cat([corner, corner + torch.randint(20, 60, (300, 2))], dim=1)
    scores = torch.randperm(300).double()[:200] / 2
    boxes = boxes[:200]
    quantized = torch.quantize_per_tensor(boxes.float(), 1.0, 0, torch.quint8)
    kept = op("torchvision::nms")(
        quantized, torch.quantize_per_tensor(scores.float().floor(), 1.0, 0, torch.quint8), 0.5
    )
    order = scores.floor() - torch.arange(200) * 1e-4  # equal scores keep their order: the sort is stable
    expected = reference_nms(boxes, order, 0.5)
    if kept.tolist() != expected:
        raise Wrong(f"quantized nms keeps {len(kept)} boxes, the reference {len(expected)}")
    x = torch.quantize_per_tensor(draw(1, 3, 30, 30).float() * 40 + 100, 1.0, 0, torch.quint8)
    rois = boxes_of(4, 1, 30, 30).round().float()  # one image: more are refused when quantized
    found = op("torchvision::roi_align")(x, torch.quantize_per_tensor(rois, 1.0, 0, torch.quint8), 1.0, 3, 3, 2, False)
    right = reference_roi_align(x.dequantize().double(), rois.double(), 1.0, (3, 3), 2, False)
    error = float((found.dequantize().double() - right).abs().max())
    if not error <= 0.5001:
        raise Wrong(f"quantized roi_align is off by {error:.3g} steps, more than half a step")
    return "nms and roi_align of quint8 as the reference, to half a step"


def check_cuda_version() -> str:
    version = op("torchvision::_cuda_version")()
    built = "no CUDA" if version == -1 else f"CUDA {version}"
    return f"built with {built}, beside torch {torch.__version__}"


# --- the GPU ----------------------------------------------------------------------------------------------------------


def check_gpu(capability: str) -> str:
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
    return f"{name} ({capability}), torch {torch.__version__} for CUDA {torch.version.cuda}"


def check_nvjpeg() -> str:
    from torchvision.io import ImageReadMode, decode_jpeg, encode_jpeg

    CALLED.update(CUDA_ONLY)
    images = [picture(3), picture(3).flip(2)[:, :32, :48].contiguous()]
    files = [as_tensor(saved(image, "JPEG", quality=95, subsampling=0)) for image in images]
    lost = []
    for data, seen in zip(files, decode_jpeg(files, mode=ImageReadMode.RGB, device="cuda"), strict=True):
        if seen.device.type != "cuda":
            raise Wrong(f"decode_jpegs_cuda gave a tensor on {seen.device}")
        lost.append(_apart("decode_jpegs_cuda", seen.cpu(), pillow(data)))
    grey = decode_jpeg(files[0], mode=ImageReadMode.GRAY, device="cuda").cpu()
    lost.append(_apart("decode_jpegs_cuda to grey", grey, pillow(files[0], "L")))
    for image, data in zip(images, encode_jpeg([image.cuda() for image in images], quality=95), strict=True):
        lost.append(_apart("encode_jpegs_cuda", pillow(data.cpu()), image))
    return f"decoded as Pillow decodes, and encoded for Pillow: at most {max(lost):.2f} of 255 off on average"


def _apart(what: str, actual: Tensor, expected: Tensor) -> float:
    """The mean distance. Raises Wrong beyond 2 of 255."""
    if actual.shape != expected.shape:
        raise Wrong(f"{what}: shape {tuple(actual.shape)}, not {tuple(expected.shape)}")
    apart = float((actual.double() - expected.double()).abs().mean())
    if not apart < 2:
        raise Wrong(f"{what}: off by {apart:.2f} of 255 on average, more than 2")
    return apart


def check_no_nvjpeg() -> str:
    CALLED.update(CUDA_ONLY)
    calls: tuple[Callable[[], object], ...] = (
        lambda: torch.ops.image.decode_jpegs_cuda([as_tensor(saved(picture(3), "JPEG"))], 0, torch.device("cuda")),
        lambda: torch.ops.image.encode_jpegs_cuda([picture(3).cuda()], 75),
    )
    for call in calls:
        try:
            call()
        except (RuntimeError, AttributeError):
            continue
        raise Wrong("nvJPEG is said to be left out, and it ran")
    return "left out of this package, and says so"


def check_all_called_on_gpu() -> str:
    has_kernel: Any = torch._C._dispatch_has_kernel_for_dispatch_key
    wanted = {name for name in registered() if has_kernel(name, "CUDA")}
    wanted |= CUDA_ONLY & registered()
    left = wanted - CALLED
    if left:
        raise Wrong(f"registered for CUDA, and this probe does not call them: {', '.join(sorted(left))}")
    return f"all {len(wanted)} operators with CUDA code were called"


def kernels_seen(profile: Any) -> str:
    """What the profiler saw on the GPU, a line each: `void ops::(anonymous namespace)::nms_kernel_impl<float>(int)`."""
    on_gpu = {event.name for event in profile.events() if event.device_type == torch.autograd.DeviceType.CUDA}
    return "\n".join(sorted(on_gpu))


def refused(name: str, *values: Any) -> str:
    """The operator has no code for this GPU without the driver's compiler, and fails saying so."""
    try:
        op(f"torchvision::{name}")(*values)
        torch.cuda.synchronize()
    except RuntimeError as error:
        said = str(error).splitlines()[0]
        if NO_CODE.search(str(error)):
            return f"refused: {said[:120]}"
        raise Wrong(f"failed for another reason: {said}") from error
    raise Wrong("it ran without the driver's compiler")


def refusals() -> list[tuple[str, Callable[[], str]]]:
    x, rois = draw(1, 8, 14, 14).float(), boxes_of(2, 1, 14, 14).float()
    leaves = [leaf.float() for leaf in deform_leaves()]
    return [
        ("nms", partial(refused, "nms", rois[:, 1:], torch.rand(2), 0.5)),
        ("roi_align", partial(refused, "roi_align", x, rois, 1.0, 2, 2, 2, True)),
        ("roi_pool", partial(refused, "roi_pool", x, rois, 1.0, 2, 2)),
        ("ps_roi_align", partial(refused, "ps_roi_align", x, rois, 1.0, 2, 2, 2)),
        ("ps_roi_pool", partial(refused, "ps_roi_pool", x, rois, 1.0, 2, 2)),
        ("deform_conv2d", partial(refused, "deform_conv2d", *leaves, *GEOMETRY, True)),
    ]


# --- images -----------------------------------------------------------------------------------------------------------


def picture(channels: int) -> Tensor:
    """A smooth coloured picture of 45 x 67 pixels, uint8."""
    y, x = torch.arange(45.0)[:, None], torch.arange(67.0)[None, :]
    planes = [127 + 120 * torch.sin(y / (9 + 3 * c) + c) * torch.cos(x / (13 - 2 * c)) for c in range(channels)]
    return torch.stack(planes).round().to(torch.uint8)


def pillow(data: Tensor | bytes, mode: str = "RGB") -> Tensor:
    """What Pillow decodes, (channels, height, width)."""
    import numpy
    from PIL import Image

    raw = data if isinstance(data, bytes) else bytes(data.numpy())
    pixels = torch.from_numpy(numpy.array(Image.open(io.BytesIO(raw)).convert(mode)))
    return pixels.reshape(*pixels.shape[:2], -1).permute(2, 0, 1).contiguous()


def saved(image: Tensor, form: str, **options: Any) -> bytes:
    """`image` as Pillow writes it."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(out, form, **options)
    return out.getvalue()


def as_tensor(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def check_jpeg() -> str:
    from torchvision.io import decode_image, decode_jpeg, encode_jpeg

    CALLED.update({"image::encode_jpeg", "image::decode_jpeg", "image::decode_image"})
    image = picture(3)
    data = encode_jpeg(image, quality=95)
    back = decode_jpeg(data)
    SEEN.extend((data, back))
    lost = float((back.double() - image.double()).abs().mean())
    beside = float((back.double() - pillow(data).double()).abs().max())
    if back.shape != image.shape or not lost < 2:
        raise Wrong(f"a JPEG of quality 95 comes back off by {lost:.2f} of 255 on average")
    if not beside <= 4:
        raise Wrong(f"a JPEG is decoded up to {beside:.0f} of 255 away from what Pillow reads")
    exact("decode_image of a JPEG", decode_image(data), back)
    return f"round trip: {lost:.2f} of 255 off on average; Pillow reads the same to {beside:.0f}"


def check_png() -> str:
    from torchvision.io import ImageReadMode, decode_image, decode_png, encode_png

    CALLED.update({"image::encode_png", "image::decode_png", "image::decode_image"})
    for channels in (1, 3):
        image = picture(channels)
        data = encode_png(image, compression_level=6)
        exact(f"a PNG of {channels} channels", decode_png(data), image)
        exact("decode_image of a PNG", decode_image(data), image)
        if channels == 3:
            exact("Pillow's reading of our PNG", pillow(data), image)
    alpha = picture(4)
    exact("a PNG with alpha", decode_png(as_tensor(saved(alpha, "PNG")), ImageReadMode.RGB_ALPHA), alpha)
    return "grey, colour and alpha come back bit for bit"


def check_webp() -> str:
    from torchvision.io import decode_image, decode_webp

    CALLED.update({"image::decode_webp", "image::decode_image"})
    image = picture(3)
    data = as_tensor(saved(image, "WEBP", lossless=True))
    exact("a lossless WEBP", decode_webp(data), image)
    exact("decode_image of a WEBP", decode_image(data), image)
    return "a lossless one by Pillow comes back bit for bit"


def check_gif() -> str:
    from torchvision.io import decode_gif, decode_image

    CALLED.update({"image::decode_gif", "image::decode_image"})
    data = saved(picture(3), "GIF")
    exact("a GIF", decode_gif(as_tensor(data)), pillow(data))
    exact("decode_image of a GIF", decode_image(as_tensor(data)), pillow(data))
    return "read as Pillow reads it, bit for bit"


def check_files() -> str:
    from torchvision.io import read_file, write_file

    CALLED.update({"image::read_file", "image::write_file"})
    data = torch.arange(5000).to(torch.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "data"))
        write_file(path, data)
        exact("a file written and read", read_file(path), data)
        if Path(path).read_bytes() != bytes(data.numpy()):
            raise Wrong("write_file wrote other bytes")
    return "5000 bytes written and read"


def absent(codec: str) -> str:
    """A codec that was left out says so when it is called."""
    from torchvision.io import decode_jpeg, decode_png, decode_webp

    decode = {"jpeg": decode_jpeg, "png": decode_png, "webp": decode_webp}[codec]
    CALLED.update({f"image::decode_{codec}", f"image::encode_{codec}"} & registered())
    try:
        decode(as_tensor(saved(picture(3), IMAGES[codec])))
    except RuntimeError as error:
        return f"left out of this package, and says so: {str(error).splitlines()[0][:100]}"
    raise Wrong(f"{codec} is said to be left out, and an image was decoded")


# --- running ----------------------------------------------------------------------------------------------------------


def check_import() -> str:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        import torchvision
        from torchvision import extension
        from torchvision.io import image  # noqa: F401  (its import warns when image.so cannot be loaded)
    said = [str(w.message) for w in caught if "torchvision" in str(w.message) or "image" in str(w.message).lower()]
    if not extension._has_ops():
        raise Wrong("Couldn't load custom C++ ops: " + _why_not_loaded(Path(torchvision.__file__).parent))
    if said:
        raise Wrong(said[0])
    return f"torchvision {torchvision.__version__}, torch {torch.__version__}, Python {sys.version.split()[0]}"


def _why_not_loaded(folder: Path) -> str:
    for path in sorted(folder.glob("_C*.so")):
        try:
            torch.ops.load_library(str(path))
        except OSError as error:
            return str(error)
    return f"no _C.so in {folder}"


def registered() -> set[str]:
    """Every operator that torchvision's extensions registered, without overload names."""
    names = {name.partition(".")[0] for name in torch._C._dispatch_get_all_op_names()}
    return {name for name in names if name.startswith(("torchvision::", "image::")) and not name.startswith(NOT_OURS)}


def check_all_called() -> str:
    for name in ("image::_jpeg_version", "image::_is_compiled_against_turbo"):
        if name in registered():
            op(name)()
    left = registered() - CALLED - CUDA_ONLY
    missing = {name for name in CALLED if name not in registered()}
    if missing:
        raise Wrong(f"not registered: {', '.join(sorted(missing))}")
    if left:
        raise Wrong(f"registered, and this probe does not call them: {', '.join(sorted(left))}")
    return f"all {len(registered() - CUDA_ONLY)} registered operators were called"


def digest() -> str:
    """A hash of all that was SEEN, empty where that is nothing."""
    if not SEEN:
        return ""
    hashed = hashlib.sha256()
    for tensor in SEEN:
        hashed.update(tensor.detach().contiguous().numpy().tobytes())
    return hashed.hexdigest()


OPERATORS: list[tuple[str, Callable[[], str]]] = [
    ("nms", check_nms),
    ("roi_align", check_roi_align),
    ("_roi_align_backward", check_roi_align_backward),
    ("roi_pool", check_roi_pool),
    ("_roi_pool_backward", check_roi_pool_backward),
    ("ps_roi_align", check_ps_roi_align),
    ("_ps_roi_align_backward", check_ps_roi_align_backward),
    ("ps_roi_pool", check_ps_roi_pool),
    ("_ps_roi_pool_backward", check_ps_roi_pool_backward),
    ("deform_conv2d", check_deform_conv2d),
    ("_deform_conv2d_backward", check_deform_conv2d_backward),
    ("float16", check_half),
]


def checks_on_cpu(codecs: set[str]) -> list[tuple[str, Callable[[], str]]]:
    checks: list[tuple[str, Callable[[], str]]] = [
        ("import", check_import),
        *OPERATORS,
        ("quantized operators", check_quantized),
        ("_cuda_version", check_cuda_version),
        ("files", check_files),
        ("GIF", check_gif),
    ]
    for codec, decoded in (("jpeg", check_jpeg), ("png", check_png), ("webp", check_webp)):
        checks.append((IMAGES[codec], decoded if codec in codecs else partial(absent, codec)))
    return [*checks, ("every operator", check_all_called)]


def checks_on_gpu(device: dict[str, Any]) -> list[tuple[str, Callable[[], str]]]:
    nvjpeg = check_nvjpeg if device["nvjpeg"] else check_no_nvjpeg
    return [*OPERATORS, ("nvJPEG", nvjpeg), ("every operator", check_all_called_on_gpu)]


def main(results: Path, codecs: set[str], device: dict[str, Any] | None) -> int:
    """Write the results; 0 if every check holds."""
    global ON_GPU
    torch.manual_seed(20)
    torch.set_num_threads(2)
    with results.open("w", encoding="utf-8", buffering=1) as out:
        if device is None:
            return 0 if all(perform(out, checks_on_cpu(codecs))) else 1
        ON_GPU = True
        held = perform(out, [("import", check_import), ("device", partial(check_gpu, device["capability"]))])
        if not all(held):
            return 1
        if device["refused"]:
            return 0 if all(perform(out, refusals())) else 1
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            held = perform(out, checks_on_gpu(device))
        held += perform(out, [("kernels", partial(kernels_seen, profile))])
        return 0 if all(held) else 1


def perform(out: TextIO, checks: list[tuple[str, Callable[[], str]]]) -> list[bool]:
    """Run the checks and write what each gave; those after a failed import or an unusable GPU are left out."""
    held = []
    for name, check in checks:
        SEEN.clear()
        out.write(json.dumps({"start": name}) + "\n")
        try:
            ok, detail = True, check()
        except Wrong as error:
            ok, detail = False, str(error)
        except Exception:
            ok, detail = False, traceback.format_exc().strip().splitlines()[-1]
        out.write(json.dumps({"name": name, "ok": ok, "detail": detail, "digest": digest()}) + "\n")
        held.append(ok)
        if name in ("import", "device") and not ok:
            break
    return held


if __name__ == "__main__":
    options = json.loads(sys.argv[2])
    sys.exit(main(Path(sys.argv[1]), set(options["codecs"]), options["device"]))

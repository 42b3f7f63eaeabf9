"""torchvision::deform_conv2d and the operator of its gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..harness import ITSELF, TOLERANCE, Outcome, Probe, draw

OPERATORS = ("torchvision::deform_conv2d", "torchvision::_deform_conv2d_backward")
GEOMETRY = (2, 1, 1, 2, 1, 2, 2, 2)  # strides, paddings, dilations, groups, offset groups


def reference(
    x: Tensor, weight: Tensor, offset: Tensor, mask: Tensor, bias: Tensor, geometry: tuple[int, ...] = GEOMETRY
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


def leaves() -> list[Tensor]:
    """input, weight, offset, mask, bias for GEOMETRY, with a 3x2 kernel."""
    out_h, out_w = (15 + 2 - 3) // 2 + 1, 18 + 4 - 3 + 1
    return [draw(2, 4, 15, 18), draw(6, 2, 3, 2), draw(2, 24, out_h, out_w), draw(2, 12, out_h, out_w), draw(6)]


def check(probe: Probe) -> Outcome:
    """With a mask and all five gradients, and without a mask."""
    drawn = leaves()
    outcome = probe.compare(
        "deform_conv2d with a mask",
        lambda *v: probe.op("torchvision::deform_conv2d")(*v, *GEOMETRY, True),
        reference,
        drawn,
    )
    x, weight, offset, mask, bias = drawn
    plain = reference(x, weight, offset, torch.ones_like(mask), bias)
    for dtype in TOLERANCE:
        none = torch.zeros(2, 1, dtype=dtype)
        found = probe.op("torchvision::deform_conv2d")(
            *(v.to(dtype) for v in (x, weight, offset)), none, bias.to(dtype), *GEOMETRY, False
        )
        probe.close("deform_conv2d without a mask", found, plain, dtype)
    return outcome


def check_backward(probe: Probe) -> Outcome:
    """The gradients' operator against the reference's autograd."""
    drawn = [leaf.requires_grad_() for leaf in leaves()]
    out = reference(drawn[0], drawn[1], drawn[2], drawn[3], drawn[4])
    grad = torch.randn_like(out)
    expected = torch.autograd.grad(out, drawn, grad)
    for dtype in TOLERANCE:
        own = [leaf.detach().to(dtype) for leaf in drawn]
        found = probe.op("torchvision::_deform_conv2d_backward")(grad.to(dtype), *own, *GEOMETRY, True)
        for i, (mine, right) in enumerate(zip(found, expected, strict=True)):
            probe.close(f"_deform_conv2d_backward, gradient {i}", mine, right, dtype)
    return Outcome(detail=f"{ITSELF} five gradients")


def half(probe: Probe) -> Outcome:
    """Leaves as float16 holds them, the offsets a sixteenth off the pixels, where gradients jump."""
    drawn = [leaf.half().double() for leaf in leaves()]
    drawn[2] = (drawn[2] * 8).round() / 8 + 1 / 16
    return probe.compare(
        "deform_conv2d",
        lambda *v: probe.op("torchvision::deform_conv2d")(*v, *GEOMETRY, True),
        reference,
        drawn,
        (torch.float16,),
    )


def arguments() -> tuple[Any, ...]:
    """Single-precision leaves."""
    return (*(leaf.float() for leaf in leaves()), *GEOMETRY, True)

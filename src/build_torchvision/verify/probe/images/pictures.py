"""Test pictures, and what Pillow reads and writes."""

from __future__ import annotations

import io
from typing import Any

import torch
from torch import Tensor


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
    """Bytes as a uint8 tensor of their own."""
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)

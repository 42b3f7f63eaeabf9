"""WebP: a lossless file of Pillow's."""

from __future__ import annotations

from ..harness import Outcome, Probe
from .pictures import as_tensor, picture, saved

OPERATORS = ("image::decode_webp", "image::decode_image")


def check(probe: Probe) -> Outcome:
    """It comes back bit for bit."""
    from torchvision.io import decode_image, decode_webp

    probe.called.update(OPERATORS)
    image = picture(3)
    data = as_tensor(saved(image, "WEBP", lossless=True))
    probe.exact("a lossless WEBP", decode_webp(data), image)
    probe.exact("decode_image of a WEBP", decode_image(data), image)
    return Outcome(detail="a lossless one by Pillow comes back bit for bit")

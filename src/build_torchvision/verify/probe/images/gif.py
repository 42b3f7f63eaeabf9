"""GIF: decoded by code inside the extension, without a library."""

from __future__ import annotations

from ..harness import Outcome, Probe
from .pictures import as_tensor, picture, pillow, saved

OPERATORS = ("image::decode_gif", "image::decode_image")


def check(probe: Probe) -> Outcome:
    """As Pillow reads it."""
    from torchvision.io import decode_gif, decode_image

    probe.called.update(OPERATORS)
    data = saved(picture(3), "GIF")
    probe.exact("a GIF", decode_gif(as_tensor(data)), pillow(data))
    probe.exact("decode_image of a GIF", decode_image(as_tensor(data)), pillow(data))
    return Outcome(detail="read as Pillow reads it, bit for bit")

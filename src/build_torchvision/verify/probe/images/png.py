"""PNG: lossless, so every bit must come back."""

from __future__ import annotations

from ..harness import Outcome, Probe
from .pictures import as_tensor, picture, pillow, saved

OPERATORS = ("image::encode_png", "image::decode_png", "image::decode_image")


def check(probe: Probe) -> Outcome:
    """Grey, colour, and Pillow's own file with alpha."""
    from torchvision.io import ImageReadMode, decode_image, decode_png, encode_png

    probe.called.update(OPERATORS)
    for channels in (1, 3):
        image = picture(channels)
        data = encode_png(image, compression_level=6)
        probe.exact(f"a PNG of {channels} channels", decode_png(data), image)
        probe.exact("decode_image of a PNG", decode_image(data), image)
        if channels == 3:
            probe.exact("Pillow's reading of our PNG", pillow(data), image)
    alpha = picture(4)
    probe.exact("a PNG with alpha", decode_png(as_tensor(saved(alpha, "PNG")), ImageReadMode.RGB_ALPHA), alpha)
    return Outcome(detail="grey, colour and alpha come back bit for bit")

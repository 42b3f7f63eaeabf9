"""JPEG: encoded, decoded, and beside Pillow's reading."""

from __future__ import annotations

from ..harness import Outcome, Probe, Wrong
from .pictures import picture, pillow

OPERATORS = (
    "image::encode_jpeg",
    "image::decode_jpeg",
    "image::decode_image",
    "image::_jpeg_version",
    "image::_is_compiled_against_turbo",
)


def check(probe: Probe) -> Outcome:
    """A round trip at quality 95."""
    from torchvision.io import decode_image, decode_jpeg, encode_jpeg

    probe.called.update(OPERATORS[:3])
    image = picture(3)
    data = encode_jpeg(image, quality=95)
    back = decode_jpeg(data)
    probe.seen.extend((data, back))
    lost = float((back.double() - image.double()).abs().mean())
    beside = float((back.double() - pillow(data).double()).abs().max())
    if back.shape != image.shape or not lost < 2:
        raise Wrong(f"a JPEG of quality 95 comes back off by {lost:.2f} of 255 on average")
    if not beside <= 4:
        raise Wrong(f"a JPEG is decoded up to {beside:.0f} of 255 away from what Pillow reads")
    probe.exact("decode_image of a JPEG", decode_image(data), back)
    for name in OPERATORS[3:]:
        if name in probe.registered:
            probe.op(name)()
    return Outcome(detail=f"round trip: {lost:.2f} of 255 off on average; Pillow reads the same to {beside:.0f}")

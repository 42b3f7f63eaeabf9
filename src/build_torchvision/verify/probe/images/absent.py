"""A codec that was left out of the package says so when it is called."""

from __future__ import annotations

from ..harness import Outcome, Probe, Wrong
from .pictures import as_tensor, picture, saved

FORMS = {"jpeg": "JPEG", "png": "PNG", "webp": "WEBP"}


def check(probe: Probe, codec: str) -> Outcome:
    """Decoding with `codec` must fail."""
    from torchvision.io import decode_jpeg, decode_png, decode_webp

    decode = {"jpeg": decode_jpeg, "png": decode_png, "webp": decode_webp}[codec]
    probe.called.update({f"image::decode_{codec}", f"image::encode_{codec}"} & probe.registered)
    for name in ("image::_jpeg_version", "image::_is_compiled_against_turbo") if codec == "jpeg" else ():
        if name in probe.registered:
            probe.op(name)()
    try:
        decode(as_tensor(saved(picture(3), FORMS[codec])))
    except RuntimeError as error:
        return Outcome(detail=f"left out of this package, and says so: {str(error).splitlines()[0][:100]}")
    raise Wrong(f"{codec} is said to be left out, and an image was decoded")

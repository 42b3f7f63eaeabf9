"""JPEG on the GPU, by nvJPEG."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..harness import Outcome, Probe, Wrong
from .pictures import as_tensor, picture, pillow, saved

OPERATORS = ("image::decode_jpegs_cuda", "image::encode_jpegs_cuda")


def check(probe: Probe) -> Outcome:
    """Decoded as Pillow decodes, and encoded for Pillow."""
    from torchvision.io import ImageReadMode, decode_jpeg, encode_jpeg

    probe.called.update(OPERATORS)
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
    worst = max(lost)
    return Outcome(
        detail=f"decoded as Pillow decodes, and encoded for Pillow: at most {worst:.2f} of 255 off on average"
    )


def _apart(what: str, actual: Tensor, expected: Tensor) -> float:
    """The mean distance. Raises Wrong beyond 2 of 255."""
    if actual.shape != expected.shape:
        raise Wrong(f"{what}: shape {tuple(actual.shape)}, not {tuple(expected.shape)}")
    apart = float((actual.double() - expected.double()).abs().mean())
    if not apart < 2:
        raise Wrong(f"{what}: off by {apart:.2f} of 255 on average, more than 2")
    return apart


def check_absent(probe: Probe) -> Outcome:
    """A package without nvJPEG says so when it is called."""
    probe.called.update(OPERATORS)
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
    return Outcome(detail="left out of this package, and says so")

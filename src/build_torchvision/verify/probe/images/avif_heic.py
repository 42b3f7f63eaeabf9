"""AVIF and HEIC: operators of 0.20 alone, which are registered with or without their libraries."""

from __future__ import annotations

import torch

from ..harness import Outcome, Probe, Wrong

OPERATORS = ("image::decode_avif", "image::decode_heic")
UNCHANGED = 0  # torchvision.io.ImageReadMode.UNCHANGED


def check(probe: Probe) -> Outcome:
    """Each raises an error for bytes that are no picture, as it does for every input where its library is left out.

    That no such library is linked is what the audit of the files shows.
    """
    for name in OPERATORS:
        try:
            probe.op(name)(torch.zeros(64, dtype=torch.uint8), UNCHANGED)
        except RuntimeError:
            continue
        raise Wrong(f"{name} decoded 64 zeros")
    return Outcome(detail="each refuses bytes that are no picture")

"""One file per codec, and reading and writing files: `check` compares with Pillow, OPERATORS says what it calls."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..harness import Outcome, Probe
from . import absent, avif_heic, files, gif, jpeg, nvjpeg, png, webp

CODECS = {"jpeg": ("JPEG", jpeg), "png": ("PNG", png), "webp": ("WEBP", webp)}


def checks(probe: Probe, codecs: frozenset[str]) -> list[tuple[str, Callable[[], Outcome]]]:
    """The checks on a CPU; none where the package has no image operators at all."""
    if not any(name.startswith("image::") for name in probe.registered):
        return []
    rows: list[tuple[str, Callable[[], Outcome]]] = [
        ("files", partial(files.check, probe)),
        ("GIF", partial(gif.check, probe)),
    ]
    for codec, (name, module) in CODECS.items():
        rows.append((name, partial(module.check, probe) if codec in codecs else partial(absent.check, probe, codec)))
    if set(avif_heic.OPERATORS) <= probe.registered:
        rows.append(("AVIF and HEIC", partial(avif_heic.check, probe)))
    return rows


def covered() -> frozenset[str]:
    """Every operator that some check of this folder calls."""
    return frozenset(name for module in (files, gif, jpeg, png, webp, avif_heic, nvjpeg) for name in module.OPERATORS)

"""Write the front page: one HTML file that loads nothing else, made from the facts and the wheels."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

from markupsafe import Markup

from build_torchvision import __version__
from build_torchvision.compatibility import toolkit_support
from build_torchvision.describe import notes
from build_torchvision.facts import gpus, isas, releases, toolkits, version_key
from build_torchvision.publish import coverage
from build_torchvision.publish.catalogue import Record
from build_torchvision.publish.templates import render
from build_torchvision.releases import published_torch_serves
from build_torchvision.variants import DEFAULT_PYTHON, DEFAULT_TRACKS, TRACKS, enumerate_variants

WORDS = {
    "native": "a cubin of this very GPU",
    "compatible": "an older cubin of the same major version, which runs on it",
    "ptx": "PTX, which the driver compiles when the library is first loaded",
    "cpu": "no device code",
}


def front_page(records: Sequence[Record], *, signed: bool) -> str:
    """The text of index.html: the matrix and the wheels as tables, and a finder where there is JavaScript."""
    style, script = _part("front.css"), _part("front.js")
    data = json.dumps(page_data(records), separators=(",", ":")).replace("<", "\\u003c")
    return render(
        "front.html.j2",
        version=__version__,
        style=Markup(style),
        script=Markup(script),
        data=Markup(data),
        style_hash=_csp(style),
        script_hash=_csp(script),
        records=sorted(records, key=lambda row: _order(row)),
        releases=sorted({row.torchvision for row in records}, key=version_key, reverse=True),
        variants=len({row.parsed.short for row in records}),
        grids=coverage.grids(records),
        columns=coverage.columns(),
        isas=list(isas().values()),
        words=WORDS,
        signed=signed,
        ran=sum(row.run_checks is not None for row in records),
    )


def page_data(records: Sequence[Record]) -> dict[str, Any]:
    """What the finder knows, as JSON: facts, notes (each sentence once) and wheels."""
    sentences: dict[str, int] = {}
    noted = {}
    served: set[tuple[str, str | None]] = set()
    for variant in enumerate_variants(tracks=TRACKS, sms=None):
        noted[variant.short] = [sentences.setdefault(text, len(sentences)) for text in notes(variant)]
        if published_torch_serves(variant):
            served.add((variant.track, variant.sm))
    return {
        "isas": [
            {
                "name": isa.name,
                "platform": isa.platform,
                "contains": isa.contains,
                "features": isa.features,
                "cpus": isa.first_cpus,
            }
            for isa in isas().values()
        ],
        "gpus": [
            {
                "sm": gpu.sm,
                "capability": gpu.capability,
                "architecture": gpu.architecture,
                "products": gpu.products,
                "names": gpu.names,
            }
            for gpu in gpus().values()
        ],
        "tracks": [
            {
                "track": track,
                "cuda": toolkit.version,
                "releases": {platform: _release_for(toolkit.version, platform) for platform in coverage.PLATFORM_NAMES},
                "served": [sm for sm in gpus() if (track, sm) in served],
                "kinds": {sm: way.kind for sm in gpus() if (way := toolkit_support(track, sm))},
            }
            for track, toolkit in toolkits().items()
        ],
        "python": DEFAULT_PYTHON,
        "default_tracks": list(DEFAULT_TRACKS),
        "words": WORDS,
        "sentences": list(sentences),
        "notes": noted,
        "wheels": [
            {
                "name": row.parsed.short,
                "python": "any" if row.any_python else row.python,
                "release": row.torchvision,
                "version": row.version,
                "torch": row.torch,
                "size": row.size,
                "checks": row.proof_checks,
                "run": row.run_checks,
                "gpu": row.gpu_checks,
                "bench": row.benchmark,
                "with_variant_label": row.with_variant_label,
            }
            for row in records
        ],
    }


def _release_for(cuda: str, platform: str) -> str | None:
    """The newest release whose torch for `platform` has this CUDA and whose source is pinned; None without one."""
    fitting = [row for row in releases().values() if row.torch_cuda(platform) == cuda and row.sha256]
    return max(fitting, key=lambda row: version_key(row.torchvision)).torchvision if fitting else None


def _order(row: Record) -> tuple[Any, ...]:
    variant = row.parsed
    capability = version_key(variant.gpu.capability) if variant.gpu else ()
    return (TRACKS.index(variant.track), capability, list(isas()).index(variant.isa), row.version, int(row.python))


def _part(name: str) -> str:
    return resources.files("build_torchvision.publish.templates").joinpath(name).read_text(encoding="utf-8")


def _csp(text: str) -> str:
    """A source expression that lets the browser take exactly this text (Content Security Policy level 2, 6.7.3)."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

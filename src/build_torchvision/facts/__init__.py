"""Typed facts about GPUs, CPU ISAs, CUDA toolkits, releases and tools, read from the TOML tables of this folder.

Each table has one loader, all built on `_schema`; every row names its `source`. There is no logic here: what follows
from the facts is worked out in `variants`, `compatibility` and `releases`.
"""

from __future__ import annotations

import difflib
from itertools import takewhile

from build_torchvision.errors import BadInput
from build_torchvision.facts._gpus import Gpu, gpus
from build_torchvision.facts._isas import Isa, isas
from build_torchvision.facts._releases import Release, releases
from build_torchvision.facts._schema import PLATFORMS, FactError, version_key
from build_torchvision.facts._toolkits import Toolkit, toolkits

__all__ = [
    "PLATFORMS",
    "FactError",
    "Gpu",
    "Isa",
    "Release",
    "Toolkit",
    "gpus",
    "isas",
    "release",
    "releases",
    "toolkits",
    "version_key",
]
OLDEST_CLANG = 16
"""The first clang that knows every -march of the matrix."""


def _likeness(asked: str, known: str) -> tuple[int, float]:
    """How many leading numbers two versions share, then how alike their texts are."""
    shared = takewhile(lambda pair: pair[0] == pair[1], zip(asked.split("."), known.split("."), strict=False))
    return len(list(shared)), difflib.SequenceMatcher(None, asked, known).ratio()


def release(version: str) -> Release:
    """The release of TorchVision `version` ("0.21.0"). Raises BadInput, naming the nearest, for any other text."""
    known = releases()
    if version in known:
        return known[version]
    near = sorted(known, key=lambda other: _likeness(version, other), reverse=True)[:2]
    raise BadInput(
        f"TorchVision release {version!r}",
        "is not in the table of releases.",
        f"Did you mean {' or '.join(near)}? Known: {', '.join(known)}.",
    )

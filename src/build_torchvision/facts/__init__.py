"""Typed facts about GPUs, CPU ISAs, CUDA toolkits, releases and tools, read from the TOML tables of this folder.

Each table has one loader, all built on `_schema`; every row names its `source`. There is no logic here: what follows
from the facts is worked out in `variants`, `compatibility` and `releases`.
"""

from __future__ import annotations

from build_torchvision.facts._gpus import Gpu, gpus
from build_torchvision.facts._isas import Isa, isas, lowest_isa, same_code
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
    "lowest_isa",
    "releases",
    "same_code",
    "toolkits",
    "version_key",
]
OLDEST_CLANG = 16
"""The first clang that knows every -march of the matrix."""

"""Typed loader of cuda_wheels.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True)
class CudaWheel:
    """One pinned wheel of a toolkit, and the folders of it that a build reads.

    `records`: platform -> sha256 of the wheel's RECORD, which has a digest of each file.
    """

    package: str
    version: str
    keep: tuple[str, ...]
    records: Mapping[str, str]


@cache
def cuda_wheels() -> Mapping[str, tuple[CudaWheel, ...]]:
    """Track (or "fatbinary") -> its wheels."""
    text = resources.files("build_torchvision.facts").joinpath("cuda_wheels.toml").read_text(encoding="utf-8")
    return MappingProxyType(
        {
            track: tuple(
                CudaWheel(
                    package=row["package"], version=row["version"], keep=tuple(row["keep"]), records=row["records"]
                )
                for row in table["wheels"]
            )
            for track, table in tomllib.loads(text).items()
        }
    )

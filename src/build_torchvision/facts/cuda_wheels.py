"""Typed loader of cuda_wheels.toml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from build_torchvision.facts._schema import PLATFORM, PLATFORMS, SHA256, VERSION, FactError, rows
from build_torchvision.facts.pinned_wheels import PinnedWheel


@dataclass(frozen=True, kw_only=True)
class CudaWheel(PinnedWheel):
    """One pinned wheel of a toolkit; `keep` are the folders of it that a build reads.

    `hold` says why it is not the version of the track's own toolkit, and keeps it from being brought up to date.
    """

    hold: str | None = None


@cache
def cuda_wheels() -> Mapping[str, tuple[CudaWheel, ...]]:
    """Track (or "fatbinary") -> its wheels."""
    found: dict[str, tuple[CudaWheel, ...]] = {}
    for track, table in rows("cuda_wheels"):
        wheels = []
        for row in table.rows("wheels"):
            wheel = CudaWheel(
                package=row.text("package", r"nvidia-[a-z0-9-]+"),
                version=row.text("version", VERSION),
                keep=row.words("keep", r"[a-z/]+"),
                records=row.mapping("records", PLATFORM, SHA256),
                hold=row.optional("hold"),
            )
            row.done()
            if wheel.records.keys() != set(PLATFORMS):
                raise FactError(f"{row.where}: `records` must name {' and '.join(PLATFORMS)}.")
            wheels.append(wheel)
        table.done()
        found[track] = tuple(wheels)
    return MappingProxyType(found)

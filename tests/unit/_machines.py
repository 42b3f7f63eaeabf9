"""Recorded machines: tests/machines/NAME.toml holds what one says, where that was recorded, and the right answer."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from build_torchvision.machine.nvml import NO_LIBRARY, Nvml
from build_torchvision.machine.sources import Sources

FOLDER = Path(__file__).parents[1] / "machines"
NAMES = sorted(path.stem for path in FOLDER.glob("*.toml"))


def record(name: str) -> dict[str, Any]:
    return tomllib.loads((FOLDER / f"{name}.toml").read_text())


def sources(data: dict[str, Any]) -> Sources:
    """The sources that a recording stands for."""
    files: dict[str, str] = data["files"]
    nvml = Nvml.from_record(data.get("nvml", {"trouble": NO_LIBRARY}))
    return Sources(
        platform=data["platform"],
        read=files.get,
        nvml=lambda: nvml,
        cpuid=lambda: None,
        cpus=data["cpus"],
        glibc="2.39",
    )

"""Where facts of a machine come from: files, the processor, NVIDIA's library. A recorded machine is another source."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from archspec.cpu.detect import CPUID_JSON, CpuidInfoCollector

from build_torchvision.machine.nvml import Nvml, read_nvml

# What the CPUID instruction has a bit for, as archspec names it; of anything else only the kernel knows.
CPUID_NAMES = frozenset(
    bit["name"] for kind in ("flags", "extension-flags") for leaf in CPUID_JSON[kind] for bit in leaf["bits"]
)


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The ways to ask about one machine. Each answers None where there is nothing to be had."""

    platform: str
    """As `uname -m`: x86_64, aarch64."""
    read: Callable[[str], str | None]
    """The text of a file of /proc, /sys, /etc or /run, by its absolute path."""
    nvml: Callable[[], Nvml]
    cpuid: Callable[[], frozenset[str] | None]
    """The features that the CPUID instruction reports, in archspec's spelling."""
    cpus: int
    """CPUs that this process may run on."""
    glibc: str | None


def this_machine() -> Sources:
    """The sources of the machine that this runs on."""
    libc, version = platform.libc_ver()
    return Sources(
        platform=platform.machine(),
        read=_read,
        nvml=read_nvml,
        cpuid=_cpuid,
        cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        glibc=version if libc == "glibc" else None,
    )


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _cpuid() -> frozenset[str] | None:
    if platform.machine() != "x86_64":
        return None
    try:
        return frozenset(CpuidInfoCollector().features)
    except (OSError, ValueError, RuntimeError):  # no executable memory to put the instruction into
        return None

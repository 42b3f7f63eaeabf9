"""The best CPU variant for this computer, by archspec's knowledge of its processor."""

from __future__ import annotations

import platform
import sys
from collections.abc import Collection

import archspec.cpu
import archspec.cpu.detect

from build_torchvision.errors import BadInput
from build_torchvision.facts import isas
from build_torchvision.variants import CPU, Variant


def best_isa(machine: str, features: Collection[str]) -> str:
    """The highest ISA of platform `machine` ("x86_64", "aarch64") whose features `features` holds (archspec names).

    Raises BadInput where even the lowest asks for more.
    """
    fitting = [isa.name for isa in isas().values() if isa.platform == machine and set(isa.features) <= set(features)]
    if not fitting:
        known = ", ".join(isas())
        raise BadInput(
            f"choosing a CPU ISA for this {machine} machine",
            f"its processor has the features of none of {known}.",
            "Install the stock wheel: `pip install torchvision`.",
        )
    return fitting[-1]  # the table lists each platform's ISAs in rising order


def cpu_features() -> frozenset[str]:
    """The features of this processor, in archspec's spelling.

    A virtual machine may hide some of a model's features: archspec then names the best generic level below it, whose
    own list is short. So what the processor itself reports counts too.
    """
    return frozenset(archspec.cpu.host().features) | frozenset(archspec.cpu.detect.detected_info().features)


def best_cpu_variant() -> Variant:
    """The CPU variant for this machine and the running Python."""
    isa = best_isa(platform.machine(), cpu_features())
    return Variant(python=f"{sys.version_info.major}{sys.version_info.minor}", track=CPU, sm=None, isa=isa)

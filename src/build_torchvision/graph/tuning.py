"""Apply a wheel's `Tuning` to the units of the graph: which flags and IR transformations each one gets."""

from __future__ import annotations

from pathlib import PurePosixPath

from build_torchvision.facts import isas
from build_torchvision.flags import Tuning
from build_torchvision.graph.units import Unit


def parse_flags(unit: Unit, tuning: Tuning) -> tuple[str, ...]:
    """Flags that the front end writes into the unit's IR: the floating-point rules of its operations."""
    summed = _is_operator(unit) and PurePosixPath(unit.sources[0]).name in tuning.summed_sources
    return tuning.summation if summed else ()


def transform_flags(unit: Unit, tuning: Tuning) -> tuple[str, ...]:
    """Options of execute/transform_ir.py for the unit's IR: "--multiply" turns repeated divisions into products."""
    return tuple(f"--{name}" for name in tuning.transformations) if _is_operator(unit) else ()


def codegen_flags(unit: Unit, tuning: Tuning) -> tuple[str, ...]:
    """Flags of the pass that makes the unit's machine code."""
    return tuning.code_generation if _is_operator(unit) else ()


# A compiler keeps to 256 bits for AVX-512 unless told otherwise: few programs win more than their clock loses. Our
# kernels' loops do: of 45 cases timed on a Xeon (Sapphire Rapids) the mean was 7.0 times the published wheel's
# speed with whole registers, and 6.7 with halves. An IR file has no flag for it; the target's own feature is taken off.
WHOLE_REGISTERS = ("-Xclang", "-target-feature", "-Xclang", "-prefer-256-bit")


# The loops of this kernel are two registers wide in the source. -O3 unrolls them further: the code is twice as large
# and takes twice as long to compile, for calls that are no faster (benchmarks/NOTES.md). On Arm nothing was timed.
UNROLLED_BY_HAND = ("deform_conv2d.cpp",)


def kernel_flags(unit: Unit, isa: str) -> tuple[str, ...]:
    """Flags of the pass that makes our kernels' machine code for `isa`."""
    if not unit.kernel:
        return ()
    row = isas()[isa]
    level = row.platform == "x86_64" and PurePosixPath(unit.sources[0]).name in UNROLLED_BY_HAND
    return (*(("-O2",) if level else ()), *(WHOLE_REGISTERS if "avx512f" in row.features else ()))


def _is_operator(unit: Unit) -> bool:
    """Whether the unit is one of upstream's CPU operators: these stand alone (units.py)."""
    return (
        not unit.kernel
        and unit.isa_dependent
        and len(unit.sources) == 1
        and "ops" in PurePosixPath(unit.sources[0]).parts
    )

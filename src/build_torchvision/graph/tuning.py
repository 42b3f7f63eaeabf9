"""Apply a wheel's `Tuning` to the units of the graph: which flags and IR transformations each one gets."""

from __future__ import annotations

from pathlib import PurePosixPath

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


def _is_operator(unit: Unit) -> bool:
    """Whether the unit is one CPU operator: these stand alone (units.py)."""
    return unit.isa_dependent and len(unit.sources) == 1 and "ops" in PurePosixPath(unit.sources[0]).parts

"""How clang compiles TorchVision's CPU operators, beyond -O3: what was measured to be faster, and why.

The loops of these operators run over one bin of a region: two or three samples, a handful of pixels. A compiler takes
loops for long ones. What it prepares for that (a body of eight or sixteen elements, its entry and its rest) is never
entered, and takes the registers that the outer loops need. `benchmarks/NOTES.md` has the numbers, and what was tried
and left out.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from build_torchvision.graph.units import Unit

# The bodies for long loops are left out; straight-line code is still made into vectors (SLP).
SHORT_LOOPS = ("-fno-vectorize", "-fno-unroll-loops")
# A gather loads one element at a time on the CPUs that have it, only slower: roi_align took 1.4 times as long with it.
NO_GATHER = ("-mno-gather", "-mno-scatter")
# A sample is clamped to the map, and almost never needs it: the branch is predicted, where a select would lengthen what
# the next step waits for (most of all with AVX-512, whose comparisons go through mask registers).
KEEP_BRANCHES = ("-mllvm", "-two-entry-phi-node-folding-threshold=1")
# A bilinear sample is a sum of four products. Summed pairwise it is one vector product and two additions, where the
# source's order makes it four dependent operations on twelve loads. This moves a result by rounding alone, as fused
# multiply-add does. A division that stands alone stays one (no -freciprocal-math): times 1/7 in place of by 7 makes
# another number of samples out of a region of 49 pixels. NaN and infinity are kept. The quantized roi_align keeps the
# source's order: its sums lie on the edge between two steps, and three of upstream's tests saw more differences than
# they allow.
SUM_PAIRWISE = ("-fassociative-math", "-fno-signed-zeros", "-ffp-contract=fast")
SAMPLING = ("ps_roi_align_kernel.cpp", "roi_align_kernel.cpp")


def parse_flags(unit: Unit) -> tuple[str, ...]:
    """Flags that the front end writes into the unit's IR: the floating-point rules of its operations."""
    return SUM_PAIRWISE if _is_operator(unit) and PurePosixPath(unit.sources[0]).name in SAMPLING else ()


def rewrite_flags(unit: Unit, platform: str) -> tuple[str, ...]:
    """Options of execute/transform_ir.py for the unit's IR: an operator's repeated divisions become products."""
    return ("--multiply",) if _is_operator(unit) and platform == "x86_64" else ()


def codegen_flags(unit: Unit, platform: str) -> tuple[str, ...]:
    """Flags of the pass that makes the unit's machine code: on x86-64, where they were measured.

    Arm keeps the loop vectoriser: without it the armv9 operators use SVE in 2 instructions, with it in about 300, and
    nothing was timed there.
    """
    return (*SHORT_LOOPS, *NO_GATHER, *KEEP_BRANCHES) if _is_operator(unit) and platform == "x86_64" else ()


def _is_operator(unit: Unit) -> bool:
    """Whether the unit is one CPU operator: these stand alone (units.py)."""
    return unit.isa_dependent and len(unit.sources) == 1 and "ops" in PurePosixPath(unit.sources[0]).parts

"""Map a variant to compiler flags and gencode lists, each with its reason. Pure: reads nothing but the tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import msgspec

from build_torchvision.compatibility import CodegenKind, toolkit_support
from build_torchvision.facts import gpus
from build_torchvision.variants import Variant


@dataclass(frozen=True, kw_only=True)
class Codegen:
    """How a toolkit serves a variant's SM."""

    kind: CodegenKind
    """native: a cubin of that very SM; compatible: an older cubin of the same major; ptx: compiled at load."""
    gencode: tuple[str, ...]
    """Arguments of nvcc's -gencode, such as "arch=compute_120,code=sm_120"."""
    arch_list: str
    """TORCH_CUDA_ARCH_LIST. For ptx it is a superset of `gencode`: torch has no word for PTX without its cubin."""
    reason: str

    @property
    def number(self) -> str:
        """The SM that is compiled for, as nvcc counts: "120"; its PTX, where there is any, is of the same."""
        return self.gencode[0].partition(",")[0].removeprefix("arch=compute_")

    @property
    def base(self) -> str:
        """`number` as an SM: "sm120"."""
        return f"sm{self.number}"

    @property
    def cubin(self) -> bool:
        """Whether a cubin is shipped."""
        return any("code=sm_" in option for option in self.gencode)

    @property
    def ptx(self) -> bool:
        """Whether PTX is shipped."""
        return any("code=compute_" in option for option in self.gencode)

    @property
    def images(self) -> frozenset[tuple[str, str]]:
        """What each fat binary holds, and nothing else: {("cubin", "sm120")}, {("ptx", "sm100")} or both kinds."""
        kinds = (("cubin", self.cubin), ("ptx", self.ptx))
        return frozenset((kind, self.base) for kind, shipped in kinds if shipped)

    @property
    def label(self) -> str:
        """The kind, and whether PTX was added to it: "native", "native+PTX"."""
        return f"{self.kind}+PTX" if self.cubin and self.ptx else self.kind


SHARED_CODE: Mapping[str, tuple[str, ...]] = {"x86_64": (), "aarch64": ("-march=armv8.2-a",)}
"""What C++ is compiled with that all CPU ISAs of a platform share: operators' schemas, dispatch, autograd.

Both Arm ISAs have Armv8.2-A's atomics (LSE), with which that code counts references; without the flag it would call
libgcc's helpers, which ask the CPU each time. Shared x86-64 code has nothing that a later ISA does better.
"""


def isa_flags(variant: Variant) -> tuple[str, ...]:
    """The C++ compiler's flags for the variant's CPU ISA (gcc >= 12, clang >= 16)."""
    return variant.isa_facts.flags


def cuda_codegen(variant: Variant, *, ptx: bool = False) -> Codegen | None:
    """The gencode list of a CUDA variant with its kind and reason; None in the track "cpu".

    `ptx` adds the PTX of the SM that is compiled for, so that later GPUs can run the variant too, compiled at load.
    """
    made = _without_added_ptx(variant)
    if made is None or not ptx or made.kind == "ptx":
        return made
    return replace(
        made,
        gencode=(*made.gencode, f"arch=compute_{made.number},code=compute_{made.number}"),
        arch_list=f"{made.arch_list}+PTX",
        reason=f"{made.reason} The PTX of compute_{made.number} comes along, as --ptx asks: the driver compiles it for "
        "GPUs that no cubin here serves.",
    )


def _without_added_ptx(variant: Variant) -> Codegen | None:
    if variant.sm is None or variant.gpu is None:
        return None
    served = toolkit_support(variant.track, variant.sm)
    assert served is not None, "a Variant exists only where its toolkit serves its SM"
    gpu, base, cuda = variant.gpu, gpus()[served.base], f"CUDA {variant.cuda}"
    number = base.sm.removeprefix("sm")
    if served.kind == "ptx":
        # To CUDA 12.8 and 12.9 Thor is sm_101, a name that 13.0 dropped: no driver for sm_110 loads a cubin of it, so
        # PTX of compute_100 is what carries over.
        return Codegen(
            kind="ptx",
            gencode=(f"arch=compute_{number},code=compute_{number}",),
            arch_list=f"{base.capability}+PTX",
            reason=f"{cuda} makes no cubin that runs on {gpu.capability}; the driver compiles the PTX of "
            f"compute_{number} for it when the library is first loaded.",
        )
    reason = f"{cuda} compiles for sm_{number} by name."
    if served.kind == "compatible":
        reason = (
            f"{cuda} does not know sm_{gpu.sm.removeprefix('sm')}; a cubin of sm_{number} runs on it, since the major "
            f"version is the same and {gpu.capability} is the higher minor."
        )
    return Codegen(
        kind=served.kind,
        gencode=(f"arch=compute_{number},code=sm_{number}",),
        arch_list=base.capability,
        reason=reason,
    )


class Tuning(msgspec.Struct, frozen=True, kw_only=True):
    """How CPU code is compiled beyond -O3 and the ISA. Empty fields: as upstream compiles it.

    benchmarks/NOTES.md has what each was measured to give, and what was tried and left out.
    """

    floating_point: tuple[str, ...] = ()
    """Flags of every unit that relax floating-point rules without changing a result."""
    summation: tuple[str, ...] = ()
    """Flags of the sources in `summed_sources`, which let their sums be taken pairwise."""
    summed_sources: tuple[str, ...] = ()
    code_generation: tuple[str, ...] = ()
    """Flags of the pass that makes an operator's machine code."""
    transformations: tuple[str, ...] = ()
    """What execute/transform_ir.py does to an operator's LLVM IR: "multiply"."""


# Nothing that TorchVision returns depends on these: nothing reads errno or the exception flags after math.
MATH_FLAGS = ("-fno-math-errno", "-fno-trapping-math")
# The loops of the operators run over one bin of a region: two or three samples, a handful of pixels. A compiler takes
# loops for long ones. What it prepares for that (a body of eight or sixteen elements, its entry and its rest) is never
# entered, and takes the registers that the outer loops need. Straight-line code is still made into vectors (SLP).
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


def tuning_for(platform: str) -> Tuning:
    """The tuning of `platform`'s CPU operators: code generation is tuned on x86-64, where it was measured.

    Arm keeps the loop vectoriser: without it the armv9 operators use SVE in 2 instructions, with it in about 300, and
    nothing was timed there.
    """
    measured = platform == "x86_64"
    return Tuning(
        floating_point=MATH_FLAGS,
        summation=SUM_PAIRWISE,
        summed_sources=SAMPLING,
        code_generation=(*SHORT_LOOPS, *NO_GATHER, *KEEP_BRANCHES) if measured else (),
        transformations=("multiply",) if measured else (),
    )

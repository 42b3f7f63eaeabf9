"""Map a variant to compiler flags and gencode lists, each with its reason. Pure: reads nothing but the tables."""

from __future__ import annotations

from dataclasses import dataclass, replace

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

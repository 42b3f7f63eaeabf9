"""Variant -> compiler flags and gencode lists, each with its reason. Pure: nothing is run or read but the facts."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace
from typing import TypedDict

from build_torchvision.facts import Isa, gpus, isas, toolkits, version_key
from build_torchvision.variants import Kind, Variant, service

__all__ = [
    "Codegen",
    "CodegenDescription",
    "Description",
    "covers",
    "cuda_codegen",
    "describe",
    "driver_floor",
    "isa_flags",
    "isa_runs_on",
    "notes",
    "ships",
]


@dataclass(frozen=True, kw_only=True)
class Codegen:
    """How a toolkit serves a variant's SM."""

    kind: Kind
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


class CodegenDescription(TypedDict):
    """`Codegen` as JSON."""

    kind: Kind
    gencode: list[str]
    reason: str


class Description(TypedDict):
    """A variant as JSON: the documented, stable shape of `variants --json`."""

    name: str
    python: str
    track: str
    cuda: str | None
    sm: str | None
    isa: str
    platform: str
    codegen: CodegenDescription | None


def isa_flags(variant: Variant) -> tuple[str, ...]:
    """The C++ compiler's flags for the variant's CPU ISA (gcc >= 12, clang >= 16)."""
    return variant.isa_facts.flags


def isa_runs_on(built: str, cpu: str) -> bool:
    """Whether what was built for the ISA `built` runs on a CPU whose best ISA is `cpu`."""
    at: Isa | None = isas()[cpu]
    while at is not None:
        if at.name == built:
            return True
        at = isas()[at.contains] if at.contains else None
    return False


def ships(variant: Variant) -> bool:
    """Whether a computer is on sale that has the variant's GPU beside a CPU that runs its ISA (hosts, gpus.toml)."""
    gpu = variant.gpu
    if gpu is None:
        return True
    return variant.platform in gpu.hosts and (gpu.soc_isa is None or isa_runs_on(variant.isa, gpu.soc_isa))


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


def covers(cubins: Set[str], ptx: Set[str], sm: str) -> bool:
    """Whether code with these cubins and PTX runs on `sm` (CUDA programming guide, "Application compatibility")."""
    want = version_key(gpus()[sm].capability)
    have = {name: (int(name[2:-1]), int(name[-1])) for name in {*cubins, *ptx}}
    return any(have[name][0] == want[0] and have[name] <= want for name in cubins) or any(
        have[name] <= want for name in ptx
    )


def _without_added_ptx(variant: Variant) -> Codegen | None:
    if variant.sm is None or variant.gpu is None:
        return None
    way = service(variant.track, variant.sm)
    assert way is not None, "a Variant exists only where its toolkit serves its SM"
    gpu, base, cuda = variant.gpu, gpus()[way.base], f"CUDA {variant.cuda}"
    number = base.sm.removeprefix("sm")
    if way.kind == "ptx":
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
    if way.kind == "compatible":
        reason = (
            f"{cuda} does not know sm_{gpu.sm.removeprefix('sm')}; a cubin of sm_{number} runs on it, since the major "
            f"version is the same and {gpu.capability} is the higher minor."
        )
    return Codegen(
        kind=way.kind,
        gencode=(f"arch=compute_{number},code=sm_{number}",),
        arch_list=base.capability,
        reason=reason,
    )


def driver_floor(variant: Variant) -> str | None:
    """The oldest Linux NVIDIA driver that runs the variant ("570.26"); None in the track "cpu"."""
    codegen = cuda_codegen(variant)
    if codegen is None or variant.gpu is None:
        return None
    toolkit = toolkits()[variant.track]
    floors = [toolkit.ptx_driver if codegen.kind == "ptx" else toolkit.driver]
    floors += [variant.gpu.driver] if variant.gpu.driver else []
    return max(floors, key=version_key)


def describe(variant: Variant) -> Description:
    """The variant in the shape that `variants --json` prints."""
    made = cuda_codegen(variant)
    codegen: CodegenDescription | None = None
    if made is not None:
        codegen = {"kind": made.kind, "gencode": list(made.gencode), "reason": made.reason}
    return {
        "name": str(variant),
        "python": variant.python,
        "track": variant.track,
        "cuda": variant.cuda,
        "sm": variant.sm,
        "isa": variant.isa,
        "platform": variant.platform,
        "codegen": codegen,
    }


def notes(variant: Variant) -> list[str]:
    """What a user should know about the variant before building it, one plain sentence or two each."""
    found: list[str] = []
    gpu, codegen = variant.gpu, cuda_codegen(variant)
    if gpu is not None and codegen is not None:
        products = ", ".join(gpu.products)
        if variant.platform not in gpu.hosts:
            found.append(
                f"No shipping computer matches this name: {gpu.sm} ({products}) ships in {' and '.join(gpu.hosts)} "
                f"systems only, and {variant.isa} is {variant.platform}."
            )
        elif gpu.soc_isa is not None and not isa_runs_on(variant.isa, gpu.soc_isa):
            found.append(
                f"No shipping computer matches this name: the CPU beside {gpu.sm} ({products}) is {gpu.soc_isa}, "
                f"which does not run {variant.isa}."
            )
        if codegen.kind == "ptx":
            answers = [t for t in toolkits() if (way := service(t, gpu.sm)) and way.kind == "native"]
            found.append(
                f"It makes sense only beside a PyTorch built for {gpu.sm}: the published CUDA {variant.cuda} wheels "
                f"carry no code that runs there. For {products} take track {' or '.join(answers)}."
            )
        if gpu.note:
            found.append(gpu.note)
        found.append(f"It needs an NVIDIA driver of at least {driver_floor(variant)} (Linux).")
    if variant.isa_facts.note:
        found.append(variant.isa_facts.note)
    return found

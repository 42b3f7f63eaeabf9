"""Decide which device code runs on which GPU, which CPU code on which CPU, and whether hardware for a pair exists.

The GPU rules are the CUDA programming guide's ("Application compatibility", "Feature-specific architectures") and the
CUDA documentation's for Tegra. Everything that asks such a question in this project asks it here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from build_torchvision.facts import gpus, isas, toolkits, version_key

CodegenKind = Literal["native", "compatible", "ptx"]
"""How device code serves a GPU: a cubin of that SM, an older one of the same major version, or PTX."""
ImageKind = Literal["cubin", "ptx"]
KINDS: tuple[CodegenKind, ...] = ("native", "compatible", "ptx")
"""From the best to the worst."""

_SM = re.compile(r"sm_?(\d+)(\d)([af]?)")
_CAPABILITY = re.compile(r"(\d+)\.(\d)([af]?)")


@dataclass(frozen=True, order=True)
class Sm:
    """A GPU architecture as a value: compute capability `major`.`minor`, ordered by it.

    `suffix` marks code for one architecture only ("a") or for its family ("f"); a GPU itself has none.
    """

    major: int
    minor: int
    suffix: str = ""

    @classmethod
    def parse(cls, text: str) -> Sm:
        """Read "sm103", "sm_103a" or "10.3". Raises ValueError for anything else."""
        match = _SM.fullmatch(text) or _CAPABILITY.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is neither an SM such as sm90 nor a compute capability such as 9.0")
        return cls(int(match[1]), int(match[2]), match[3])

    @property
    def name(self) -> str:
        """As in variants' names: "sm103"; with the suffix where there is one."""
        return f"sm{self.major}{self.minor}{self.suffix}"

    @property
    def capability(self) -> str:
        """As in TORCH_CUDA_ARCH_LIST: "10.3"."""
        return f"{self.major}.{self.minor}{self.suffix}"

    @property
    def number(self) -> tuple[int, int]:
        """(major, minor)."""
        return self.major, self.minor

    @property
    def tegra(self) -> bool:
        """Whether it is the integrated GPU of a Tegra system, by the table of GPUs."""
        row = gpus().get(f"sm{self.major}{self.minor}")
        return row is not None and bool(row.tegra)

    def cubin_runs_on(self, gpu: Sm) -> bool:
        """Whether a cubin of this architecture runs on `gpu`.

        A cubin for X.y runs on X.z with z >= y and on no other major version. One with the suffix "a" runs on X.y
        alone. Tegra's cubins and other GPUs' do not run on each other, though their numbers would allow it.
        """
        if self.number == gpu.number:
            return True
        if self.suffix == "a" or self.tegra or gpu.tegra:
            return False
        return self.major == gpu.major and self.minor < gpu.minor

    def ptx_runs_on(self, gpu: Sm) -> bool:
        """Whether the driver can compile PTX of this architecture for `gpu`: any capability from its own on.

        PTX with the suffix "a" compiles for X.y alone, with "f" within its family (the same major version).
        """
        if self.suffix == "a":
            return self.number == gpu.number
        return self.number <= gpu.number and (self.suffix != "f" or self.major == gpu.major)


def support(images: Iterable[tuple[str, str]], gpu: Sm) -> CodegenKind | None:
    """How one fat binary serves `gpu`; None where nothing in it runs there.

    `images` are ("cubin", "sm90") and ("ptx", "sm80a") pairs. The driver takes a cubin before PTX.
    """
    best: CodegenKind | None = None
    for kind, name in images:
        code = Sm.parse(name)
        way: CodegenKind | None = None
        if kind == "cubin" and code.cubin_runs_on(gpu):
            way = "native" if code.number == gpu.number else "compatible"
        elif kind == "ptx" and code.ptx_runs_on(gpu):
            way = "ptx"
        if way is not None and (best is None or KINDS.index(way) < KINDS.index(best)):
            best = way
    return best


def serves(cubins: Iterable[str], ptx: Iterable[str], sm: str) -> bool:
    """Whether code with these cubins and this PTX ("sm90", "sm90a") runs on the GPU `sm`."""
    return support([*(("cubin", name) for name in cubins), *(("ptx", name) for name in ptx)], Sm.parse(sm)) is not None


def support_of_all(fat_binaries: Iterable[Collection[tuple[str, str]]], gpu: Sm) -> CodegenKind | None:
    """How all of a package's fat binaries serve `gpu`: as its worst one does; None where one of them does not."""
    ways = {support(images, gpu) for images in fat_binaries}
    known = [way for way in ways if way is not None]
    return max(known, key=KINDS.index) if known and None not in ways else None


class ToolkitSupport(NamedTuple):
    """How a toolkit serves an SM: by code of `kind`, compiled for the SM `base`."""

    kind: CodegenKind
    base: str


def toolkit_support(track: str, sm: str) -> ToolkitSupport | None:
    """How the CUDA toolkit of `track` serves `sm`, or None where it cannot. Both must be rows of the tables."""
    toolkit, gpu = toolkits()[track], Sm.parse(sm)
    if sm in toolkit.native:
        return ToolkitSupport("native", sm)
    if sm in toolkit.ptx:
        return ToolkitSupport("ptx", toolkit.ptx[sm])
    older = [Sm.parse(name) for name in toolkit.native]
    fitting = [code for code in older if code.cubin_runs_on(gpu)]
    return ToolkitSupport("compatible", max(fitting).name) if fitting else None


def same_cuda_major(one: str | None, other: str | None) -> bool:
    """Whether two CUDA versions ("12.6", "12.8") are of one major version: then code of one runs beside the other.

    CUDA promises this within a major version (minor-version compatibility), and torchvision's import checks no more.
    """
    return one is not None and other is not None and one.partition(".")[0] == other.partition(".")[0]


def is_track_of(cuda: str, torch_cuda: str | None) -> bool:
    """Whether the track of CUDA `cuda` is one for a torch of CUDA `torch_cuda`: its own, where the tables have it.

    Where they do not (12.1, 13.1), each track of the same major version is.
    """
    if any(kit.version == torch_cuda for kit in toolkits().values()):
        return cuda == torch_cuda
    return same_cuda_major(torch_cuda, cuda)


@dataclass(frozen=True)
class CpuIsa:
    """A CPU instruction set of the matrix in its order: `a <= b` means that a CPU with `b` runs code built for `a`.

    The order is partial: x86-64 and Arm ISAs do not compare.
    """

    name: str

    def __post_init__(self) -> None:
        if self.name not in isas():
            raise ValueError(f"{self.name!r} is not one of {', '.join(isas())}")

    def __le__(self, other: CpuIsa) -> bool:
        at: str | None = other.name
        while at is not None:
            if at == self.name:
                return True
            at = isas()[at].contains
        return False

    def __lt__(self, other: CpuIsa) -> bool:
        return self != other and self <= other


def isa_runs_on(built: str, cpu: str) -> bool:
    """Whether code built for the ISA `built` runs on a CPU whose best ISA is `cpu`."""
    return CpuIsa(built) <= CpuIsa(cpu)


def hardware_exists(sm: str | None, isa: str) -> bool:
    """Whether a computer is sold that has the GPU `sm` and a CPU that runs `isa` (gpus.toml: hosts, soc_isa)."""
    if sm is None:
        return True
    gpu = gpus()[sm]
    return isas()[isa].platform in gpu.hosts and (gpu.soc_isa is None or isa_runs_on(isa, gpu.soc_isa))


def driver_floor(track: str, sm: str) -> str:
    """The oldest Linux NVIDIA driver that runs `track`'s code for `sm`, such as "570.26" (CUDA's release notes)."""
    toolkit, gpu, served = toolkits()[track], gpus()[sm], toolkit_support(track, sm)
    floors = [toolkit.ptx_driver if served is not None and served.kind == "ptx" else toolkit.driver]
    floors += [gpu.driver] if gpu.driver else []
    return max(floors, key=version_key)

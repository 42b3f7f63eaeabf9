"""Operators of our own, as data: which of upstream's sources each replaces, and of which files it consists.

A kernel (kernels/*.cpp) is plain C++ on pointers and strides, without a header of torch; it is compiled once per ISA.
An adaptor (adaptors/*.cpp) registers kernels with torch in place of upstream's source, through torch's dispatcher or
its stable ABI, whichever upstream's source uses; it does not depend on the ISA. For every type and input that upstream
admits the results are the same bits as those of upstream's kernel compiled with the same floating-point flags.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from packaging.version import Version

from build_torchvision.facts import Release
from build_torchvision.facts.operators import operators_of

FOLDER = Path(__file__).parent
CSRC = "torchvision/csrc"
# Two operations are never fused into one that rounds once: results are the same on every ISA, and those of a compiler
# for the baseline, as the published x86-64 wheels are. Nothing reads errno or the exception flags after math.
# Kernels are C++17 whatever torch's headers ask for: as C++20 <algorithm> and <memory> take twice the time to parse.
KERNEL_FLAGS = ("-std=c++17", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-fvisibility=hidden")
ADAPTOR_FLAGS = ("-fvisibility=hidden",)


class Choice(StrEnum):
    """Whose CPU kernels a wheel has."""

    TUNED = "tuned"
    UPSTREAM = "upstream"


@dataclass(frozen=True, kw_only=True)
class _Replaced:
    """`upstream`, a source below CSRC in whose place something of ours stands; `operators` are those it registers."""

    upstream: str
    operators: tuple[str, ...]

    @property
    def source(self) -> str:
        """Upstream's source, relative to the release's root."""
        return f"{CSRC}/{self.upstream}"


@dataclass(frozen=True, kw_only=True)
class Replacement(_Replaced):
    """What stands in place of a CPU source: an adaptor and the kernels that it calls."""

    adaptor: str
    kernels: tuple[str, ...]

    @property
    def adaptor_source(self) -> Path:
        return FOLDER / "adaptors" / self.adaptor

    @property
    def kernel_sources(self) -> tuple[Path, ...]:
        return tuple(FOLDER / "kernels" / name for name in self.kernels)


def _pair(name: str) -> tuple[str, str]:
    return f"torchvision::{name}", f"torchvision::_{name}_backward"


REPLACEMENTS = (
    Replacement(
        upstream="ops/cpu/nms_kernel.cpp", adaptor="nms.cpp", kernels=("nms.cpp",), operators=("torchvision::nms",)
    ),
    Replacement(
        upstream="ops/cpu/roi_align_kernel.cpp",
        adaptor="roi_align.cpp",
        kernels=("regions.cpp", "roi_align.cpp"),
        operators=_pair("roi_align"),
    ),
    Replacement(
        upstream="ops/cpu/roi_pool_kernel.cpp",
        adaptor="roi_pool.cpp",
        kernels=("regions.cpp", "roi_pool.cpp"),
        operators=_pair("roi_pool"),
    ),
    Replacement(
        upstream="ops/cpu/ps_roi_align_kernel.cpp",
        adaptor="ps_roi_align.cpp",
        kernels=("regions.cpp", "ps_roi.cpp"),
        operators=_pair("ps_roi_align"),
    ),
    Replacement(
        upstream="ops/cpu/ps_roi_pool_kernel.cpp",
        adaptor="ps_roi_pool.cpp",
        kernels=("regions.cpp", "ps_roi.cpp"),
        operators=_pair("ps_roi_pool"),
    ),
    Replacement(
        upstream="ops/cpu/deform_conv2d_kernel.cpp",
        adaptor="deform_conv2d.cpp",
        kernels=("deform_conv2d.cpp",),
        operators=_pair("deform_conv2d"),
    ),
    Replacement(
        upstream="ops/cpu/box_iou_rotated_kernel.cpp",
        adaptor="box_iou_rotated.cpp",
        kernels=("box_iou_rotated.cpp",),
        operators=("torchvision::box_iou_rotated",),
    ),
    Replacement(
        upstream="ops/quantized/cpu/qnms_kernel.cpp",
        adaptor="qnms.cpp",
        kernels=("nms.cpp",),
        operators=("torchvision::qnms",),
    ),
    Replacement(
        upstream="ops/quantized/cpu/qroi_align_kernel.cpp",
        adaptor="qroi_align.cpp",
        kernels=("quantized_roi_align.cpp",),
        operators=("torchvision::qroi_align",),
    ),
)


@dataclass(frozen=True, kw_only=True)
class GpuReplacement(_Replaced):
    """What stands in place of a CUDA source: a source of ours for each of torch's interfaces.

    It is compiled together with upstream's other CUDA sources, in a namespace of its own.
    """

    dispatcher: str
    stable: str

    def own_source(self, *, stable_abi: bool) -> Path:
        """Ours for an extension that uses torch's stable ABI, or its dispatcher."""
        return FOLDER / "adaptors" / (self.stable if stable_abi else self.dispatcher)


GPU_REPLACEMENTS = (
    GpuReplacement(
        upstream="ops/cuda/nms_kernel.cu",
        dispatcher="nms.cu",
        stable="nms_stable.cu",
        operators=("torchvision::nms",),
    ),
)
# What an adaptor has to be told of a release: (macro, first release, first release for which it is not so any more).
DIFFERENCES = (
    ("BUILD_TORCHVISION_QUANTIZED_TENSORS", "0", "0.28"),  # qnms and qroi_align are nms and roi_align of such tensors
    ("BUILD_TORCHVISION_UNCLAMPED_OVERLAPS", "0", "0.27"),  # box_iou_rotated of 0.26 may exceed 1 by rounding
)


@dataclass(frozen=True, kw_only=True)
class Operators:
    """The replacements that a build takes, and the macros for their adaptors."""

    rows: tuple[Replacement, ...] = ()
    macros: tuple[str, ...] = ()
    gpu_rows: tuple[GpuReplacement, ...] = ()

    def of(self, sources: Iterable[str]) -> tuple[Replacement, ...]:
        """Those of an extension that is built from `sources`."""
        named = set(sources)
        return tuple(row for row in self.rows if row.source in named)

    def gpu_source(self, source: str, *, stable_abi: bool) -> str:
        """The CUDA source that is compiled for upstream's `source`: ours by its whole path, or `source` itself."""
        own = next((row for row in self.gpu_rows if row.source == source), None)
        return str(own.own_source(stable_abi=stable_abi)) if own else source


def operators_for(release: Release, choice: Choice, source_root: Path) -> Operators:
    """What is replaced in `release`, whose source is at `source_root`.

    Of a release that the tables do not describe nothing is: its operators may compute something else.
    """
    if choice is Choice.UPSTREAM or not release.listed:
        return Operators()
    version = Version(release.torchvision)
    return Operators(
        rows=tuple(row for row in REPLACEMENTS if (source_root / row.source).is_file()),
        macros=tuple(f"-D{name}" for name, first, end in DIFFERENCES if Version(first) <= version < Version(end)),
        gpu_rows=tuple(row for row in GPU_REPLACEMENTS if (source_root / row.source).is_file()),
    )


def tuned_operators(release: Release, choice: Choice, *, gpu: bool = False) -> tuple[str, ...]:
    """Those of `release` that have CPU (or GPU) kernels of ours with `choice`, as far as the tables tell.

    All others have upstream's.
    """
    if choice is Choice.UPSTREAM or not release.listed:
        return ()
    return _registered(GPU_REPLACEMENTS if gpu else REPLACEMENTS, release)


def described(release: Release, choice: Choice, source_root: Path, *, gpu: bool = False) -> Mapping[str, str]:
    """Operator -> "tuned" for those that have CPU (or GPU) kernels of ours, for a wheel's descriptor."""
    found = operators_for(release, choice, source_root)
    return dict.fromkeys(_registered(found.gpu_rows if gpu else found.rows, release), Choice.TUNED.value)


def _registered(rows: Iterable[_Replaced], release: Release) -> tuple[str, ...]:
    """The operators of `rows` that `release` has by that name: up to 0.27 qnms is nms, and qroi_align roi_align."""
    known = operators_of(release.torchvision) or frozenset()
    return tuple(sorted(name for row in rows for name in row.operators if name in known))


def includes_of(source: str) -> tuple[str, ...]:
    """What a source of ours includes, in its order: `<ATen/ATen.h>`, or `"/whole/path.h"` for a file beside it."""
    path = Path(source)
    names = re.findall(r'^#include ([<"][^>"]+[>"])', path.read_text(encoding="utf-8"), re.MULTILINE)
    beside = ((name, (path.parent / name[1:-1]).resolve()) for name in names)
    return tuple(f'"{whole}"' if name[0] == '"' and whole.is_file() else name for name, whole in beside)

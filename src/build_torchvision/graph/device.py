"""What every CUDA compiler's plan is made of: a unit, the SMs, and the Protocol that the compilers' planners share.

A CUDA unit is a host half, once a platform, and a device half, once an SM; a splice joins them. How depends on the
compiler: see `cuda_clang` and `cuda_nvcc`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from build_torchvision.flags import Codegen
from build_torchvision.graph.actions import Action
from build_torchvision.inputs.cuda_compiler import CudaCompiler
from build_torchvision.inputs.cuda_sdk import CudaSdk

# What torch.utils.cpp_extension gives every CUDA source, so that its own headers' operators are the only ones.
MACROS = (
    "-D__CUDA_NO_HALF_OPERATORS__",
    "-D__CUDA_NO_HALF_CONVERSIONS__",
    "-D__CUDA_NO_BFLOAT16_CONVERSIONS__",
    "-D__CUDA_NO_HALF2_OPERATORS__",
)


@dataclass(frozen=True, kw_only=True)
class CudaBuild:
    """The CUDA part of a build: a toolkit, a compiler, each SM's codegen, and the commands of two scripts.

    `splice` joins the halves; `one_ir` sees that a unit is one program for every SM. Without it each SM is parsed.
    """

    sdk: CudaSdk
    compiler: CudaCompiler
    sms: Mapping[str, Codegen]
    splice: Sequence[str]
    one_ir: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class CudaUnit:
    """One CUDA source file: `stem` is "extension/name", `settings` its macros and folders, `common` every unit's flags.

    `flags` are setup.py's own arguments for nvcc.

    `key` is its name as a unit of several sources, None for one that stands alone. `each_sm`: its device half is
    another program for some SMs, and has to be parsed for each. `twin` is the same unit on the first
    platform of the graph, whose device code serves this one too; None on the first itself.
    """

    stem: str
    source: str
    platform: str
    settings: Sequence[str]
    flags: Sequence[str]
    common: Sequence[str]
    key: str | None
    each_sm: bool = False
    twin: CudaUnit | None = None

    @property
    def symbol(self) -> str:
        """The symbol that stands for the unit's device code."""
        return "torchvision_fatbin_" + re.sub(r"\W", "_", self.stem)

    @property
    def cuid(self) -> str:
        """An id, the same on every machine, from which compilers name what host and device must agree on."""
        return hashlib.sha256(self.stem.encode()).hexdigest()[:16]


@dataclass(kw_only=True)
class PlannedCudaUnit:
    """A planned unit: its actions, files to write first, objects by SM (None serves every one) and remarks."""

    actions: list[Action] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    objects: dict[str | None, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class CudaPlanner(Protocol):
    """Plans CUDA units with one compiler."""

    def plan(self, unit: CudaUnit) -> PlannedCudaUnit:
        """The actions that make `unit`'s objects for every SM."""
        ...


def toolkit_libraries(sdk: CudaSdk) -> tuple[Path, ...]:
    """The toolkit's libraries that the extensions link."""
    return tuple(path for path in (sdk.cudart, sdk.nvjpeg) if path is not None)

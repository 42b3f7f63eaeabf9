"""The actions of one CUDA source: its host half once a platform, its device half once an SM, joined by the linker.

clang embeds a source's device code as a constant in the host half. Here the host half is parsed with a placeholder,
whose constant is then turned into a reference to a symbol that each SM's device object defines: what differs between
variants is one linked object, and its size and alignment are the linker's business.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from build_torchvision.codegen import Codegen
from build_torchvision.inputs.cuda_sdk import CudaSdk

PLACEHOLDER = "placeholder.fatbin"
# What torch.utils.cpp_extension gives every CUDA source, so that its own headers' operators are the only ones.
MACROS = (
    "-D__CUDA_NO_HALF_OPERATORS__",
    "-D__CUDA_NO_HALF_CONVERSIONS__",
    "-D__CUDA_NO_BFLOAT16_CONVERSIONS__",
    "-D__CUDA_NO_HALF2_OPERATORS__",
)
# ATen's and CUDA's headers that the kernels include: parsed once for the host and once an SM.
PRECOMPILED = (
    "ATen/ATen.h",
    "ATen/AccumulateType.h",
    "ATen/cuda/CUDAContext.h",
    "ATen/native/cuda/KernelUtils.cuh",
    "c10/cuda/CUDAGuard.h",
    "torch/library.h",
)


@dataclass(frozen=True, kw_only=True)
class Device:
    """The CUDA part of a build: a toolkit, each SM's codegen, and the command that cuts the placeholder out of IR."""

    sdk: CudaSdk
    sms: Mapping[str, Codegen]
    splice: Sequence[str]


def symbol_of(source: str) -> str:
    """The symbol that stands for a source's device code."""
    return "torchvision_fatbin_" + re.sub(r"\W", "_", PurePosixPath(source).stem)


def cuid_of(source: str) -> str:
    """The compilation unit's id, which names what host and device must agree on (clang's -cuid)."""
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def cuda_flags(sdk: CudaSdk) -> tuple[str, ...]:
    """What clang needs to compile CUDA against `sdk`."""
    newest = ("--cuda-feature=+ptx90",) if int(sdk.version.split(".")[0]) >= 13 else ()
    folders = tuple(flag for path in sdk.include_dirs for flag in ("-isystem", str(path)))
    return ("-x", "cuda", f"--cuda-path={sdk.root}", "-Wno-unknown-cuda-version", *newest, *MACROS, *folders)


def gpu_arch(codegen: Codegen) -> str:
    """The SM that clang compiles for: `arch=compute_120,code=sm_120` -> `sm_120`."""
    return f"sm_{codegen.number}"


def images_of(codegen: Codegen, cubin: str, ptx: str) -> tuple[str, ...]:
    """fatbinary's options for what `codegen` ships: a cubin, the PTX itself, or both."""
    shipped = (("elf", cubin, codegen.cubin), ("ptx", ptx, codegen.ptx))
    return tuple(f"--image3=kind={kind},sm={codegen.number},file={file}" for kind, file, ships in shipped if ships)


def fatbin_object(symbol: str, fatbin: str) -> str:
    """Assembly of an object that holds `fatbin` under `symbol`, in the section where the CUDA runtime looks."""
    return (
        f'.section .nv_fatbin,"a",@progbits\n.balign 16\n.hidden {symbol}\n.globl {symbol}\n.type {symbol},@object\n'
        f'{symbol}:\n.incbin "{fatbin}"\n.size {symbol}, .-{symbol}\n.section .note.GNU-stack,"",@progbits\n'
    )


def device_commands(
    compile_ptx: Sequence[str], codegen: Codegen, device: Device, stem: str, assembly: str, linker: Sequence[str]
) -> tuple[str, ...]:
    """The commands, joined by `&&`, from a source to `STEM.o`: PTX, cubin, fat binary, object."""
    ptx, cubin, fatbin = f"{stem}.ptx", f"{stem}.cubin", f"{stem}.fatbin"
    commands: list[str] = [*compile_ptx, "-S", "-o", ptx, "-MMD", "-MF", f"{stem}.o.d", "-MT", f"{stem}.o"]
    if codegen.cubin:
        commands += ["&&", str(device.sdk.ptxas), "-O3", "-v", f"-arch={gpu_arch(codegen)}", ptx, "-o", cubin]
    # speed is LZ4, which every driver of the tracks unpacks; the newer modes need newer drivers.
    commands += [
        "&&",
        str(device.sdk.fatbinary),
        "-64",
        "--compress-all",
        "--compress-mode=speed",
        f"--create={fatbin}",
    ]
    commands += images_of(codegen, cubin, ptx)
    commands += ["&&", *linker, "-c", assembly, "-o", f"{stem}.o"]
    return tuple(commands)


def toolkit_libraries(sdk: CudaSdk) -> tuple[Path, ...]:
    """The toolkit's libraries that the extensions link."""
    return tuple(path for path in (sdk.cudart, sdk.nvjpeg) if path is not None)

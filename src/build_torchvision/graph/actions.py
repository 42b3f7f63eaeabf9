"""Units and inputs -> actions: every compiler and linker call of a build, each once, whatever asks for it.

With clang a unit is parsed once a platform. What depends on the ISA leaves the front end as LLVM IR without a target
CPU, and each ISA costs one pass of code generation over it; what does not is compiled once for the platform's baseline.
gcc has no such seam: its ISA-dependent units are compiled once an ISA.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePosixPath

from build_torchvision.graph.units import Unit, plan_units, precompiled_header, unity_text
from build_torchvision.inputs.codecs import Codecs
from build_torchvision.inputs.compiler import Compiler
from build_torchvision.inputs.torch_sdk import TorchSdk
from build_torchvision.inputs.upstream import Upstream

# ATen's and the dispatcher's headers, which nearly every source of TorchVision includes. torch/torch.h is left out on
# purpose: it doubles the header's cost and slows every unit that reads it, while one unit alone needs it.
PRECOMPILED = (
    "ATen/ATen.h",
    "ATen/autocast_mode.h",
    "ATen/core/dispatch/Dispatcher.h",
    "torch/autograd.h",
    "torch/library.h",
    "torch/types.h",
)
CXX_STANDARD = "c++17"  # what torch.utils.cpp_extension asks for
# Floating-point rules that change no result TorchVision returns: nothing reads errno or the exception flags after math.
MATH_FLAGS = ("-fno-math-errno", "-fno-trapping-math")
OPTIMIZE = ("-O3", "-fPIC", "-DNDEBUG", "-w")
LINK_FLAGS = ("-shared", "-Wl,--as-needed", "-Wl,-z,defs", "-Wl,-z,relro,-z,now", "-Wl,-s")


class Kind(StrEnum):
    """What an action does."""

    PCH = "pch"
    FRONTEND = "frontend"
    CODEGEN = "codegen"
    COMPILE = "compile"
    LINK = "link"


@dataclass(frozen=True, kw_only=True)
class Action:
    """One call of a compiler or linker. Paths are relative to the build folder or absolute."""

    output: str
    kind: Kind
    command: tuple[str, ...]
    inputs: tuple[str, ...]
    label: str
    unit: str | None = None  # "extension/name" of a unit of several sources, which may be split
    depfile: bool = True


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Actions in an order in which they could run, files to write first, and each ISA's finished extensions."""

    actions: tuple[Action, ...]
    files: Mapping[str, str]
    extensions: Mapping[str, Mapping[str, str]]  # ISA -> module -> path
    notes: tuple[str, ...] = field(default=())


def plan_graph(
    *,
    upstream: Upstream,
    source_root: Path,
    torch: TorchSdk,
    codecs: Codecs,
    compiler: Compiler,
    isas: Mapping[str, Sequence[str]],
    platform: str,
    retarget: Sequence[str],
    split: Set[str] = frozenset(),
) -> Graph:
    """The graph that builds both extensions for every ISA of `isas` (name -> compiler flags).

    `retarget` is the command that takes the target CPU out of an IR file (in place). `split` names units that did not
    compile as one. Pure: nothing is read or run.
    """
    actions: dict[str, Action] = {}
    files: dict[str, str] = {}
    links: dict[str, dict[str, list[str]]] = {isa: {} for isa in isas}
    clang = compiler.family == "clang"

    def add(action: Action) -> str:
        actions.setdefault(action.output, action)
        return action.output

    prefix_maps = (f"-ffile-prefix-map={source_root}=torchvision", f"-ffile-prefix-map={torch.root}=torch-sdk")
    common = (
        f"-std={CXX_STANDARD}",
        *OPTIMIZE,
        *MATH_FLAGS,
        *prefix_maps,
        f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.cxx11_abi)}",
        *(flag for folder in torch.include_dirs for flag in ("-isystem", str(folder))),
    )

    def pch(isa: str | None) -> tuple[str, tuple[str, ...]]:
        """(file to wait for, flags to use it) for `isa`, or for the baseline."""
        folder = f"{platform}/{isa or 'baseline'}"
        header = f"{folder}/pch.h"
        files[header] = precompiled_header(PRECOMPILED)
        flags = tuple(isas[isa]) if isa else ()
        built = f"{header}.pch" if clang else f"{header}.gch"
        instantiate = ("-fpch-instantiate-templates",) if clang else ()
        add(
            Action(
                output=built,
                kind=Kind.PCH,
                command=(*compiler.command, *common, *flags, *instantiate, "-x", "c++-header", header, "-o", built),
                inputs=(header,),
                label=f"headers of torch {torch.version}" + (f" for {isa}" if isa else ""),
            )
        )
        return built, (("-include-pch", built) if clang else ("-include", header))

    for extension in upstream.extensions:
        module = extension.module
        macros = (*extension.macros, f"-DTORCH_EXTENSION_NAME={module}")
        codec_flags = tuple(flag for name in extension.libraries for flag in codecs.found[name].cflags)
        includes = tuple(f"-I{source_root}/{folder}" for folder in extension.include_dirs)
        libraries = tuple(flag for name in extension.libraries for flag in codecs.found[name].libs)
        for unit in plan_units(extension, split=split):
            key = f"{module}/{unit.name}" if len(unit.sources) > 1 else None
            source = _source_of(unit, source_root, platform, files)
            stem = f"{module}/{unit.name}"
            settings = (*macros, *codec_flags, *includes)
            for isa in isas if unit.isa_dependent else (None,):
                flags = tuple(isas[isa]) if isa else ()
                folder = f"{platform}/{isa or 'baseline'}"
                output = f"{folder}/{stem}.o"
                label = f"{stem}" + (f" for {isa}" if isa else "")
                if unit.language == "c":
                    command = (*compiler.c_command, *OPTIMIZE, *prefix_maps, *settings, *flags, "-x", "c", "-c", source)
                    add(_compile(output, command, (source,), label, key))
                elif clang and isa:
                    waits, use = pch(None)
                    bitcode = f"{platform}/ir/{stem}.ll"
                    front = (*compiler.command, *common, *use, *settings, "-S", "-emit-llvm")
                    front += ("-Xclang", "-disable-llvm-passes", source, "-o", bitcode)
                    add(
                        Action(
                            output=bitcode,
                            kind=Kind.FRONTEND,
                            command=(*front, "-MMD", "-MF", f"{bitcode}.d", "&&", *retarget, bitcode),
                            inputs=(source, waits),
                            label=f"parse {stem}",
                            unit=key,
                        )
                    )
                    back = (*compiler.command, "-O3", "-fPIC", "-w", *flags, "-x", "ir", "-c", bitcode, "-o", output)
                    add(
                        Action(
                            output=output,
                            kind=Kind.CODEGEN,
                            command=back,
                            inputs=(bitcode,),
                            label=f"generate {label}",
                            depfile=False,
                        )
                    )
                else:
                    waits, use = pch(isa)
                    command = (*compiler.command, *common, *use, *settings, *flags, "-c", source)
                    add(_compile(output, command, (source, waits), label, key))
                for target in [isa] if isa else isas:
                    links[target].setdefault(module, []).append(output)
        for isa in isas:
            objects = sorted(links[isa][module])
            add(
                Action(
                    output=f"{platform}/{isa}/{module}.so",
                    kind=Kind.LINK,
                    command=(
                        *compiler.linker,
                        *LINK_FLAGS,
                        *("-o", f"{platform}/{isa}/{module}.so"),
                        *objects,
                        f"-L{torch.lib_dir}",
                        *("-ltorch", "-ltorch_cpu", "-lc10"),
                        *libraries,
                    ),
                    inputs=tuple(objects),
                    label=f"link {module}.so for {isa}",
                    depfile=False,
                )
            )
    return Graph(
        actions=tuple(actions.values()),
        files=files,
        extensions={
            isa: {extension.module: f"{platform}/{isa}/{extension.module}.so" for extension in upstream.extensions}
            for isa in isas
        },
        notes=tuple(f"{unit} does not compile as one unit here: its files are compiled one by one" for unit in split),
    )


def _compile(output: str, command: tuple[str, ...], inputs: tuple[str, ...], label: str, key: str | None) -> Action:
    command = (*command, "-o", output, "-MMD", "-MF", f"{output}.d")
    return Action(output=output, kind=Kind.COMPILE, command=command, inputs=inputs, label=label, unit=key)


def _source_of(unit: Unit, source_root: Path, platform: str, files: dict[str, str]) -> str:
    if len(unit.sources) == 1:
        return str(source_root / unit.sources[0])
    path = str(PurePosixPath(platform, "units", unit.extension, f"{unit.name}.cpp"))
    files[path] = unity_text(unit, str(source_root))
    return path


def shell(command: Sequence[str]) -> str:
    """`command` as one line for a POSIX shell; `&&` between two commands stays an operator."""
    return " ".join("&&" if part == "&&" else shlex.quote(part) for part in command)

"""Units and inputs -> actions: every compiler and linker call of a build, each once, whatever asks for it.

With clang a unit is parsed once a platform. What depends on the ISA leaves the front end as LLVM IR without a target
CPU, and each ISA costs one pass of code generation over it; what does not is compiled once for the platform's baseline.
A CUDA source is a host half, once a platform, and a device half, once an SM. gcc has no such seams: its ISA-dependent
units are compiled once an ISA.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from build_torchvision.facts import isas, lowest_isa, same_code
from build_torchvision.flags import SHARED_CODE, Tuning
from build_torchvision.graph.actions import EACH_SM, Action, ActionKind, Graph, done_instead, target_name
from build_torchvision.graph.codecs import CodecTools, plan_codec
from build_torchvision.graph.cuda_clang import OPTIMISED_IR, UNOPTIMIZED_IR, ClangPlanner, generate, optimise
from build_torchvision.graph.cuda_nvcc import NvccPlanner
from build_torchvision.graph.device import CudaBuild, CudaPlanner, CudaUnit, toolkit_libraries
from build_torchvision.graph.tools import Tools, clang_tools, device_tools
from build_torchvision.graph.tuning import codegen_flags, kernel_flags, parse_flags, transform_flags
from build_torchvision.graph.units import (
    SHARED,
    Unit,
    isolated_text,
    plan_units,
    precompiled_header,
    shared_headers,
    source_path,
    unity_text,
)
from build_torchvision.inputs.codecs import Codecs
from build_torchvision.inputs.compiler import Compiler
from build_torchvision.inputs.cuda_compiler import Clang
from build_torchvision.inputs.torch_sdk import TorchSdk
from build_torchvision.inputs.upstream import Extension, Upstream
from build_torchvision.operators import FOLDER as OPERATORS_FOLDER
from build_torchvision.operators import Operators

# ATen's and the dispatcher's headers, which nearly every source of a module of the unstable ABI includes. torch/torch.h
# is left out on purpose: it doubles the header's cost and slows every unit that reads it, and one unit alone needs it.
PRECOMPILED = (
    "ATen/ATen.h",
    "ATen/autocast_mode.h",
    "ATen/core/dispatch/Dispatcher.h",
    "torch/autograd.h",
    "torch/library.h",
    "torch/types.h",
)
# Actions that read headers outside the build folder, whose changes no depfile lists: they are system headers to it.
READS_HEADERS = (ActionKind.PCH, ActionKind.FRONTEND, ActionKind.COMPILE, ActionKind.DEVICE)
NVJPEG = "nvjpeg"  # as setup.py calls the library
OPTIMIZE = ("-O3", "-fPIC", "-DNDEBUG", "-w")
# Schemas, autograd and autocast run once a call: what the compiler inlines there makes the objects 1.6 times as large
# and calls no faster. (clang refuses -Os beside a precompiled header that was made with -O3.)
INLINE_LITTLE = ("-mllvm", "-inline-threshold=25")
# separate-code is ld's default for x86-64 alone; without it data is mapped executable and cannot be told from code.
LINK_FLAGS = ("-shared", "-Wl,--as-needed", "-Wl,-z,defs", "-Wl,-z,relro,-z,now", "-Wl,-z,separate-code", "-Wl,-s")
# Sections let the linker leave out what nothing in an image library calls, and keep equal functions once; "safe" leaves
# those apart whose addresses could be compared.
PINNED_LINK_FLAGS = ("-Wl,--gc-sections", "-Wl,--icf=safe", "-Wl,--hash-style=gnu", "-Wl,--build-id=none")
RUNTIME_SUPPORT = str(Path(__file__).with_name("runtime_support.cpp"))


@dataclass(frozen=True, kw_only=True)
class GraphInputs:
    """What a graph is planned from. `isas`: name -> compiler flags; `device` is None for a CPU build.

    `transform_ir` is the command that copies an IR file without its target CPU. `shared` is a folder that is the same
    for every build of this machine: precompiled headers are made of files there, since clang writes their full path.
    `tuning` has the flags of upstream's CPU operators and the changes to their IR, and `operators` what replaces them.
    `identity` is a digest of what compilers
    read: under another one, every source is compiled anew.
    """

    upstream: Upstream
    source_root: Path
    torch: TorchSdk
    codecs: Codecs
    compiler: Compiler
    isas: Mapping[str, Sequence[str]]
    platform: str
    transform_ir: Sequence[str]
    shared: Path
    device: CudaBuild | None = None
    tuning: Tuning = field(default_factory=Tuning)
    operators: Operators = field(default_factory=Operators)
    identity: str = ""


def plan_graph(ingredients: GraphInputs, split: Set[str] = frozenset()) -> Graph:
    """The graph that builds both extensions for every ISA, and with CUDA for every SM too.

    `split` names units that did not compile as one. Pure: nothing is read or run.
    """
    return plan_graphs([ingredients], split)


def plan_graphs(platforms: Sequence[GraphInputs], split: Set[str] = frozenset()) -> Graph:
    """One graph for all `platforms`, of which the first one's device code serves the others too."""
    planners: list[_Planner] = []
    for ingredients in platforms:
        planners.append(_Planner(ingredients, split, planners[0] if planners else None))
    graphs = [planner.graph() for planner in planners]
    actions: dict[str, Action] = {}
    for graph in graphs:
        for action in graph.actions:
            actions.setdefault(action.output, action)
    return Graph(
        actions=tuple(actions.values()),
        files={path: text for graph in graphs for path, text in graph.files.items()},
        extensions={target: modules for graph in graphs for target, modules in graph.extensions.items()},
        notes=tuple(dict.fromkeys(note for graph in graphs for note in graph.notes)),
    )


class _Planner:
    def __init__(self, ingredients: GraphInputs, split: Set[str], first: _Planner | None = None) -> None:
        self.want, self.split, self.first = ingredients, split, first
        self.tools = Tools(ingredients.platform)
        self.identity = f"{ingredients.platform}/inputs.txt"
        self.actions: dict[str, Action] = {}
        self.files: dict[str, str] = {self.identity: f"{ingredients.identity}\n"}
        self.notes: list[str] = []
        self.clang = ingredients.compiler.family == "clang"
        self.readers = self._count_readers()
        sms: Sequence[str | None] = tuple(ingredients.device.sms) if ingredients.device else (None,)
        self.targets = [(isa, sm) for isa in ingredients.isas for sm in sms]
        torch, device = ingredients.torch, ingredients.device
        cuda = device.sdk if device else None
        self.cxx, self.cc = ingredients.compiler.command, ingredients.compiler.c_command
        if self.clang:
            self.cxx, self.cc = (self.tools.cxx,), (self.tools.cc,)
            self.files |= clang_tools(ingredients.compiler, self.tools)
        self.cuda: CudaPlanner | None = None
        if device:
            self.cuda = NvccPlanner(device)
            if isinstance(device.compiler, Clang):
                self.cuda = ClangPlanner(device)
                self.files |= clang_tools(device.compiler.compiler, self.tools)
                self.files |= device_tools(ingredients.compiler.linker, device.sdk, self.tools)
        self.prefix_maps = (
            f"-ffile-prefix-map={ingredients.source_root}=torchvision",
            f"-ffile-prefix-map={torch.root}=torch-sdk",
            f"-ffile-prefix-map={OPERATORS_FOLDER}=operators",
        )
        headers = (*torch.include_dirs, *(cuda.include_dirs if cuda else ()))
        self.common = (
            *OPTIMIZE,
            *ingredients.tuning.floating_point,
            *self.prefix_maps,
            f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.cxx11_abi)}",
            *(flag for folder in headers for flag in ("-isystem", str(folder))),
        )

    def _count_readers(self) -> Counter[tuple[tuple[str, ...], str | None]]:
        """(setup.py's C++ arguments, ISA of the header) -> the number of units that could read a precompiled header."""
        return Counter(
            (extension.cxx_flags, isa)
            for extension in self.want.upstream.extensions
            for unit in plan_units(extension, split=self.split, operators=self.want.operators)
            if unit.language == "c++" and not unit.kernel
            for isa in (self._isas(unit) if not self.clang else (None,))
        )

    def _isas(self, unit: Unit) -> Sequence[str | None]:
        """The ISAs for which `unit` is compiled; None is the platform's baseline."""
        if unit.isa_dependent:
            return tuple(self.want.isas)
        return (lowest_isa(self.want.platform).name if unit.lowest else None,)

    def _isa_flags(self, isa: str) -> tuple[str, ...]:
        """The flags of an ISA: the build's own, or those of its row where the build has no wheel for it."""
        return tuple(self.want.isas[isa] if isa in self.want.isas else isas()[isa].flags)

    def graph(self) -> Graph:
        extensions: dict[str, dict[str, str]] = {target_name(isa, sm): {} for isa, sm in self.targets}
        for extension in self.want.upstream.extensions:
            objects: dict[tuple[str, str | None], list[str]] = {target: [] for target in self.targets}
            for unit in plan_units(extension, split=self.split, operators=self.want.operators):
                for (isa, sm), outputs in self._unit(extension, unit).items():
                    for target in self.targets:
                        if isa in (None, target[0]) and sm in (None, target[1]):
                            objects[target] += outputs
            alike = all(linked == objects[self.targets[0]] for linked in objects.values())
            for (isa, sm), linked in objects.items():
                linked += self._codecs(extension)
                linked += self._runtime_support()
                extensions[target_name(isa, sm)][extension.module] = self._link(
                    extension, "all" if alike else target_name(isa, sm), linked
                )
        return Graph(
            actions=tuple(self.actions.values()),
            files=self.files,
            extensions=extensions,
            notes=(
                *map(done_instead, sorted(self.split)),
                *self.notes,
            ),
        )

    def _add(self, action: Action) -> str:
        if action.kind in READS_HEADERS:
            action = replace(action, inputs=(*action.inputs, self.identity))
        self.actions.setdefault(action.output, action)
        return action.output

    def _unit(self, extension: Extension, unit: Unit) -> dict[tuple[str | None, str | None], list[str]]:
        """Plan one unit. Returns its objects by (ISA, SM), where None serves every one."""
        if unit.language == "cuda":
            return self._cuda(extension, unit)
        return {
            (isa if unit.isa_dependent else None, None): [self._host(extension, unit, isa)] for isa in self._isas(unit)
        }

    def _standard(self, flags: Sequence[str]) -> tuple[str, ...]:
        """torch's C++ standard, unless setup.py's own `flags` name one: as torch.utils.cpp_extension does it."""
        named = any(flag.startswith(("-std=", "--std=")) for flag in flags)
        return () if named else (f"-std={self.want.torch.cxx_standard}",)

    def _settings(self, extension: Extension) -> tuple[str, ...]:
        found = self.want.codecs.found
        return (
            *extension.macros,
            f"-DTORCH_EXTENSION_NAME={extension.module}",
            *(flag for name in extension.libraries if name in found for flag in found[name].cflags),
            *(f"-I{self.want.source_root}/{folder}" for folder in extension.include_dirs),
        )

    def _host(self, extension: Extension, unit: Unit, isa: str | None) -> str:
        """The object of a C or C++ unit for `isa`, or for the platform's baseline."""
        platform = self.want.platform
        stem = f"{extension.module}/{unit.name}"
        key = stem if len(unit.sources) > 1 else None
        source = self._source(unit, extension)
        settings, flags = self._settings(extension), self._isa_flags(isa) if isa else ()
        common = (*self._standard(extension.cxx_flags), *self.common, *SHARED_CODE[platform])
        output = f"{platform}/{isa or 'baseline'}/{stem}.o"
        label = stem + (f" for {isa}" if isa else "")
        if unit.language == "c":
            own = tuple(flag for flag in extension.cxx_flags if not flag.startswith(("-std=", "--std=")))
            command = (*self.cc, *OPTIMIZE, *self.prefix_maps, *settings, *own, *flags, "-x", "c", "-c", source)
            return self._add(_compile(output, command, (source,), label, key))
        if self.clang and isa:
            waits, use = ((), ()) if unit.kernel else self._header(extension, None)
            parsed, bitcode = f"{platform}/parsed/{stem}.ll", f"{platform}/ir/{stem}.ll"
            front = (
                *self.cxx,
                *common,
                *use,
                *settings,
                *extension.cxx_flags,
                *unit.flags,
                *parse_flags(unit, self.want.tuning),
                *UNOPTIMIZED_IR,
                source,
                "-o",
                parsed,
            )
            self._add(
                Action(
                    output=parsed,
                    kind=ActionKind.FRONTEND,
                    command=(*front, "-MMD", "-MF", f"{parsed}.d"),
                    inputs=(source, *waits),
                    label=f"parse {stem}",
                    unit=key,
                )
            )
            self._add(
                Action(
                    output=bitcode,
                    kind=ActionKind.REWRITE,
                    command=(*self.want.transform_ir, *transform_flags(unit, self.want.tuning), parsed, bitcode),
                    inputs=(parsed, self.want.transform_ir[-1]),
                    label=f"take the target CPU out of {stem}",
                    depfile=False,
                )
            )
            code, flags = self._optimised(unit, stem, bitcode, isa)
            return self._add(generate(code, output, label, platform, flags))
        waits, use = ((), ()) if unit.kernel else self._header(extension, isa)
        flags = flags or (INLINE_LITTLE if self.clang else ())
        command = (*self.cxx, *common, *use, *settings, *extension.cxx_flags, *unit.flags, *flags, "-c", source)
        return self._add(_compile(output, command, (source, *waits), label, key))

    def _optimised(self, unit: Unit, stem: str, bitcode: str, isa: str) -> tuple[str, tuple[str, ...]]:
        """(IR of a unit, flags of the pass that makes `isa`'s machine code of it).

        ISAs between which TorchVision's code does not differ share what comes before that pass: the optimiser decides
        alike for them (the objects are the same bytes as without this). The first such ISA stands for all.
        """
        own = (*codegen_flags(unit, self.want.tuning), *kernel_flags(unit, isa))
        flags = (*self._isa_flags(isa), *own)
        alike = [other for other in self._isas(unit) if other and same_code(other, isa)]
        if len(alike) == 1:
            return bitcode, flags
        optimised = f"{self.want.platform}/{alike[0]}/{stem}.bc"
        label = f"optimise {stem} for {', '.join(alike)}"
        self._add(optimise(bitcode, optimised, label, self.want.platform, (*self._isa_flags(alike[0]), *own)))
        return optimised, (*flags, *OPTIMISED_IR)

    def _header(self, extension: Extension, isa: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The precompiled header for units of `extension` and `isa` (or the baseline): (files to wait for, flags).

        Nothing where a single unit would read it. torch's headers hold other code for a module of the stable ABI, and
        ATen's stop there with #error: such modules share one of the headers that their own sources include. (0.29.1:
        2.0 CPU seconds to make, 1.3 less in each of 11 units; ATen's: 11.4, and 9.1 less.)
        """
        if self.readers[extension.cxx_flags, isa] < SHARED:
            return (), ()
        headers: Sequence[str] = PRECOMPILED
        if extension.torch_target is not None:
            alike = [other for other in self.want.upstream.extensions if other.cxx_flags == extension.cxx_flags]
            headers = shared_headers(alike)
        standard, own = self._standard(extension.cxx_flags), extension.cxx_flags
        name = f"pch-{hashlib.sha256(repr((standard, own)).encode()).hexdigest()[:8]}.h"
        built, text = f"{self.want.platform}/{isa or 'baseline'}/{name}", precompiled_header(headers)
        header, extra = built, tuple[str, ...]()
        if self.clang:
            header = str(self.want.shared / hashlib.sha256(text.encode()).hexdigest()[:16] / "pch.h")
            extra = ("-fpch-instantiate-templates", "-Xclang", "-fno-pch-timestamp")
        self.files[header] = text
        flags = self._isa_flags(isa) if isa else ()
        built += ".pch" if self.clang else ".gch"
        common = (*standard, *self.common, *SHARED_CODE[self.want.platform])
        compile_header = (*self.cxx, *common, *own, *flags, *extra, "-x", "c++-header", header)
        self._add(
            Action(
                output=built,
                kind=ActionKind.PCH,
                command=(*compile_header, "-o", built),
                inputs=(header,),
                label=f"headers of torch {self.want.torch.version} for {isa or extension.module}",
                depfile=False,
            )
        )
        return (built,), (("-include-pch", built) if self.clang else ("-include", header))

    def _cuda(self, extension: Extension, unit: Unit) -> dict[tuple[str | None, str | None], list[str]]:
        """A CUDA unit: its host half, and its device half for each SM, as the CUDA compiler's planner makes them."""
        assert self.cuda is not None, "setup.py names CUDA sources only when it is asked for them"
        halves = self.cuda.plan(self._cuda_unit(extension, unit))
        for action in halves.actions:
            self._add(action)
        self.files |= halves.files
        self.notes += halves.notes
        return {(None, sm): outputs for sm, outputs in halves.objects.items()}

    def _cuda_unit(self, extension: Extension, unit: Unit) -> CudaUnit:
        stem = f"{extension.module}/{unit.name}"
        return CudaUnit(
            stem=stem,
            source=self._source(unit, extension),
            platform=self.want.platform,
            settings=self._settings(extension),
            flags=extension.nvcc_flags,
            common=(*self._standard(extension.nvcc_flags), *self.common),
            key=stem if len(unit.sources) > 1 else None,
            each_sm=stem + EACH_SM in self.split,
            twin=self.first._cuda_unit(extension, unit) if self.first else None,
        )

    def _codecs(self, extension: Extension) -> list[str]:
        """The objects of the image libraries that `extension` links, and of those that they use."""
        sources = {source.library.name: source for source in self.want.codecs.sources}
        wanted = {name for name, source in sources.items() if source.library.codec in extension.libraries}
        wanted |= {used for name in wanted for used in sources[name].library.uses}
        toolchain = self.want.compiler.toolchain
        tools = CodecTools(platform=self.want.platform, cc=self.cc, nasm=toolchain.nasm if toolchain else None)
        objects = []
        for name, source in sources.items():
            if name in wanted:
                planned = plan_codec(source, [sources[used] for used in source.library.uses], tools)
                self.files |= planned.files
                objects += [self._add(action) for action in planned.actions]
        return objects

    def _runtime_support(self) -> list[str]:
        """The object that stands in for a compiler's startup files, where the pinned toolchain links."""
        if self.want.compiler.toolchain is None:
            return []
        output = f"{self.want.platform}/baseline/runtime_support.o"
        command = (*self.cxx, "-std=c++17", *OPTIMIZE, "-c", RUNTIME_SUPPORT)
        return [self._add(_compile(output, command, (RUNTIME_SUPPORT,), "runtime support", None))]

    def _link(self, extension: Extension, target: str, objects: Sequence[str]) -> str:
        """Link an extension for `target`, or for "all" of them."""
        output = f"{self.want.platform}/{target}/{extension.module}.so"
        torch, found = self.want.torch, self.want.codecs.found
        libraries = ["-ltorch", "-ltorch_cpu", "-lc10"]
        if self.want.device:
            libraries += ["-ltorch_cuda", "-lc10_cuda", *map(str, toolkit_libraries(self.want.device.sdk))]
        for name in extension.libraries:
            if name in found:
                libraries += found[name].libs
            elif name != NVJPEG:  # the toolkit's own, above
                libraries.append(f"-l{name}")
        return self._add(
            Action(
                output=output,
                kind=ActionKind.LINK,
                command=(
                    *self.want.compiler.linker,
                    *LINK_FLAGS,
                    *(PINNED_LINK_FLAGS if self.want.compiler.toolchain else ()),
                    *("-o", output),
                    *sorted(objects),
                    f"-L{torch.lib_dir}",
                    *libraries,
                    *extension.link_flags,
                    *self.want.compiler.runtime,
                ),
                inputs=tuple(sorted(objects)),
                label=f"link {extension.module}.so for {target}",
                depfile=False,
            )
        )

    def _source(self, unit: Unit, extension: Extension) -> str:
        root = str(self.want.source_root)
        if len(unit.sources) == 1:
            return source_path(root, unit.sources[0])
        cuda = unit.language == "cuda"
        suffix = ".cu" if cuda else ".cpp"
        path = str(PurePosixPath(self.want.platform, "units", unit.extension, f"{unit.name}{suffix}"))
        self.files[path] = isolated_text(unit, root, extension.includes) if cuda else unity_text(unit, root)
        return path


def _compile(output: str, command: tuple[str, ...], inputs: tuple[str, ...], label: str, key: str | None) -> Action:
    return Action(
        output=output,
        kind=ActionKind.COMPILE,
        command=(*command, "-o", output, "-MMD", "-MF", f"{output}.d"),
        inputs=inputs,
        label=label,
        unit=key,
    )

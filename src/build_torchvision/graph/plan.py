"""Units and inputs -> actions: every compiler and linker call of a build, each once, whatever asks for it.

With clang a unit is parsed once a platform. What depends on the ISA leaves the front end as LLVM IR without a target
CPU, and each ISA costs one pass of code generation over it; what does not is compiled once for the platform's baseline.
A CUDA source is a host half, once a platform, and a device half, once an SM. gcc has no such seams: its ISA-dependent
units are compiled once an ISA.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from build_torchvision.graph import device as dev
from build_torchvision.graph.actions import Action, Graph, Kind, target_name
from build_torchvision.graph.units import Unit, plan_units, precompiled_header, unity_text
from build_torchvision.inputs.codecs import Codecs
from build_torchvision.inputs.compiler import Compiler
from build_torchvision.inputs.torch_sdk import TorchSdk
from build_torchvision.inputs.upstream import Extension, Upstream

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
# separate-code is ld's default for x86-64 alone; without it data is mapped executable and cannot be told from code.
LINK_FLAGS = ("-shared", "-Wl,--as-needed", "-Wl,-z,defs", "-Wl,-z,relro,-z,now", "-Wl,-z,separate-code", "-Wl,-s")
UNOPTIMIZED_IR = ("-S", "-emit-llvm", "-Xclang", "-disable-llvm-passes")


@dataclass(frozen=True, kw_only=True)
class Ingredients:
    """What a graph is planned from. `isas`: name -> compiler flags; `device` is None for a CPU build.

    `retarget` is the command that takes the target CPU out of an IR file, in place.
    """

    upstream: Upstream
    source_root: Path
    torch: TorchSdk
    codecs: Codecs
    compiler: Compiler
    isas: Mapping[str, Sequence[str]]
    platform: str
    retarget: Sequence[str]
    device: dev.Device | None = None


def plan_graph(ingredients: Ingredients, split: Set[str] = frozenset()) -> Graph:
    """The graph that builds both extensions for every ISA, and with CUDA for every SM too.

    `split` names units that did not compile as one. Pure: nothing is read or run.
    """
    return _Planner(ingredients, split).graph()


class _Planner:
    def __init__(self, ingredients: Ingredients, split: Set[str]) -> None:
        self.want, self.split = ingredients, split
        self.actions: dict[str, Action] = {}
        self.files: dict[str, str] = {}
        self.clang = ingredients.compiler.family == "clang"
        sms: Sequence[str | None] = tuple(ingredients.device.sms) if ingredients.device else (None,)
        self.targets = [(isa, sm) for isa in ingredients.isas for sm in sms]
        torch, cuda = ingredients.torch, ingredients.device.sdk if ingredients.device else None
        self.prefix_maps = (
            f"-ffile-prefix-map={ingredients.source_root}=torchvision",
            f"-ffile-prefix-map={torch.root}=torch-sdk",
        )
        headers = (*torch.include_dirs, *(cuda.include_dirs if cuda else ()))
        self.common = (
            f"-std={CXX_STANDARD}",
            *OPTIMIZE,
            *MATH_FLAGS,
            *self.prefix_maps,
            f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.cxx11_abi)}",
            *(flag for folder in headers for flag in ("-isystem", str(folder))),
        )

    def graph(self) -> Graph:
        for extension in self.want.upstream.extensions:
            objects: dict[tuple[str, str | None], list[str]] = {target: [] for target in self.targets}
            for unit in plan_units(extension, split=self.split):
                for (isa, sm), outputs in self._unit(extension, unit).items():
                    for target in self.targets:
                        if isa in (None, target[0]) and sm in (None, target[1]):
                            objects[target] += outputs
            for (isa, sm), linked in objects.items():
                self._link(extension, isa, sm, linked)
        folder = self.want.platform
        modules = [extension.module for extension in self.want.upstream.extensions]
        return Graph(
            actions=tuple(self.actions.values()),
            files=self.files,
            extensions={
                target_name(isa, sm): {module: f"{folder}/{target_name(isa, sm)}/{module}.so" for module in modules}
                for isa, sm in self.targets
            },
            notes=tuple(
                f"{unit} does not compile as one unit: its files are compiled one by one" for unit in self.split
            ),
        )

    def _add(self, action: Action) -> str:
        self.actions.setdefault(action.output, action)
        return action.output

    def _unit(self, extension: Extension, unit: Unit) -> dict[tuple[str | None, str | None], list[str]]:
        """Plan one unit. Returns its objects by (ISA, SM), where None serves every one."""
        if unit.language == "cuda":
            return self._cuda(extension, unit)
        return {
            (isa, None): [self._host(extension, unit, isa)]
            for isa in (self.want.isas if unit.isa_dependent else (None,))
        }

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
        compiler, platform = self.want.compiler, self.want.platform
        stem = f"{extension.module}/{unit.name}"
        key = stem if len(unit.sources) > 1 else None
        source = self._source(unit)
        settings, flags = self._settings(extension), tuple(self.want.isas[isa]) if isa else ()
        output = f"{platform}/{isa or 'baseline'}/{stem}.o"
        label = stem + (f" for {isa}" if isa else "")
        if unit.language == "c":
            command = (*compiler.c_command, *OPTIMIZE, *self.prefix_maps, *settings, *flags, "-x", "c", "-c", source)
            return self._add(_compile(output, command, (source,), label, key))
        if self.clang and isa:
            waits, use = self._header(None)
            bitcode = f"{platform}/ir/{stem}.ll"
            front = (*compiler.command, *self.common, *use, *settings, *UNOPTIMIZED_IR, source, "-o", bitcode)
            self._add(
                Action(
                    output=bitcode,
                    kind=Kind.FRONTEND,
                    command=(*front, "-MMD", "-MF", f"{bitcode}.d", "&&", *self.want.retarget, bitcode),
                    inputs=(source, waits),
                    label=f"parse {stem}",
                    unit=key,
                )
            )
            return self._generate(bitcode, output, label, flags)
        waits, use = self._header(isa)
        command = (*compiler.command, *self.common, *use, *settings, *flags, "-c", source)
        return self._add(_compile(output, command, (source, waits), label, key))

    def _generate(self, bitcode: str, output: str, label: str, flags: tuple[str, ...] = ()) -> str:
        command = (*self.want.compiler.command, "-O3", "-fPIC", "-w", *flags, "-x", "ir", "-c", bitcode, "-o", output)
        return self._add(
            Action(
                output=output,
                kind=Kind.CODEGEN,
                command=command,
                inputs=(bitcode,),
                label=f"generate {label}",
                depfile=False,
            )
        )

    def _header(self, isa: str | None) -> tuple[str, tuple[str, ...]]:
        """The precompiled header of `isa`, or of the baseline: (file to wait for, flags to use it)."""
        header = f"{self.want.platform}/{isa or 'baseline'}/pch.h"
        self.files[header] = precompiled_header(PRECOMPILED)
        flags = tuple(self.want.isas[isa]) if isa else ()
        built = f"{header}.pch" if self.clang else f"{header}.gch"
        instantiate = ("-fpch-instantiate-templates",) if self.clang else ()
        compile_header = (*self.want.compiler.command, *self.common, *flags, *instantiate, "-x", "c++-header", header)
        self._add(
            Action(
                output=built,
                kind=Kind.PCH,
                command=(*compile_header, "-o", built),
                inputs=(header,),
                label=f"headers of torch {self.want.torch.version}" + (f" for {isa}" if isa else ""),
                depfile=False,
            )
        )
        return built, (("-include-pch", built) if self.clang else ("-include", header))

    def _cuda(self, extension: Extension, unit: Unit) -> dict[tuple[str | None, str | None], list[str]]:
        """A CUDA source: its host half, and its device half for each SM."""
        assert self.want.device is not None, "setup.py names CUDA sources only when it is asked for them"
        device, platform = self.want.device, self.want.platform
        (relative,) = unit.sources
        source, stem, symbol = str(self.want.source_root / relative), f"{extension.module}/{unit.name}", ""
        symbol = dev.symbol_of(relative)
        settings = (*self._settings(extension), f"-cuid={dev.cuid_of(relative)}")

        waits, use = self._cuda_header(None)
        placeholder = f"{platform}/cuda/{dev.PLACEHOLDER}"
        self.files[placeholder] = "placeholder"
        bitcode = f"{platform}/ir/{stem}.ll"
        front = (*self._cuda_command(None), *use, *settings, *UNOPTIMIZED_IR)
        front += ("-Xclang", "-fcuda-include-gpubinary", "-Xclang", placeholder, source, "-o", bitcode)
        self._add(
            Action(
                output=bitcode,
                kind=Kind.FRONTEND,
                command=(*front, "-MMD", "-MF", f"{bitcode}.d", "&&", *device.splice, bitcode, symbol),
                inputs=(source, waits, placeholder),
                label=f"parse the host half of {stem}",
            )
        )
        objects: dict[tuple[str | None, str | None], list[str]] = {}
        objects[None, None] = [self._generate(bitcode, f"{platform}/baseline/{stem}.o", f"{stem}, host half")]

        for sm, codegen in device.sms.items():
            waits, use = self._cuda_header(sm)
            base = f"{platform}/{sm}/{stem}"
            assembly = f"{base}.s"
            self.files[assembly] = dev.fatbin_object(symbol, f"{base}.fatbin")
            compile_ptx = (*self._cuda_command(sm), *use, *settings, source)
            linker = self.want.compiler.linker
            self._add(
                Action(
                    output=f"{base}.o",
                    kind=Kind.DEVICE,
                    command=dev.device_commands(compile_ptx, codegen, device, base, assembly, linker),
                    inputs=(source, waits, assembly),
                    label=f"{stem} for {sm}",
                )
            )
            objects[None, sm] = [f"{base}.o"]
        return objects

    def _cuda_command(self, sm: str | None) -> tuple[str, ...]:
        """clang for the device code of `sm`, or for the host."""
        assert self.want.device is not None
        device = self.want.device
        side = (
            ("--cuda-device-only", f"--cuda-gpu-arch={dev.gpu_arch(device.sms[sm])}") if sm else ("--cuda-host-only",)
        )
        return (*self.want.compiler.command, *dev.cuda_flags(device.sdk), *self.common, *side)

    def _cuda_header(self, sm: str | None) -> tuple[str, tuple[str, ...]]:
        header = f"{self.want.platform}/{sm or 'cuda'}/pch.cuh"
        self.files[header] = precompiled_header(dev.PRECOMPILED)
        built = f"{header}.pch"
        emit = ("-fpch-instantiate-templates", "-S", "-emit-llvm", "-Xclang", "-emit-pch")
        self._add(
            Action(
                output=built,
                kind=Kind.PCH,
                command=(*self._cuda_command(sm), *emit, header, "-o", built),
                inputs=(header,),
                label=f"CUDA headers for {sm or 'the host'}",
                depfile=False,
            )
        )
        return built, ("-Xclang", "-include-pch", "-Xclang", built)

    def _link(self, extension: Extension, isa: str, sm: str | None, objects: Sequence[str]) -> None:
        target = target_name(isa, sm)
        output = f"{self.want.platform}/{target}/{extension.module}.so"
        torch, found = self.want.torch, self.want.codecs.found
        libraries = ["-ltorch", "-ltorch_cpu", "-lc10"]
        if self.want.device:
            libraries += ["-ltorch_cuda", "-lc10_cuda", *map(str, dev.toolkit_libraries(self.want.device.sdk))]
        libraries += [flag for name in extension.libraries if name in found for flag in found[name].libs]
        self._add(
            Action(
                output=output,
                kind=Kind.LINK,
                command=(
                    *self.want.compiler.linker,
                    *LINK_FLAGS,
                    *("-o", output),
                    *sorted(objects),
                    f"-L{torch.lib_dir}",
                    *libraries,
                ),
                inputs=tuple(sorted(objects)),
                label=f"link {extension.module}.so for {target}",
                depfile=False,
            )
        )

    def _source(self, unit: Unit) -> str:
        if len(unit.sources) == 1:
            return str(self.want.source_root / unit.sources[0])
        path = str(PurePosixPath(self.want.platform, "units", unit.extension, f"{unit.name}.cpp"))
        self.files[path] = unity_text(unit, str(self.want.source_root))
        return path


def _compile(output: str, command: tuple[str, ...], inputs: tuple[str, ...], label: str, key: str | None) -> Action:
    command = (*command, "-o", output, "-MMD", "-MF", f"{output}.d")
    return Action(output=output, kind=Kind.COMPILE, command=command, inputs=inputs, label=label, unit=key)

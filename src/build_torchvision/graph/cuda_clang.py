"""CUDA units with clang: the halves are joined by the linker.

clang embeds a unit's device code as a constant in the host half. Here the host half is parsed with a placeholder, whose
constant is then turned into a reference to a symbol that each SM's device object defines: what differs between variants
is one linked object, and its size and alignment are the linker's business. `-cuid` fixes the names of what both halves
refer to. PTX is the same whatever the host: in a graph of several platforms the first one's serves all.
"""

from __future__ import annotations

from collections.abc import Sequence

from build_torchvision.compatibility import Sm
from build_torchvision.facts import Toolkit, toolkits, version_key
from build_torchvision.flags import Codegen
from build_torchvision.graph.actions import EACH_SM, Action, ActionKind
from build_torchvision.graph.device import MACROS, CudaBuild, CudaUnit, PlannedCudaUnit
from build_torchvision.graph.tools import Tools

PLACEHOLDER = "placeholder.fatbin"
UNOPTIMIZED_IR = ("-S", "-emit-llvm", "-Xclang", "-disable-llvm-passes")
OPTIMISED_IR = ("-Xclang", "-disable-llvm-passes")  # for `generate`: what comes in has been through `optimise`

# How device code is generated beside -O3: results keep their bits. benchmarks/NOTES.md has what each gives on an H100.
# A bin of a region is a few pixels wide. clang unrolls its loop eight times and leaves the rest to a second loop, whose
# loads wait for each other. Four times, with the rest unrolled too, is what nvcc does.
# A load stays where the source has it, so that it is under way with those before it: two passes would move it down.
# The address of a pixel's neighbour is one product and one sum; split into a base and a constant it takes more.
DEVICE_CODE = tuple(
    word
    for option in (
        "-unroll-max-count=4",
        "-unroll-remainder",
        "-instcombine-code-sinking=0",
        "-disable-machine-sink",
        "-disable-separate-const-offset-from-gep",
    )
    for word in ("-mllvm", option)
)
# What clang's driver adds for a CUDA source, and does not for IR.
DEVICE_DEFAULTS = ("-mllvm", "-enable-memcpyopt-without-libcalls")
HOST_MATH = "tools/host_math.h"
# Beyond this CUDA clang 22 does not know which PTX a toolkit reads, and writes this one's, whatever the toolkit.
NEWEST_KNOWN_CUDA = "12.9"
INTEGERS = ("int", "long", "long long")


def host_math() -> str:
    """The text of a header that declares min and max for host code.

    nvcc's own headers do (math_functions.h, with these types), clang's have them for device code alone.
    """
    lines = ["#pragma once", "#define HOST static inline __attribute__((host, always_inline))"]
    for name, order in (("min", "<"), ("max", ">")):
        for signed in INTEGERS:
            unsigned = f"unsigned {signed}"
            for left, right in ((signed, signed), (unsigned, unsigned), (signed, unsigned), (unsigned, signed)):
                kind = signed if left == right == signed else unsigned
                a, b = (f"static_cast<{kind}>({argument})" for argument in "ab")
                lines.append(f"HOST {kind} {name}({left} a, {right} b) {{ return {b} {order} {a} ? {b} : {a}; }}")
        lines.append(f"HOST float {name}(float a, float b) {{ return __builtin_f{name}f(a, b); }}")
        for left, right in (("double", "double"), ("float", "double"), ("double", "float")):
            lines.append(f"HOST double {name}({left} a, {right} b) {{ return __builtin_f{name}(a, b); }}")
    return "\n".join((*lines, "#undef HOST")) + "\n"


def ptx_version(sm: str, track: str) -> str:
    """The PTX version that clang writes for `sm` with the toolkit of `track`, as its options have it: "88"."""
    newest = min((toolkits()[track], _toolkit(NEWEST_KNOWN_CUDA)), key=lambda toolkit: version_key(toolkit.version))
    return _needed_ptx(sm) or _digits(newest)


def _toolkit(version: str) -> Toolkit:
    return next(toolkit for toolkit in toolkits().values() if toolkit.version == version)


def ptx_feature(sm: str) -> tuple[str, ...]:
    """clang's option for the PTX version that `sm` needs, where that is newer than the one clang writes by itself.

    It is that of the first toolkit that knew `sm`: no newer than it must be, since a driver compiles no newer PTX than
    its own toolkit's.
    """
    needed = _needed_ptx(sm)
    return (f"--cuda-feature=+ptx{needed}",) if needed else ()


def _needed_ptx(sm: str) -> str | None:
    first = next(toolkit for toolkit in toolkits().values() if sm in toolkit.native)
    return _digits(first) if version_key(first.version) > version_key(NEWEST_KNOWN_CUDA) else None


def _digits(toolkit: Toolkit) -> str:
    """The toolkit's version of PTX as options have it: "90"."""
    return toolkit.ptx_isa.replace(".", "")


def for_clang(flags: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """setup.py's arguments for nvcc: (those that mean the same to clang, those that it does not know)."""
    taken, left = list[str](), list[str]()
    words = iter(flags)
    for word in words:
        if word in ("-Xcompiler", "--compiler-options"):
            taken.append(next(words, ""))
        elif word in ("-D", "-U", "-I", "-isystem", "-include"):
            taken += [word, next(words, "")]
        elif word.startswith(("-D", "-U", "-I", "-std=", "-O", "-g")):
            taken.append(word)
        elif word.startswith("-Xcompiler="):
            taken += word.removeprefix("-Xcompiler=").split(",")
        else:
            left.append(word)
    return tuple(taken), tuple(left)


class ClangPlanner:
    """Host half: IR, spliced, one object. CudaBuild half: PTX, assembled into one object an SM."""

    def __init__(self, device: CudaBuild) -> None:
        self.device = device
        sdk = device.sdk
        folders = tuple(flag for path in sdk.include_dirs for flag in ("-isystem", str(path)))
        self.flags = ("-x", "cuda", f"--cuda-path={sdk.root}", "-Wno-unknown-cuda-version", *MACROS, *folders)

    def plan(self, unit: CudaUnit) -> PlannedCudaUnit:
        made = PlannedCudaUnit(files={HOST_MATH: host_math()})
        if left := for_clang(unit.flags)[1]:
            made.notes.append(f"clang has no counterpart of setup.py's nvcc arguments {' '.join(left)}: left out")
        made.objects[None] = [self._host(unit, made)]
        program = self._program(unit, made)
        for sm, codegen in self.device.sms.items():
            made.objects[sm] = [self._device(unit, codegen, program, made)]
        return made

    def _command(self, unit: CudaUnit) -> tuple[str, ...]:
        taken, _ = for_clang(unit.flags)
        first = ("-include", HOST_MATH)
        return (
            Tools(unit.platform).cxx,
            *self.flags,
            *first,
            *unit.common,
            *unit.settings,
            *taken,
            f"-cuid={unit.cuid}",
        )

    def _from_source(
        self, unit: CudaUnit, kind: ActionKind, output: str, options: tuple[str, ...], label: str, *read: str
    ) -> Action:
        """Compile one half of `unit`, which reads the files `read` too."""
        return Action(
            output=output,
            kind=kind,
            command=(*self._command(unit), *options, *_to(unit.source, output)),
            inputs=(unit.source, *read, HOST_MATH, Tools(unit.platform).cxx),
            label=label,
            unit=unit.key,
        )

    def _host(self, unit: CudaUnit, made: PlannedCudaUnit) -> str:
        placeholder = f"{unit.platform}/cuda/{PLACEHOLDER}"
        made.files[placeholder] = "placeholder"
        parsed, spliced = f"{unit.platform}/parsed/{unit.stem}.ll", f"{unit.platform}/ir/{unit.stem}.ll"
        embed = ("-Xclang", "-fcuda-include-gpubinary", "-Xclang", placeholder)
        made.actions.append(
            self._from_source(
                unit,
                ActionKind.FRONTEND,
                parsed,
                ("--cuda-host-only", *UNOPTIMIZED_IR, *embed),
                f"parse the host half of {unit.stem}",
                placeholder,
            )
        )
        made.actions.append(
            Action(
                output=spliced,
                kind=ActionKind.REWRITE,
                command=(*self.device.splice, parsed, spliced, unit.symbol),
                inputs=(parsed,),
                label=f"cut the placeholder out of {unit.stem}",
                depfile=False,
            )
        )
        output = f"{unit.platform}/baseline/{unit.stem}.o"
        made.actions.append(generate(spliced, output, f"{unit.stem}, host half", unit.platform))
        return output

    def _program(self, unit: CudaUnit, made: PlannedCudaUnit) -> str | None:
        """The IR of the unit's device half for every SM; None where each SM's is parsed: there are two, or they differ.

        It is parsed for the oldest and the newest SM of the build, and has to be the same: see execute/one_device_ir.
        """
        first = unit.twin or unit
        sms = sorted({codegen.base for codegen in self.device.sms.values()}, key=Sm.parse)
        if len(sms) < 3 or unit.each_sm or not self.device.one_ir:
            return None
        parsed = {sm: f"{first.platform}/parsed/{unit.stem}.{sm}.ll" for sm in (sms[0], sms[-1])}
        for sm, output in parsed.items():
            side = ("--cuda-device-only", f"--cuda-gpu-arch={sm.replace('sm', 'sm_')}", *ptx_feature(sm))
            made.actions.append(
                self._from_source(
                    first,
                    ActionKind.FRONTEND,
                    output,
                    (*side, *UNOPTIMIZED_IR),
                    f"parse the device half of {unit.stem} for {sm}",
                )
            )
        program = f"{first.platform}/ir/{unit.stem}.device.ll"
        made.actions.append(
            Action(
                output=program,
                kind=ActionKind.REWRITE,
                command=(*self.device.one_ir, *parsed.values(), program),
                inputs=tuple(parsed.values()),
                label=f"see that {unit.stem} is one program for every SM",
                unit=unit.stem + EACH_SM,
                depfile=False,
            )
        )
        return program

    def _ptx(self, unit: CudaUnit, codegen: Codegen, program: str | None, output: str) -> Action:
        """The action that makes the PTX of a unit for one SM, of `program` where one serves all."""
        label = f"{unit.stem} for {codegen.base}"
        if program is None:
            arch = (f"--cuda-gpu-arch=sm_{codegen.number}", *ptx_feature(codegen.base))
            return self._from_source(
                unit, ActionKind.DEVICE, output, ("--cuda-device-only", *arch, *DEVICE_CODE, "-S"), label
            )
        version = ptx_version(codegen.base, self.device.sdk.track)
        target = ("-target-cpu", f"sm_{codegen.number}", "-target-feature", f"+ptx{version}")
        options = ("--target=nvptx64-nvidia-cuda", *(word for one in target for word in ("-Xclang", one)))
        options = (*options, *DEVICE_DEFAULTS, *DEVICE_CODE, "-S")
        return _from_ir(ActionKind.CODEGEN, program, output, label, unit.platform, options)

    def _device(self, unit: CudaUnit, codegen: Codegen, program: str | None, made: PlannedCudaUnit) -> str:
        sm, first, tools = codegen.base, unit.twin or unit, Tools(unit.platform)
        ptx = f"{first.platform}/{sm}/{unit.stem}.ptx"
        made.actions.append(self._ptx(first, codegen, program, ptx))
        ships = "+".join(kind for kind, shipped in (("elf", codegen.cubin), ("ptx", codegen.ptx)) if shipped)
        # The platform, though the program knows it: a compiler cache takes both platforms' programs for one compiler,
        # and the PTX they read is the same.
        options = (f"-fsm={codegen.number}", f"-fship={ships}", f"-fsymbol={unit.symbol}", f"-fhost={unit.platform}")
        output = f"{unit.platform}/{sm}/{unit.stem}.{ships}.o"
        made.actions.append(
            Action(
                output=output,
                kind=ActionKind.ASSEMBLE,
                command=(tools.device_object, *options, "-x", "cpp-output", "-c", ptx, "-o", output),
                inputs=(ptx, tools.device_object),
                label=f"assemble {unit.stem} for {sm}",
                depfile=False,
            )
        )
        return output


def generate(bitcode: str, output: str, label: str, platform: str, flags: tuple[str, ...] = ()) -> Action:
    """IR -> object, for the platform's baseline or for the ISA that `flags` name."""
    return _from_ir(ActionKind.CODEGEN, bitcode, output, f"generate {label}", platform, (*flags, "-c"))


def optimise(bitcode: str, output: str, label: str, platform: str, flags: tuple[str, ...]) -> Action:
    """IR -> IR as `flags` let it be optimised, of which only machine code is left to be made.

    It is written as bitcode with the order in which values are used, which text loses and code generation follows.
    """
    options = (*flags, "-c", "-emit-llvm", "-Xclang", "-emit-llvm-uselists")
    return _from_ir(ActionKind.OPTIMISE, bitcode, output, label, platform, options)


def _from_ir(
    kind: ActionKind, bitcode: str, output: str, label: str, platform: str, options: tuple[str, ...]
) -> Action:
    program = Tools(platform).generate
    return Action(
        output=output,
        kind=kind,
        command=(program, "-O3", "-fPIC", "-w", "-x", "cpp-output", *options, bitcode, "-o", output),
        inputs=(bitcode, program),
        label=label,
        depfile=False,
    )


def _to(source: str, output: str) -> tuple[str, ...]:
    return (source, "-o", output, "-MMD", "-MF", f"{output}.d")

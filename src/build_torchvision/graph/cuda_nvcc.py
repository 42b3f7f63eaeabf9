"""CUDA units with nvcc: the host half is a whole object whose fat binary is exchanged.

nvcc has no way to leave the device code out. It is given one SM, the same for every variant, and its object's section
.nv_fatbin is then replaced by what `nvcc -fatbin` makes of the same unit for the variant's SM. Both calls get the same
`-frandom-seed`, without which kernels in unnamed namespaces are called differently in each. An nvcc that does not know
that option compiles each unit whole for each SM.
"""

from __future__ import annotations

from collections.abc import Sequence

from build_torchvision.flags import Codegen
from build_torchvision.graph.actions import Action, ActionKind
from build_torchvision.graph.device import MACROS, CudaBuild, CudaUnit, PlannedCudaUnit

HOST_SM = "80"  # what the host half is compiled with; none of it is left after the splice
# torch.utils.cpp_extension's own flag: c10 calls constexpr functions from device code.
RELAXED = "--expt-relaxed-constexpr"
# CUDA's C++ libraries put the SMs that they are compiled for (__CUDA_ARCH_LIST__) into the names of their kernels, to
# keep those of several libraries in one process apart. The halves are compiled for different SMs, and must call a
# kernel alike. (Their host code also chooses by that list what to launch; no unit here uses such algorithms.)
SAME_NAMES = (
    "-DCUB_DISABLE_NAMESPACE_MAGIC",
    "-DCUB_IGNORE_NAMESPACE_MAGIC_ERROR",
    "-DTHRUST_DISABLE_ABI_NAMESPACE",
    "-DTHRUST_IGNORE_ABI_NAMESPACE_ERROR",
    "-DCCCL_DISABLE_ARCH_DEPENDENT_NAMESPACE",
)


class NvccPlanner:
    """Host half: one object. CudaBuild half: one fat binary an SM, put in its place."""

    def __init__(self, device: CudaBuild) -> None:
        self.device = device
        folders = tuple(flag for path in device.sdk.include_dirs for flag in ("-isystem", str(path)))
        packed = ("-Xfatbin", "-compress-all")
        self.command = (*device.compiler.command, RELAXED, *MACROS, *packed, *folders)

    def plan(self, unit: CudaUnit) -> PlannedCudaUnit:
        made = PlannedCudaUnit()
        command = (*self.command, *_for_nvcc(unit.common), *unit.settings, *unit.flags)
        if not self.device.compiler.splices:
            made.notes.append(
                f"nvcc {self.device.compiler.version} has no -frandom-seed, so the halves of a unit cannot be joined: "
                f"{unit.stem} is compiled whole for each SM"
            )
            for sm, codegen in self.device.sms.items():
                made.objects[sm] = [self._compile(unit, made, command, codegen, _name(codegen))]
            return made
        command = (*command, *SAME_NAMES, f"-frandom-seed={unit.cuid}")
        first = Codegen(kind="native", gencode=(f"arch=compute_{HOST_SM},code=sm_{HOST_SM}",), arch_list="", reason="")
        host = self._compile(unit, made, command, first, None)
        for sm, codegen in self.device.sms.items():
            base = f"{unit.platform}/{_name(codegen)}/{unit.stem}"
            fatbin = f"{base}.fatbin"
            made.actions.append(
                Action(
                    output=fatbin,
                    kind=ActionKind.DEVICE,
                    command=(*command, *_gencode(codegen), "-fatbin", *_to(unit.source, fatbin)),
                    inputs=(unit.source,),
                    label=f"{unit.stem} for {_name(codegen)}",
                    unit=unit.key,
                )
            )
            made.actions.append(
                Action(
                    output=f"{base}.o",
                    kind=ActionKind.REWRITE,
                    command=(*self.device.splice, host, fatbin, f"{base}.o"),
                    inputs=(host, fatbin),
                    label=f"join the halves of {unit.stem} for {_name(codegen)}",
                    depfile=False,
                )
            )
            made.objects[sm] = [f"{base}.o"]
        return made

    def _compile(
        self, unit: CudaUnit, made: PlannedCudaUnit, command: tuple[str, ...], codegen: Codegen, name: str | None
    ) -> str:
        """The whole unit for `codegen`, as the object called after `name`; None is the host half."""
        output = f"{unit.platform}/{name or 'baseline'}/{unit.stem}.o"
        action = Action(
            output=output,
            kind=ActionKind.COMPILE,
            command=(*command, *_gencode(codegen), "-c", *_to(unit.source, output)),
            inputs=(unit.source,),
            label=f"{unit.stem} for {name}" if name else f"host half of {unit.stem}",
            unit=unit.key,
        )
        made.actions.append(action)
        return output


def _name(codegen: Codegen) -> str:
    """What is shipped, as a folder's name: variants that ship the same share it."""
    return codegen.base + (("+ptx" if codegen.cubin else ".ptx") if codegen.ptx else "")


def _gencode(codegen: Codegen) -> tuple[str, ...]:
    return tuple(word for option in codegen.gencode for word in ("-gencode", option))


def _for_nvcc(flags: Sequence[str]) -> tuple[str, ...]:
    """The C++ compiler's flags as nvcc takes them: what it does not know itself goes through -Xcompiler."""
    made: list[str] = []
    words = iter(flags)
    for word in words:
        if word == "-isystem":
            made += [word, next(words)]
        elif word.startswith(("-D", "-I", "-O", "-std=")) or word == "-w":
            made.append(word)
        else:
            made += ["-Xcompiler", word]
    return tuple(made)


def _to(source: str, output: str) -> tuple[str, ...]:
    return (source, "-o", output, "-MMD", "-MF", f"{output}.d")

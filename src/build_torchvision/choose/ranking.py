"""Which variants a machine can run, best first, and why each of the others is behind. Pure: values in, values out.

The rules are those of `compatibility`, the drivers' floors, and that an extension works beside a torch of its own CUDA
major version only; where a track has the torch's very version, that one counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from build_torchvision.compatibility import KINDS, CodegenKind, Sm, is_track_of, support
from build_torchvision.facts import isas, same_code, toolkits, version_key
from build_torchvision.flags import cuda_codegen
from build_torchvision.machine.cpu import missing_features
from build_torchvision.machine.environment import Backend, InstalledPackage
from build_torchvision.machine.report import GpuFound, Machine
from build_torchvision.releases import published_torch_serves
from build_torchvision.variants import DEFAULT_TRACKS, Variant


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A variant, judged for one machine. Where it does not fit, `why` says what is in the way.

    `kind` is how its GPU code serves the machine's GPU, None without one. Of the best choice `why` is what speaks for
    it; of those behind, what they lack against the best.
    """

    variant: Variant
    fits: bool
    kind: CodegenKind | None
    why: str


def choose(machine: Machine, variants: Iterable[Variant], gpu: GpuFound | None = None) -> list[Choice]:
    """All of `variants`, ranked for `machine` and its GPU `gpu` (None: its most capable one).

    Those that fit come first, best first; the best has nothing behind it. Those that do not fit follow.
    """
    chip = gpu or machine.gpu
    judged = [(variant, *_judge(machine, chip, variant)) for variant in variants]
    fitting = sorted(
        ((variant, kind) for variant, kind, problem in judged if problem is None),
        key=lambda pair: _worth(pair[0], pair[1], chip, machine),
        reverse=True,
    )
    ranked = [
        Choice(
            variant=variant,
            fits=True,
            kind=kind,
            why=_for(machine, chip, variant, kind)
            if place == 0
            else _behind(fitting[0][0], fitting[0][1], variant, kind),
        )
        for place, (variant, kind) in enumerate(fitting)
    ]
    unfit = [
        Choice(variant=variant, fits=False, kind=kind, why=problem)
        for variant, kind, problem in judged
        if problem is not None
    ]
    return ranked + unfit


def support_on(variant: Variant, gpu: GpuFound) -> CodegenKind | None:
    """How the GPU code of `variant` serves `gpu`; None where it does not run there, or there is none."""
    codegen = cuda_codegen(variant)
    return None if codegen is None else support(codegen.images, Sm.parse(gpu.capability))


def _judge(machine: Machine, gpu: GpuFound | None, variant: Variant) -> tuple[CodegenKind | None, str | None]:
    """(kind, what is in the way or None)."""
    if variant.platform != machine.platform:
        return None, f"{variant.isa} is an ISA of {variant.platform}, and this machine is {machine.platform}"
    if machine.glibc is None:
        return None, "this system has no glibc, which PyTorch's wheels and these are made for"
    lacking = missing_features(variant.isa, machine.cpu)
    if lacking:
        return None, f"this processor lacks {', '.join(lacking)}: {variant.isa} code would stop with SIGILL"
    environment = machine.environment
    if environment is not None and variant.python != environment.python:
        own = environment.python_version
        return None, f"it is for Python {variant.python_version}, and the environment has {own}"
    torch = environment.torch if environment is not None else None
    if torch is not None and torch.kind not in (Backend.CPU, Backend.CUDA):
        return None, f"torch {torch.version} here is {torch.kind.build}, which no variant goes with"
    if variant.cuda is None:
        return None, None
    if gpu is None:
        return None, "there is no NVIDIA GPU here"
    kind = support_on(variant, gpu)
    if kind is None:
        return None, f"its code is for {variant.sm}, which does not run on {gpu.name} ({gpu.capability})"
    floor = variant.driver_floor
    if machine.driver and floor and driver_is_older(machine, floor):
        return kind, f"driver {machine.driver} is older than {floor}, which it needs"
    if torch is not None and not goes_with(torch, variant):
        built = f"built with CUDA {torch.cuda}" if torch.cuda else "a CPU-only build"
        if torch.cuda is None and torch.kind is Backend.CUDA:
            built = "built with an unknown CUDA version"
        return kind, f"torch {torch.version} here is {built}, and this variant goes with CUDA {variant.cuda}"
    return kind, None


def goes_with(torch: InstalledPackage, variant: Variant) -> bool:
    """Whether `variant` can be loaded beside `torch`: of the same CUDA major version, its own where a track has it.

    A variant without GPU code loads beside any torch for the CPU or for CUDA.
    """
    if variant.cuda is None:
        return torch.kind in (Backend.CPU, Backend.CUDA)
    return is_track_of(variant.cuda, torch.cuda)


def driver_is_older(machine: Machine, floor: str) -> bool:
    """Whether the machine's driver is older than `floor`; under WSL2 only the first number is comparable."""
    have, want = version_key(machine.driver or "0"), version_key(floor)
    return have[:1] < want[:1] if machine.wsl else have < want


def _worth(variant: Variant, kind: CodegenKind | None, gpu: GpuFound | None, machine: Machine) -> tuple[object, ...]:
    """More is better: GPU code, its kind and base, the GPU's own name, a published torch, the default track, ISA.

    Beside a torch whose CUDA is no track, a toolkit that is not newer than the torch's counts before a newer one.
    """
    codegen = cuda_codegen(variant)
    torch = machine.environment.torch if machine.environment else None
    cuda = torch.cuda if torch is not None else None
    older = cuda is None or variant.cuda is None or version_key(variant.cuda) <= version_key(cuda)
    return (
        codegen is not None,
        -KINDS.index(kind) if kind else -len(KINDS),
        version_key(codegen.arch_list.split("+")[0]) if codegen else (),
        gpu is not None and variant.sm == gpu.sm,
        older,
        variant.cuda is not None and published_torch_serves(variant),
        variant.track in DEFAULT_TRACKS,
        version_key(toolkits()[variant.track].version) if variant.cuda else (),
        list(isas()).index(variant.isa),
    )


def _for(machine: Machine, gpu: GpuFound | None, variant: Variant, kind: CodegenKind | None) -> str:
    cpu = f"{variant.isa} is the best CPU ISA that {machine.cpu.model} runs"
    if variant.cuda is None or gpu is None:
        return cpu
    codegen = cuda_codegen(variant)
    how = f": {codegen.reason.rstrip('.')}" if codegen and kind != "native" else ""
    return f"{kind} code for {gpu.name} ({gpu.capability}) with CUDA {variant.cuda}{how}; {cpu}"


def _behind(best: Variant, best_kind: CodegenKind | None, other: Variant, kind: CodegenKind | None) -> str:
    """What `other` lacks against `best`, the weightiest first."""
    lacks: list[str] = []
    if best.cuda and not other.cuda:
        lacks.append("it has no GPU code: TorchVision's operators would run on the CPU alone")
    elif best.track != other.track and kind != best_kind:
        lacks.append(f"CUDA {other.cuda} serves this GPU by {kind} code only, CUDA {best.cuda} by {best_kind}")
    elif best.track != other.track:
        lacks.append(f"CUDA {other.cuda} would do as well; {best.cuda} is {_merit(best, other)}")
    if best.sm and other.sm and best.sm != other.sm:
        lacks.append(f"code for {other.sm} runs here as {kind}, and {best.sm} is this GPU's own")
    if best.isa != other.isa:
        added = [feature for feature in isas()[best.isa].features if feature not in isas()[other.isa].features]
        same = same_code(best.isa, other.isa)
        lacks.append(
            f"it leaves {', '.join(added)} unused"
            + (" (the code is the same: only the PyTorch it matches differs)" if same else "")
        )
    if best.python != other.python:
        lacks.append(f"it is for Python {other.python_version}")
    return "; ".join(lacks) or "it is the same"


def _merit(best: Variant, other: Variant) -> str:
    """Why `best`'s toolkit goes before `other`'s, which serves the GPU as well."""
    if published_torch_serves(best) and not published_torch_serves(other):
        return "that of a published PyTorch"
    return "the default matrix's" if best.track in DEFAULT_TRACKS else "the newer toolkit"

"""Diagnose why TorchVision fails in an environment, from its files: each fault with its symptom, cause and one command.

A cause hides its own consequences: a TorchVision for another torch lacks symbols too, and only the former is reported.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from build_torchvision.binary.instructions import usable
from build_torchvision.choose.advice import idle_notes
from build_torchvision.choose.partner import newer_notes, partner_sentence
from build_torchvision.compatibility import CodegenKind
from build_torchvision.doctor.causes import gpu, host, installation, pairing
from build_torchvision.doctor.causes import torch as torch_causes
from build_torchvision.doctor.causes.diagnosis import NO_CUDA_KERNEL, Diagnosis
from build_torchvision.doctor.installation import InstallationState, InstalledExtension
from build_torchvision.machine.environment import Backend
from build_torchvision.machine.report import Machine
from build_torchvision.variants import PYTHONS


@dataclass(frozen=True, kw_only=True)
class Running:
    """What a TorchVision is: `variant` and how it was made where this project built it, else the stock wheel."""

    torchvision: str
    torch: str | None
    variant: str | None
    cuda: str | None
    """The CUDA that its GPU code was made and linked with: "12.8", or "12" where only the major version shows."""
    isa: str
    """The CPU features that its own code uses beyond x86-64's baseline, or the variant's ISA."""
    device: tuple[str, ...]
    kinds: tuple[tuple[str, CodegenKind | None], ...]
    """(GPU, how this TorchVision's code serves it)."""


def diagnose(state: InstallationState, machine: Machine) -> tuple[Diagnosis, ...]:
    """All that is wrong with `state` on `machine`, root causes first; empty for a healthy environment."""
    environment = state.environment
    found, torch = environment.torchvision, environment.torch
    if found is None or torch is None or not (found.whole and torch.whole):
        return (
            *installation.without_python(state),
            *installation.archived(state),
            *installation.absent(state, machine),
        )
    broken = [*installation.mixed(state, found, machine), *installation.damaged(state, found, machine)]
    unpaired = [] if broken else list(pairing.mismatched(state, found, torch, machine))
    judged = torch.kind in (Backend.CPU, Backend.CUDA)
    unlinked = [] if broken or unpaired or not judged else list(pairing.unlinked(state, machine))
    old_driver = list(gpu.old_driver(state, torch, machine))
    without_code = list(gpu.torch_without_code(state, torch, machine))
    if without_code:  # its remedy replaces both packages
        unpaired = [replace(one, remedy=without_code[0].remedy) for one in unpaired]
    return _each_once(
        *installation.without_python(state),
        *installation.shadowed(state),
        *installation.archived(state),
        *torch_causes.unloadable(state, torch, machine),
        *broken,
        *unpaired,
        *unlinked,
        *installation.without_packages(state, machine),
        *host.too_old(state, machine),
        *host.illegal(state, machine),
        *host.without_codecs(state, machine),
        *without_code,
        *old_driver,
        *([] if broken or unpaired or old_driver else gpu.unserved(state, torch, machine)),
    )


def _each_once(*found: Diagnosis) -> tuple[Diagnosis, ...]:
    """Report a fault once where both extensions have it and one command mends both."""
    first: dict[tuple[str, str | None], Diagnosis] = {}
    for one in found:
        first.setdefault((one.name, one.fix), one)
    return tuple(first.values())


def notes(state: InstallationState, machine: Machine) -> tuple[str, ...]:
    """What to know about an environment that is no fault here."""
    return tuple(_notes(state, machine))


def _notes(state: InstallationState, machine: Machine) -> Iterator[str]:
    environment, main = state.environment, state.main
    found, torch = environment.torchvision, environment.torch
    if environment.python not in PYTHONS:
        yield f"There is no variant for Python {environment.python_version}: it has published wheels alone."
    if torch is None:
        return
    yield from newer_notes(torch)
    yield from idle_notes(torch, machine)
    if torch.kind not in (Backend.CPU, Backend.CUDA):
        yield f"torch {torch.version} is {torch.kind.build}: its libraries and hardware are not judged here."
    if found is None or main is None:
        return
    gpu_code = {Backend.CUDA: "CUDA", Backend.ROCM: "ROCm"}.get(torch.kind)
    if gpu_code and main.backend is Backend.CPU and not machine.gpus:
        yield (
            f"{main.path.name} has no GPU code, and torch {torch.version} is built with {gpu_code}. It works here, "
            f'where no GPU is visible; on a machine with a GPU its operators stop with "{NO_CUDA_KERNEL}". '
            f"{partner_sentence(environment, machine.platform)}"
        )
    for name, copies in (environment.copies or {}).items():
        if len(copies) > 1:
            others = ", ".join(f"{one.version} in {one.folder.parent}" for one in copies[1:])
            yield f"{name} {copies[0].version} in {copies[0].folder.parent} is imported before {others}."


def running(state: InstallationState, machine: Machine) -> Running | None:
    """What is installed, healthy or not; None without a TorchVision."""
    found, torch = state.environment.torchvision, state.environment.torch
    if found is None:
        return None
    main = state.main
    device = main.device if main else None
    return Running(
        torchvision=found.version,
        torch=torch.version if torch else None,
        variant=str(state.descriptor["variant"]) if state.ours else None,
        cuda=_cuda(state, main),
        isa=_isa(main),
        device=tuple(device.names) if device else (),
        kinds=tuple((chip.name, gpu.served(device, chip)) for chip in machine.gpus) if device else (),
    )


def _cuda(state: InstallationState, main: InstalledExtension | None) -> str | None:
    """The CUDA of the GPU code: by its own mark, the descriptor, else the major version that it is linked with."""
    if main is None or main.device is None:
        return None
    stated = state.built_with_cuda or ""
    if main.toolkit:
        return main.toolkit
    return stated if stated and (main.cudart is None or stated.split(".")[0] == main.cudart) else main.cudart


def _isa(main: InstalledExtension | None) -> str:
    if main is None or main.scan is None:
        return "not decoded"
    names = sorted(name for name in main.scan.features if name not in usable(main.scan.platform, ()))
    return ", ".join(names) if names else f"the baseline of {main.scan.platform}"

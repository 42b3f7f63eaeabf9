"""Why TorchVision fails in an environment, from its files: each diagnosis with its symptom, cause and one command.

A cause hides its own consequences: a TorchVision for another torch lacks symbols too, and only the former is told.
"""

from __future__ import annotations

from dataclasses import dataclass

from build_torchvision.binary.instructions import usable
from build_torchvision.compatibility import CodegenKind
from build_torchvision.doctor.causes import gpu, host, installation, pairing
from build_torchvision.doctor.causes.diagnosis import Diagnosis
from build_torchvision.doctor.installation import InstallationState, InstalledExtension
from build_torchvision.facts import releases
from build_torchvision.machine.report import Machine


@dataclass(frozen=True, kw_only=True)
class Running:
    """What a TorchVision is: `variant` and how it was made where this project built it, else the stock wheel."""

    torchvision: str
    torch: str | None
    variant: str | None
    cuda: str | None
    isa: str
    """The CPU features that its own code uses beyond x86-64's baseline, or the variant's ISA."""
    device: tuple[str, ...]
    kinds: tuple[tuple[str, CodegenKind | None], ...]
    """(GPU, how this TorchVision's code serves it)."""


def diagnose(patient: InstallationState, machine: Machine) -> tuple[Diagnosis, ...]:
    """All that is wrong with `patient` on `machine`, root causes first; empty for a healthy environment."""
    environment = patient.environment
    found, torch = environment.torchvision, environment.torch
    if found is None or torch is None:
        return tuple(installation.absent(patient, machine))
    broken = [*installation.mixed(patient, found, machine), *installation.damaged(patient, found, machine)]
    unpaired = [] if broken else list(pairing.mismatched(patient, found, torch, machine))
    unlinked = [] if broken or unpaired else list(pairing.unlinked(patient, machine))
    return _told_once(
        *installation.shadowed(patient),
        *broken,
        *unpaired,
        *unlinked,
        *host.too_old(patient, machine),
        *host.illegal(patient, machine),
        *host.without_codecs(patient, machine),
        *gpu.unserved(patient, torch, machine),
    )


def _told_once(*found: Diagnosis) -> tuple[Diagnosis, ...]:
    """Both extensions tend to suffer from one cause, and then one command mends both: it is told once."""
    first: dict[tuple[str, str], Diagnosis] = {}
    for one in found:
        first.setdefault((one.name, one.fix), one)
    return tuple(first.values())


def running(patient: InstallationState, machine: Machine) -> Running | None:
    """What is installed, healthy or not; None without a TorchVision."""
    found, torch = patient.environment.torchvision, patient.environment.torch
    if found is None:
        return None
    main = next((extension for extension in patient.extensions if extension.name == "_C"), None)
    device = main.device if main else None
    row = releases().get(found.public)
    cuda = patient.built_with_cuda
    if not patient.descriptor and device is not None:
        cuda = row.cuda if row else None
    return Running(
        torchvision=found.version,
        torch=torch.version if torch else None,
        variant=str(patient.descriptor["variant"]) if "variant" in patient.descriptor else None,
        cuda=str(cuda) if cuda else None,
        isa=_isa(main),
        device=tuple(sorted(device.cubins)) + tuple(f"{sm} PTX" for sm in sorted(device.ptx)) if device else (),
        kinds=tuple((chip.name, gpu.served(device, chip)) for chip in machine.gpus) if device else (),
    )


def _isa(main: InstalledExtension | None) -> str:
    if main is None or main.scan is None:
        return "not decoded"
    names = sorted(name for name in main.scan.features if name not in usable(main.scan.platform, ()))
    return ", ".join(names) if names else f"the baseline of {main.scan.platform}"

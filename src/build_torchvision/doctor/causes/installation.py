"""What is not there, there twice, or damaged."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from build_torchvision.doctor import fixes
from build_torchvision.doctor.causes.diagnosis import LOADING, Diagnosis
from build_torchvision.doctor.installation import InstallationState
from build_torchvision.facts import releases
from build_torchvision.machine.environment import InstalledPackage
from build_torchvision.machine.report import Machine


def absent(patient: InstallationState, machine: Machine) -> Iterator[Diagnosis]:
    """TorchVision or torch is not installed."""
    environment = patient.environment
    found, torch = environment.torchvision, environment.torch
    if found is None:
        yield Diagnosis(
            name="no torchvision",
            symptom="ModuleNotFoundError: No module named 'torchvision'",
            cause=f"no folder of {', '.join(map(str, environment.paths)) or 'this environment'} holds torchvision",
            fix=fixes.matching_torchvision(machine, environment) if torch else fixes.variant_for(machine, deps=True),
        )
    elif torch is None:
        row = releases().get(found.public)
        yield Diagnosis(
            name="no torch",
            symptom="ModuleNotFoundError: No module named 'torch'",
            cause=f"torchvision {found.version} is installed and torch is not",
            fix=fixes.pip(environment, f"torch=={row.torch}" if row else "torch"),
        )


def shadowed(patient: InstallationState) -> Iterator[Diagnosis]:
    """Another torchvision folder is imported first."""
    if patient.shadow is not None:
        yield Diagnosis(
            name="shadowed",
            symptom=LOADING,
            cause=f"{patient.shadow} is imported instead of the installed TorchVision when Python starts here: "
            "a source tree has no compiled operators",
            fix="cd ..",
        )


def mixed(patient: InstallationState, found: InstalledPackage, machine: Machine) -> Iterator[Diagnosis]:
    """Two distributions in one folder."""
    others = [path for path in patient.copies if found.info and path != found.info and path.parent == found.info.parent]
    if others:
        yield Diagnosis(
            name="two installations",
            symptom=LOADING + ", or another version than pip shows",
            cause=f"{found.folder.parent} holds {len(others) + 1} torchvision distributions, whose files mix: "
            + ", ".join(path.name for path in patient.copies),
            fix=f"rm -r {shlex.join(map(str, others))} && {_again(patient, found, machine)}",
        )


def _again(patient: InstallationState, found: InstalledPackage, machine: Machine) -> str:
    return fixes.variant_for(machine) if patient.descriptor else fixes.reinstall(patient.environment, found)


def damaged(patient: InstallationState, found: InstalledPackage, machine: Machine) -> Iterator[Diagnosis]:
    """Shared objects that are missing, cut short or another platform's."""
    again = _again(patient, found, machine)
    present = {extension.name for extension in patient.extensions}
    gone = sorted(name for name in patient.recorded if ".so" in name or name.startswith("torchvision/"))
    if "_C" not in present:
        yield Diagnosis(
            name="no extension",
            symptom=LOADING,
            cause=f"{found.folder} has no _C.so: it was copied or built without its compiled part",
            fix=again,
        )
    elif gone:
        yield Diagnosis(
            name="files missing",
            symptom="cannot open shared object file / Failed to load image Python extension",
            cause=f"its RECORD lists {len(gone)} files that are not there: {', '.join(gone[:4])}",
            fix=again,
        )
    cut = [extension for extension in patient.extensions if extension.fault is not None]
    if cut:
        yield Diagnosis(
            name="damaged",
            symptom=f"{LOADING if cut[0].name == '_C' else 'Failed to load image Python extension'} / Bus error",
            cause="; ".join(f"{extension.path.name} is damaged: {extension.fault}" for extension in cut),
            fix=again,
        )
    foreign = [extension for extension in patient.extensions if extension.elf]
    foreign = [extension for extension in foreign if extension.elf and extension.elf.machine != machine.platform]
    if foreign and foreign[0].elf is not None:
        names = " and ".join(extension.path.name for extension in foreign)
        yield Diagnosis(
            name="wrong platform",
            symptom=LOADING + " / wrong ELF class or machine",
            cause=f"{names}: compiled for {foreign[0].elf.machine}, and this machine is {machine.platform}",
            fix=again,
        )

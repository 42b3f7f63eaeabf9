"""This machine against the compiled code: its C library, its processor, and the codecs that were compiled in."""

from __future__ import annotations

from collections.abc import Iterator

from build_torchvision.binary.instructions import beyond_cpu
from build_torchvision.doctor import fixes
from build_torchvision.doctor.causes.diagnosis import Diagnosis
from build_torchvision.doctor.installation import InstallationState
from build_torchvision.facts import version_key
from build_torchvision.machine.report import Machine


def too_old(patient: InstallationState, machine: Machine) -> Iterator[Diagnosis]:
    """Symbol versions that this system's libraries do not have."""
    for extension in patient.extensions:
        for library, version in extension.elf.versions if extension.elf else ():
            prefix, _, number = version.partition("_")
            if not number.replace(".", "").isdigit():
                continue
            newer = (
                machine.glibc is not None and version_key(number) > version_key(machine.glibc)
                if prefix == "GLIBC"
                else prefix in ("GLIBCXX", "CXXABI") and bool(patient.libstdcxx) and version not in patient.libstdcxx
            )
            if newer:
                has = f"glibc {machine.glibc}" if prefix == "GLIBC" else "an older libstdc++"
                yield Diagnosis(
                    name="system too old",
                    symptom=f"version `{version}' not found (required by {extension.path.name})",
                    cause=f"{extension.path.name} was built on a newer system: it wants {version} of {library}, and "
                    f"this one has {has}",
                    fix=fixes.variant_for(machine),
                )
                return


def illegal(patient: InstallationState, machine: Machine) -> Iterator[Diagnosis]:
    """Instructions that this processor does not have."""
    for extension in patient.extensions:
        if extension.scan is None or extension.scan.platform != machine.platform or not machine.cpu.features:
            continue
        beyond = beyond_cpu(extension.scan, machine.cpu.features)
        if beyond:
            name = max(beyond, key=lambda feature: beyond[feature])
            yield Diagnosis(
                name="illegal instruction",
                symptom="Illegal instruction (core dumped), SIGILL",
                cause=f"{extension.path.name} holds {beyond[name]} {name} instructions ({extension.scan.first[name]}), "
                f"and this processor ({machine.cpu.model}) has no {', '.join(sorted(beyond))}",
                fix=fixes.variant_for(machine),
            )
            return


def without_codecs(patient: InstallationState, machine: Machine) -> Iterator[Diagnosis]:
    """image.so says so itself: each codec that was left out leaves its error's text behind."""
    for extension in patient.extensions:
        if extension.missing_codecs:
            names = ", ".join(extension.missing_codecs)
            yield Diagnosis(
                name="codec missing",
                symptom=f"torchvision not compiled with {extension.missing_codecs[0]} support",
                cause=f"{extension.path.name} was built without {names}",
                fix=fixes.variant_for(machine),
            )

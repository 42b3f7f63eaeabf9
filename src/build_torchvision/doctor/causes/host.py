"""This machine against the compiled code: its C and C++ libraries, its processor, and the codecs that it has."""

from __future__ import annotations

from collections.abc import Iterator

from build_torchvision.binary.instructions import beyond_cpu
from build_torchvision.doctor import fixes
from build_torchvision.doctor.causes.diagnosis import Diagnosis
from build_torchvision.doctor.installation import InstallationState
from build_torchvision.doctor.loader import CxxRuntime
from build_torchvision.facts import version_key
from build_torchvision.machine.report import Machine


def too_old(state: InstallationState, machine: Machine) -> Iterator[Diagnosis]:
    """Symbol versions of TorchVision that this system's libraries do not have."""
    for extension in state.extensions:
        newer = _newer(extension.elf.versions if extension.elf else (), machine, state.cxx_runtime)
        if newer is not None:
            library, version, has = newer
            yield Diagnosis(
                name="system too old",
                symptom=f"version `{version}' not found (required by {extension.path.name})",
                cause=f"{extension.path.name} was built on a newer system: it wants {version} of {library}, and "
                f"this one has {has}",
                remedy=fixes.variant_for(machine, wheel_helps=state.ours),
            )
            return


def torch_too_new(state: InstallationState, machine: Machine) -> Iterator[Diagnosis]:
    """Symbol versions of torch's own libraries that this system's libraries do not have."""
    torch = state.environment.torch
    for header in state.torch_libraries:
        newer = _newer(header.versions, machine, state.cxx_runtime)
        if newer is None or torch is None:
            continue
        library, version, has = newer
        where = state.cxx_runtime.path if state.cxx_runtime and not version.startswith("GLIBC_") else None
        yield Diagnosis(
            name="system too old for torch",
            symptom=f"ImportError: version `{version}' not found (required by {header.path})",
            cause=f"torch {torch.version} was built on a newer system: {header.path.name} wants {version} of "
            f"{library}, and this one has {has}",
            remedy=_newer_cxx(state, machine, version)
            if where
            else fixes.nothing(
                f"It needs a system with glibc {version.removeprefix('GLIBC_')} or newer, or a torch built on one "
                f"like this ({machine.platform}, glibc {machine.glibc})."
            ),
        )
        return


def _newer_cxx(state: InstallationState, machine: Machine, version: str) -> fixes.Remedy:
    """A newer libstdc++: from conda where its own is loaded, else as the distribution has it."""
    runtime = state.cxx_runtime
    prefix = runtime.path.parent.parent if runtime else None
    if prefix is not None and prefix / "lib" in state.environment.library_folders:
        return fixes.run("conda", "install", "--prefix", str(prefix), "--channel", "conda-forge", "--yes", "libstdcxx")
    return fixes.nothing(
        f"Install a libstdc++.so.6 that has {version}: a newer release of the distribution has one, or conda-forge's "
        "package libstdcxx."
    )


def _newer(
    versions: tuple[tuple[str, str], ...], machine: Machine, runtime: CxxRuntime | None
) -> tuple[str, str, str] | None:
    """(library, symbol version, what is here) for the newest version that is not here; None where all are."""
    found: list[tuple[tuple[int, ...], str, str, str]] = []
    for library, version in versions:
        prefix, _, number = version.partition("_")
        parts = number.split(".")
        if not all(part.isascii() and part.isdigit() and len(part) < 6 for part in parts):
            continue
        if prefix == "GLIBC" and machine.glibc is not None and version_key(number) > version_key(machine.glibc):
            found.append((version_key(number), library, version, f"glibc {machine.glibc}"))
        elif prefix in ("GLIBCXX", "CXXABI") and runtime is not None and version not in runtime.versions:
            newest = max((one for one in runtime.versions if one.startswith(f"{prefix}_")), key=_number, default="none")
            found.append((version_key(number), library, version, f"{runtime.path}, which ends at {newest}"))
    return max(found)[1:] if found else None


def _number(version: str) -> tuple[int, ...]:
    return version_key(version.partition("_")[2].strip("."))


def illegal(state: InstallationState, machine: Machine) -> Iterator[Diagnosis]:
    """Instructions that this processor does not have."""
    for extension in state.extensions:
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
                remedy=fixes.variant_for(machine, wheel_helps=True),
            )
            return


def without_codecs(state: InstallationState, machine: Machine) -> Iterator[Diagnosis]:
    """image.so says so itself: each codec that was left out leaves its error's text behind."""
    for extension in state.extensions:
        if extension.missing_codecs:
            names = ", ".join(extension.missing_codecs)
            yield Diagnosis(
                name="codec missing",
                symptom=f"torchvision not compiled with {extension.missing_codecs[0]} support",
                cause=f"{extension.path.name} was built without {names}",
                remedy=fixes.variant_for(machine, wheel_helps=True),
            )

"""torch itself: whether its own libraries are whole, find what they need, and run on this system and processor."""

from __future__ import annotations

from collections.abc import Iterator

from build_torchvision.binary.instructions import beyond_cpu
from build_torchvision.doctor import fixes
from build_torchvision.doctor.causes import host
from build_torchvision.doctor.causes.diagnosis import Diagnosis
from build_torchvision.doctor.causes.installation import listed
from build_torchvision.doctor.installation import InstallationState
from build_torchvision.doctor.loader import UNREAD_PLATFORMS
from build_torchvision.facts.runtime_libraries import runtime_library
from build_torchvision.machine.environment import Backend, InstalledPackage
from build_torchvision.machine.report import Machine
from build_torchvision.verify.libraries import LOADERS, policies


def unloadable(state: InstallationState, torch: InstalledPackage, machine: Machine) -> Iterator[Diagnosis]:
    """What keeps `import torch` from working; nothing about a build for other hardware, whose libraries differ."""
    if state.torch_faults and machine.platform not in UNREAD_PLATFORMS:
        path, fault = state.torch_faults[0]
        yield Diagnosis(
            name="torch damaged",
            symptom="ImportError: libtorch_cpu.so: file too short / invalid ELF header",
            cause=f"{path} is damaged: {fault}",
            remedy=fixes.torch_again(machine),
        )
        return
    if state.torch_absent and machine.platform not in UNREAD_PLATFORMS:
        yield Diagnosis(
            name="torch files missing",
            symptom=f"ImportError: {state.torch_absent[0]}: cannot open shared object file: No such file or directory",
            cause=f"torch {torch.version} lacks libraries of its own, which neither {torch.folder / 'lib'} nor the "
            f"system holds: {listed(state.torch_absent)}",
            remedy=fixes.torch_again(machine),
        )
        return
    if machine.glibc is None and any("libc.so.6" in header.needed for header in state.torch_libraries):
        yield Diagnosis(
            name="no glibc",
            symptom="Error loading shared library ld-linux-x86-64.so.2: No such file or directory",
            cause=f"torch {torch.version} was built for glibc, and this system has another C library (musl?)",
            remedy=fixes.nothing(
                "PyTorch publishes no wheels for it: use a system or an image with glibc, such as one of Debian, or "
                "the distribution's own torch."
            ),
        )
        return
    if torch.kind in (Backend.CPU, Backend.CUDA):
        yield from _unfound(state, torch, machine)
    yield from host.torch_too_new(state, machine)
    yield from _illegal(state, torch, machine)


def _unfound(state: InstallationState, torch: InstalledPackage, machine: Machine) -> Iterator[Diagnosis]:
    system = frozenset(LOADERS).union(*(policy.libraries for _, policy in policies(machine.platform)))
    missing = {
        name: needing
        for name, needing in state.torch_unfound.items()
        if name not in system and not ((row := runtime_library(name)) and row.driver)
    }
    if not missing:
        return
    first = next(iter(missing))
    rows = {name: runtime_library(name) for name in missing}
    wheels = [wheel for row in rows.values() if row and (wheel := row.wheel(torch.cuda))]
    bringers = [f"{name} ({row.system})" if row else name for name, row in rows.items()]
    remedy = fixes.nothing(
        f"No package of the registry is known to bring {first}: install it from where this torch came from."
    )
    if state.environment.installer == "none":
        remedy = fixes.nothing(fixes.IN_STORE)
    elif wheels and all(row and row.package for row in rows.values()):
        remedy = fixes.libraries(machine, *dict.fromkeys(wheels))
    yield Diagnosis(
        name="torch does not load",
        symptom=f"ImportError: {first}: cannot open shared object file: No such file or directory",
        cause=f"torch {torch.version} needs {', '.join(bringers)}, which {missing[first][0]} asks for and neither its "
        "own folder, the NVIDIA packages of this environment nor the system brings",
        remedy=remedy,
    )


def _illegal(state: InstallationState, torch: InstalledPackage, machine: Machine) -> Iterator[Diagnosis]:
    found = state.torch_scan
    if found is None or found.platform != machine.platform or not machine.cpu.features:
        return
    beyond = beyond_cpu(found, machine.cpu.features)
    if not beyond:
        return
    name = max(beyond, key=lambda feature: beyond[feature])
    yield Diagnosis(
        name="illegal instruction in torch",
        symptom="Illegal instruction (core dumped), SIGILL",
        cause=f"libc10.so of torch {torch.version} holds {beyond[name]} {name} instructions ({found.first[name]}), and "
        f"this processor ({machine.cpu.model}) has no {', '.join(sorted(beyond))}: `import torch` stops there",
        remedy=fixes.nothing(
            "Which other torch runs on this processor is not known: take one that was built for it, or an earlier or "
            "later version, and let doctor look at it before it is imported."
        ),
    )

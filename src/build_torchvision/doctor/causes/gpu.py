"""GPU code and driver against this machine's GPUs (the rules are those of `compatibility`)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from build_torchvision.choose.ranking import driver_is_older
from build_torchvision.compatibility import CodegenKind, Sm, support
from build_torchvision.doctor import fixes
from build_torchvision.doctor.causes.diagnosis import NO_CUDA_KERNEL, Diagnosis
from build_torchvision.doctor.installation import DeviceCode, InstallationState
from build_torchvision.facts import gpus, toolkits, version_key
from build_torchvision.machine.environment import Backend, InstalledPackage
from build_torchvision.machine.report import GpuFound, Machine


def served(device: DeviceCode, gpu: GpuFound) -> CodegenKind | None:
    """How code with these cubins and PTX serves `gpu`."""
    images = [*(("cubin", name) for name in device.cubins), *(("ptx", name) for name in device.ptx)]
    return support(images, Sm.parse(gpu.capability))


def torch_without_code(state: InstallationState, torch: InstalledPackage, machine: Machine) -> Iterator[Diagnosis]:
    """GPUs that torch has no code for: no driver changes that."""
    if torch.kind is not Backend.CUDA:
        return
    for gpu in _kinds_of_gpu(machine):
        if not _has_code(state, gpu):
            assert state.torch_device is not None
            yield Diagnosis(
                name="torch has no code for the GPU",
                symptom="CUDA error: no kernel image is available for execution on the device",
                cause=f"torch {torch.version} holds code for {', '.join(state.torch_device.names)}, none of which runs "
                f"on {gpu.name} ({gpu.capability})",
                remedy=fixes.other_pair(machine, gpu),
            )


def unserved(state: InstallationState, torch: InstalledPackage, machine: Machine) -> Iterator[Diagnosis]:
    """A TorchVision without code for a GPU that torch has code for."""
    if torch.kind is Backend.CUDA:
        for gpu in _kinds_of_gpu(machine):
            if _has_code(state, gpu):
                yield from _torchvision(state, machine, gpu)


def _kinds_of_gpu(machine: Machine) -> Collection[GpuFound]:
    return {gpu.capability: gpu for gpu in machine.gpus}.values()


def _has_code(state: InstallationState, gpu: GpuFound) -> bool:
    """Whether torch has code for `gpu`, or it is not known what torch has."""
    return state.torch_device is None or _mostly_served(state.torch_device, gpu)


def _torchvision(state: InstallationState, machine: Machine, gpu: GpuFound) -> Iterator[Diagnosis]:
    main = state.main
    if main is None or main.elf is None:
        return
    if main.device is None and main.backend is Backend.CPU:
        yield Diagnosis(
            name="no GPU code",
            symptom=NO_CUDA_KERNEL,
            cause=f"{main.path.name} has no GPU code, and torch computes on {gpu.name} ({gpu.capability}): its tensors "
            "have no torchvision operators",
            remedy=fixes.matching_torchvision(
                machine, installed=str(state.descriptor["variant"]) if state.ours else None
            ),
        )
    elif main.device is not None and not _mostly_served(main.device, gpu):
        yield Diagnosis(
            name="no kernel image",
            symptom="CUDA error: no kernel image is available for execution on the device",
            cause=f"{main.path.name} holds code for {', '.join(main.device.names)}, none of which runs on {gpu.name} "
            f"({gpu.capability})",
            remedy=fixes.variant_for(replace(machine, gpus=(gpu,)), wheel_helps=state.ours),
        )


def _mostly_served(device: DeviceCode, gpu: GpuFound) -> bool:
    """Whether most of its kernels run on `gpu`: a few of torch's are for certain GPUs alone."""
    able = sum(
        count for group, count in device.groups.items() if served(DeviceCode(groups={group: 1}), gpu) is not None
    )
    return 2 * able >= sum(device.groups.values())


def old_driver(state: InstallationState, torch: InstalledPackage, machine: Machine) -> Iterator[Diagnosis]:
    """A driver below the floor of torch's CUDA or of a GPU that torch has code for."""
    chips = [gpu for gpu in machine.gpus if _has_code(state, gpu)]
    if torch.kind is not Backend.CUDA or not chips:
        return
    major = (torch.cuda or "").split(".")[0]
    kits = [kit for kit in toolkits().values() if kit.version.split(".")[0] == major]
    floors = [min((kit.driver for kit in kits), key=version_key)] if kits else []
    floors += [row.driver for gpu in chips if gpu.sm and (row := gpus()[gpu.sm]).driver]
    floor = max(floors, key=version_key, default=None)
    if floor is None or machine.driver is None or not driver_is_older(machine, floor):
        return
    yield Diagnosis(
        name="old driver",
        symptom="The NVIDIA driver on your system is too old / CUDA driver version is insufficient for CUDA runtime",
        cause=f"torch {torch.version} with CUDA {torch.cuda} on these GPUs needs driver {floor} or newer, and "
        f"{machine.driver} is installed",
        remedy=fixes.older_pair(machine) or fixes.driver(machine, floor),
    )

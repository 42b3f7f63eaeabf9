"""The device code of a wheel: exactly the planned images, for exactly the kernels that its host code registers."""

from __future__ import annotations

import re
from collections.abc import Mapping

from build_torchvision.codegen import Codegen, cuda_codegen
from build_torchvision.facts import gpus, version_key
from build_torchvision.proof.checks import Check
from build_torchvision.proof.elf import UNREADABLE
from build_torchvision.proof.fatbin import BadFatbin, Image, Kernel, images, kernels
from build_torchvision.variants import Variant

# What host code passes to __cudaRegisterFunction: the kernel's mangled name, as a string of its own.
REGISTERED = re.compile(rb"\0(_ZN6vision3ops[\w$]*kernel[\w$]*)(?=\0)")


def planned_image(codegen: Codegen) -> tuple[str, str]:
    """What each fat binary must hold, and nothing else: ("cubin", "sm120") or ("ptx", "sm100")."""
    (gencode,) = codegen.gencode
    number = re.sub(r"^arch=compute_(\d+),.*$", r"\1", gencode)
    return ("ptx" if codegen.kind == "ptx" else "cubin"), f"sm{number}"


def check_device_code(extensions: Mapping[str, bytes], variant: Variant) -> tuple[Check, ...]:
    """The images, the kernels and their use of the GPU, of all shared objects of a CUDA wheel."""
    codegen = cuda_codegen(variant)
    if codegen is None:
        return (_check_none(extensions),)
    name, planned = "device code", planned_image(codegen)
    found: dict[str, list[Image]] = {}
    try:
        for path, data in extensions.items():
            found[path] = [image for group in images(data) for image in group]
        listed = [kernel for group in found.values() for image in group for kernel in kernels(image)]
    except (BadFatbin, ValueError, *UNREADABLE) as error:
        return (Check(name=name, ok=False, detail=f"the device code cannot be read: {error}"),)
    problems = [
        f"{path} holds a {image.kind} for {image.sm}, where {variant} has a {planned[0]} for {planned[1]} alone"
        for path, group in found.items()
        for image in group
        if (image.kind, image.sm) != planned
    ]
    total = sum(len(group) for group in found.values())
    if not total:
        problems.append("no device code at all: the wheel was built without CUDA")
    detail = f"{total} images, each a {planned[0]} for {planned[1]} ({codegen.kind}); no other architecture"
    return (
        Check.of(name, problems, detail),
        _check_kernels(extensions, listed),
        _report(listed, codegen),
    )


def _check_none(extensions: Mapping[str, bytes]) -> Check:
    problems = [f"{path} holds device code" for path, data in extensions.items() if any(images(data, contents=False))]
    return Check.of("device code", problems, "none, as a cpu variant should have")


def _check_kernels(extensions: Mapping[str, bytes], listed: list[Kernel]) -> Check:
    registered = {name.decode() for data in extensions.values() for name in REGISTERED.findall(data)}
    present = {kernel.name for kernel in listed if "6vision3ops" in kernel.name}
    problems = [f"{name} is registered and has no device code" for name in sorted(registered - present)]
    problems += [f"{name} has device code and nothing registers it" for name in sorted(present - registered)]
    if not registered:
        problems.append("no kernel is registered")
    return Check.of("kernels", problems, f"{len(registered)} registered, each with its device code")


def _report(listed: list[Kernel], codegen: Codegen) -> Check:
    if codegen.kind == "ptx":
        return Check(name="GPU use", ok=True, detail="decided by the driver, which compiles the PTX when it is loaded")
    code = sum(kernel.code for kernel in listed)
    spilled = sorted(((kernel.stack, kernel.name) for kernel in listed if kernel.stack), reverse=True)
    stack = (
        f"{len(spilled)} keep up to {spilled[0][0]} bytes a thread on the stack" if spilled else "none uses the stack"
    )
    most = max((kernel.registers for kernel in listed), default=0)
    detail = f"{len(listed)} kernels, {code / 1024:.0f} KiB of code, at most {most} registers a thread; {stack}"
    return Check(name="GPU use", ok=True, detail=detail)


def covers(cubins: frozenset[str], ptx: frozenset[str], sm: str) -> bool:
    """Whether code with these cubins and PTX runs on `sm` (CUDA programming guide, "Application compatibility")."""
    want = version_key(gpus()[sm].capability)
    have = {name: (int(name[2:-1]), int(name[-1])) for name in cubins | ptx}
    return any(have[name][0] == want[0] and have[name] <= want for name in cubins) or any(
        have[name] <= want for name in ptx
    )

"""Check the device code of a wheel: exactly the planned images, for exactly the kernels that host code registers."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence, Set

from build_torchvision.binary.cuda_registration import registrations
from build_torchvision.binary.elf import UNREADABLE, elf_of
from build_torchvision.binary.fatbin import BadFatbin, Image, Kernel, images, kernels
from build_torchvision.flags import Codegen, cuda_codegen
from build_torchvision.variants import Variant
from build_torchvision.verify.checks import Check
from build_torchvision.verify.decoding import fetch_decoder


def check_device_code(extensions: Mapping[str, bytes], variant: Variant, *, ptx: bool = False) -> tuple[Check, ...]:
    """The images, the kernels and their use of the GPU, of all shared objects of a CUDA wheel.

    `ptx` is whether PTX was asked for beside the cubins; without it any PTX is a fault.
    """
    codegen = cuda_codegen(variant, ptx=ptx)
    if codegen is None:
        return (_check_none(extensions),)
    name, planned = "device code", codegen.images
    found: dict[str, list[list[Image]]] = {}
    try:
        for path, data in extensions.items():
            found[path] = list(images(data))
        every = [image for groups in found.values() for group in groups for image in group]
        listed = {image: kernels(image) for image in every}
    except (BadFatbin, ValueError, *UNREADABLE) as error:
        return (Check(name=name, ok=False, detail=f"the device code cannot be read: {error}"),)
    problems = [
        f"{path} holds {_shown(kind, sm)}, where {variant} has {_all_shown(planned)} alone"
        for path, groups in found.items()
        for kind, sm in sorted({(image.kind, image.sm) for group in groups for image in group} - planned)
    ]
    problems += [
        f"a fat binary of {path} lacks {_all_shown(planned - {(image.kind, image.sm) for image in group})}"
        for path, groups in found.items()
        for group in groups
        if planned - {(image.kind, image.sm) for image in group}
    ]
    if not every:
        problems.append("no device code at all: the wheel was built without CUDA")
    detail = f"{len(every)} images: {_all_shown(planned)} ({codegen.label}); no other architecture"
    return (
        Check.of(name, problems, detail),
        _check_kernels(extensions, listed),
        _report([kernel for image, group in listed.items() if image.kind == "cubin" for kernel in group], codegen),
    )


def registered_kernels(extensions: Mapping[str, bytes]) -> frozenset[str]:
    """The kernels that host code registers, by `kernel_name`: "nms_kernel_impl<float>"."""
    return frozenset(kernel_name(_demangled(name)) for name in _registered(extensions)[0])


def kernel_name(spelled: str) -> str:
    """The name and template arguments of a demangled function, without spaces.

    `void vision::ops::(anonymous namespace)::im2col_kernel<c10::Half, long>(long)` -> "im2col_kernel<c10::Half,long>".
    """
    plain = spelled.replace("(anonymous namespace)::", "")
    name, bracket, rest = re.split(r"\(", plain, maxsplit=1)[0].partition("<")
    return (re.split(r"::|\s", name.strip())[-1] + bracket + rest).replace(" ", "")


def launched(registered: Set[str], seen: Collection[str]) -> Check:
    """Of the kernels `registered_kernels` names, which ran: `seen` are all that a profiler saw on the GPU.

    It spells a kernel `void unit_nms_kernel::vision::ops::(anonymous namespace)::nms_kernel_impl<float>(int)`. Where a
    profiler is not allowed to look it sees nothing, and nothing follows. Of a kernel that exists for 32-bit and for
    64-bit indices one is enough: the operator chooses by the tensors' size.
    """
    if not seen:
        return Check.not_judged("kernels", "the profiler sees nothing of the GPU here", part="gpu")
    ran = registered & {kernel_name(name) for name in seen}
    kernel = {name: re.sub(r",(int|long)>$", ">", name) for name in registered}
    met = {kernel[name] for name in ran}
    left = {name for name in registered if kernel[name] not in met}
    spare = len(registered) - len(ran)
    rest = f"; {spare} kernels for the other index width were not exercised" if spare else ""
    return Check.of(
        "kernels",
        [f"{name} was never launched" for name in sorted(left)],
        f"{len(ran)} of {len(registered)} were launched{rest}",
        part="gpu",
    )


def _registered(extensions: Mapping[str, bytes]) -> tuple[frozenset[str], list[str]]:
    """(Mangled names of the kernels that host code registers, what could not be read of it)."""
    names, problems = frozenset[str](), []
    for path, data in extensions.items():
        fetch_decoder(elf_of(data).machine)
        found = registrations(data)
        names |= found.names
        if found.unreadable:
            problems.append(f"{path} registers {len(found.unreadable)} kernels under names that cannot be read")
    return names, problems


def _demangled(name: str) -> str:
    from torch_abi_audit.demangle import demangle_symbol  # the report of a run needs it; reading files does not

    return demangle_symbol(name)


def _shown(kind: str, sm: str) -> str:
    return f"{'PTX' if kind == 'ptx' else 'a cubin'} for {sm}"


def _all_shown(images: Set[tuple[str, str]]) -> str:
    return " and ".join(_shown(*image) for image in sorted(images))


def _check_none(extensions: Mapping[str, bytes]) -> Check:
    problems = [f"{path} holds device code" for path, data in extensions.items() if any(images(data, contents=False))]
    return Check.of("device code", problems, "none, as a cpu variant should have")


def _check_kernels(extensions: Mapping[str, bytes], listed: Mapping[Image, Sequence[Kernel]]) -> Check:
    registered, problems = _registered(extensions)
    for kind in sorted({image.kind for image in listed}):
        present = {kernel.name for image, group in listed.items() for kernel in group if image.kind == kind}
        code = "cubin" if kind == "cubin" else "PTX"
        problems += [f"{name} is registered and has no {code}" for name in sorted(registered - present)]
        problems += [f"{name} has {code} and nothing registers it" for name in sorted(present - registered)]
    if not registered:
        problems.append("no kernel is registered with the CUDA runtime")
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

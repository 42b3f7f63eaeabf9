"""The device code of a wheel: exactly the planned images, for exactly the kernels that its host code registers."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence, Set

from build_torchvision.binary.elf import UNREADABLE
from build_torchvision.binary.fatbin import BadFatbin, Image, Kernel, images, kernels
from build_torchvision.flags import Codegen, cuda_codegen
from build_torchvision.variants import Variant
from build_torchvision.verify.checks import Check

# What host code passes to __cudaRegisterFunction: the kernel's mangled name, as a string of its own. Kernels that are
# compiled together are each in a namespace of their own around upstream's (graph/units.py).
REGISTERED = re.compile(rb"\0(_ZN(?:\d+unit_\w+?)?6vision3ops[\w$]*kernel[\w$]*)(?=\0)")


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
    """The kernels that host code registers, as a profiler spells them, without arguments: "nms_kernel_impl<float>"."""
    return frozenset(plain_name(name) for data in extensions.values() for name in _registered(data))


def launched(registered: Set[str], seen: Collection[str]) -> Check:
    """Of the kernels `registered_kernels` names, which ran: `seen` are all that a profiler saw on the GPU.

    It spells a kernel `void unit_nms_kernel::vision::ops::(anonymous namespace)::nms_kernel_impl<float>(int)`. Where a
    profiler is not allowed to look it sees nothing, and nothing follows. Of a kernel that exists for 32-bit and for
    64-bit indices one is enough: the operator chooses by the tensors' size.
    """
    if not seen:
        return Check(name="kernels", ok=True, detail="not observed: the profiler sees nothing of the GPU here")
    spelled = (match[0].replace(" ", "") for name in seen for match in re.finditer(r"\w*kernel\w*(<[^<>]*>)?", name))
    ran = registered & set(spelled)
    kernel = {name: re.sub(r",(int|long)>$", ">", name) for name in registered}
    met = {kernel[name] for name in ran}
    left = {name for name in registered if kernel[name] not in met}
    spare = len(registered) - len(ran)
    rest = f"; of {spare} more, for the other width of indices, nothing was asked" if spare else ""
    return Check.of(
        "kernels",
        [f"{name} was never launched" for name in sorted(left)],
        f"{len(ran)} of {len(registered)} were launched{rest}",
    )


def _registered(data: bytes) -> list[str]:
    return [name.decode() for name in REGISTERED.findall(data)]


_TYPES = {"f": "float", "d": "double", "i": "int", "l": "long", "N3c104HalfE": "c10::Half"}


def plain_name(mangled: str) -> str:
    """`_ZN6vision3ops12_GLOBAL__N_115nms_kernel_implIfEEvidPKT_Py` -> `nms_kernel_impl<float>` (Itanium C++ ABI)."""
    rest, name = mangled.removeprefix("_ZN"), mangled
    while found := re.match(r"\d+", rest):
        start, size = found.end(), int(found[0])
        name, rest = rest[start : start + size], rest[start + size :]
    types = re.match(rf"I((?:{'|'.join(_TYPES)})+)E", rest)
    if types is None:
        return name
    return f"{name}<{','.join(_TYPES[code] for code in re.findall('|'.join(_TYPES), types[1]))}>"


def _shown(kind: str, sm: str) -> str:
    return f"{'PTX' if kind == 'ptx' else 'a cubin'} for {sm}"


def _all_shown(images: Set[tuple[str, str]]) -> str:
    return " and ".join(_shown(*image) for image in sorted(images))


def _check_none(extensions: Mapping[str, bytes]) -> Check:
    problems = [f"{path} holds device code" for path, data in extensions.items() if any(images(data, contents=False))]
    return Check.of("device code", problems, "none, as a cpu variant should have")


def _check_kernels(extensions: Mapping[str, bytes], listed: Mapping[Image, Sequence[Kernel]]) -> Check:
    registered = {name for data in extensions.values() for name in _registered(data)}
    problems: list[str] = []
    for kind in sorted({image.kind for image in listed}):
        present = {
            kernel.name
            for image, group in listed.items()
            for kernel in group
            if image.kind == kind and "6vision3ops" in kernel.name
        }
        code = "cubin" if kind == "cubin" else "PTX"
        problems += [f"{name} is registered and has no {code}" for name in sorted(registered - present)]
        problems += [f"{name} has {code} and nothing registers it" for name in sorted(present - registered)]
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

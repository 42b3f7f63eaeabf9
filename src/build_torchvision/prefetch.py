"""Everything that building and verifying variants needs, fetched and checked ahead of time."""

from __future__ import annotations

import shutil

from build_torchvision.errors import MissingInput
from build_torchvision.inputs.compiler import cross_package
from build_torchvision.inputs.emulator import PROCESSORS, QEMU_PACKAGE, emulator, is_foreign, qemu_names
from build_torchvision.inputs.resolve import BuildRequest, check_buildable, parts_of, resolve_inputs
from build_torchvision.inputs.source import fetch_source


def prepare(request: BuildRequest) -> list[tuple[str, str]]:
    """Fetch and check all that building and verifying `request`'s variants needs. Returns (what, where) pairs.

    Raises MissingInput naming every missing tool in one command.
    """
    check_buildable(request.variants, request.release)
    _check_tools(request)
    found: list[tuple[str, str]] = []
    for part in parts_of(request):
        inputs, first = resolve_inputs(part), part.variants[0]
        compiler, sysroot = inputs.compiler, inputs.codecs.sysroot
        found += [
            (f"{first.platform} compiler", f"{compiler.family} {compiler.version}, {compiler.linker[0]} links"),
            (f"{first.platform} codecs", str(sysroot.root) if sysroot else "this machine's"),
            (f"{first.platform} torch {inputs.torch.version}", str(inputs.torch.root)),
        ]
        found += [(f"CUDA {inputs.cuda.version}", str(inputs.cuda.root))] if inputs.cuda else []
        if is_foreign(first.platform) and first.isa in PROCESSORS:
            for python in dict.fromkeys(variant.python for variant in part.variants):
                found.append((f"{first.platform} Python {python}", str(emulator(first.platform, python).interpreter)))
    return [*dict.fromkeys(found), ("source", str(fetch_source(request.release, request.source).root))]


def _check_tools(request: BuildRequest) -> None:
    """Every package of this machine that a foreign platform needs, at once."""
    missing: dict[str, str] = {}
    for platform in dict.fromkeys(v.platform for v in request.variants if is_foreign(v.platform)):
        if request.cc_prefix is None and shutil.which(f"{platform}-linux-gnu-g++") is None:
            missing[cross_package(platform)] = f"{platform}-linux-gnu-g++"
        if not any(shutil.which(name) for name in qemu_names(platform)):
            missing[QEMU_PACKAGE] = qemu_names(platform)[0]
    if missing:
        raise MissingInput(
            f"Prepare {', '.join(map(str, request.variants))}",
            f"{' and '.join(missing.values())} {'is' if len(missing) == 1 else 'are'} not on this machine.",
            f"Run `sudo apt-get install {' '.join(missing)}`.",
        )

"""Everything that building and verifying variants needs, fetched and checked ahead of time."""

from __future__ import annotations

import shutil

from build_torchvision.errors import MissingInput
from build_torchvision.inputs.cache import check_cache
from build_torchvision.inputs.codecs import Codecs
from build_torchvision.inputs.compiler import cross_package
from build_torchvision.inputs.emulator import PROCESSORS, QEMU_PACKAGE, emulator, is_foreign, qemu_names
from build_torchvision.inputs.resolve import BuildRequest, check_buildable, glibc_of, parts_of, resolve_inputs
from build_torchvision.inputs.source import fetch_source


def prepare(request: BuildRequest) -> list[tuple[str, str]]:
    """Fetch and check all that building and verifying `request`'s variants needs. Returns (what, where) pairs.

    Raises MissingInput naming every missing tool in one command.
    """
    check_buildable(request.variants, request.release, torch_named=request.torch is not None)
    check_cache()
    _check_tools(request)
    found: list[tuple[str, str]] = []
    for part in parts_of(request):
        inputs, first = resolve_inputs(part), part.variants[0]
        compiler = inputs.compiler
        linker = f"lld for glibc {compiler.glibc}" if compiler.toolchain else compiler.linker[0]
        found += [
            (f"{first.platform} compiler", f"{compiler.family} {compiler.version}, {linker} links"),
            (f"{first.platform} codecs", _where(inputs.codecs)),
            (f"{first.platform} torch {inputs.torch.version}", str(inputs.torch.root)),
        ]
        found += [(f"CUDA {inputs.cuda.version}", str(inputs.cuda.root))] if inputs.cuda else []
        if is_foreign(first.platform) and first.isa in PROCESSORS:
            for python in dict.fromkeys(variant.python for variant in part.variants):
                found.append((f"{first.platform} Python {python}", str(emulator(first.platform, python).interpreter)))
    return [*dict.fromkeys(found), ("source", str(fetch_source(request.release, request.source).root))]


def _where(codecs: Codecs) -> str:
    if codecs.sources:
        return ", ".join(f"{name} {version}" for name, version in codecs.versions.items())
    return str(codecs.sysroot.root) if codecs.sysroot else "this machine's"


def _check_tools(request: BuildRequest) -> None:
    """Every package of this machine that a foreign platform needs, at once."""
    missing: dict[str, str] = {}
    for platform in dict.fromkeys(v.platform for v in request.variants if is_foreign(v.platform)):
        local = glibc_of(request) == "host"
        if local and request.cc_prefix is None and shutil.which(f"{platform}-linux-gnu-g++") is None:
            missing[cross_package(platform)] = f"{platform}-linux-gnu-g++"
        if not any(shutil.which(name) for name in qemu_names(platform)):
            missing[QEMU_PACKAGE] = qemu_names(platform)[0]
    if missing:
        raise MissingInput(
            f"Prepare {', '.join(map(str, request.variants))}",
            f"{' and '.join(missing.values())} {'is' if len(missing) == 1 else 'are'} not on this machine.",
            f"Run `sudo apt-get install {' '.join(missing)}`.",
        )

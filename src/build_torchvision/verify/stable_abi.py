"""Check that modules of a stable-ABI release use nothing of torch but its stable C interface.

The judgement is torch-abi-audit's, the tool that upstream shows in its own pull requests. TORCH_TARGET_VERSION leaves
no mark in a binary, so the undefined symbols are the only evidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from build_torchvision.binary.elf import Elf
from build_torchvision.facts import Release
from build_torchvision.verify.checks import Check

if TYPE_CHECKING:
    from torch_abi_audit import TorchABIVerdict

SHIM_PREFIXES = ("aoti_torch_", "torch_")
"""Torch's stable C functions (torch/csrc/stable/c/shim.h, torch/csrc/inductor/aoti_torch/c/shim.h)."""


def uses_stable_shims(elf: Elf) -> bool:
    """Whether a module calls torch's stable C functions."""
    return any(symbol.name.startswith(SHIM_PREFIXES) for symbol in elf.undefined)


def check_stable_abi(modules: Mapping[str, Elf], release: Release) -> Check | None:
    """The verdict on every module of a release with the stable ABI; None for any other release.

    Each module must use stable symbols alone, and none that is newer than the oldest torch that the release admits. A
    module of a user's own source that is none of the release's (from the months in which upstream moved to the stable
    ABI unit by unit) is named and not judged.
    """
    if not release.stable_abi:
        return None
    if find_spec("torch_abi_audit") is None:
        return Check.not_judged("stable ABI", "torch-abi-audit is not installed here")
    oldest = _oldest(release)
    problems: list[str] = []
    shown: list[str] = []
    unknown: list[str] = []
    for path, elf in modules.items():
        verdict = _verdict(elf)
        if verdict.unstable_symbols and PurePosixPath(path).stem not in release.extensions:
            count = len(verdict.unstable_symbols)
            shown.append(f"{path} is none of the release's modules and works beside one torch only ({count} unstable)")
            continue
        if not verdict.uses_torch:
            problems.append(f"{path} uses no symbol of torch")
        if verdict.unstable_symbols:
            count, first = len(verdict.unstable_symbols), verdict.unstable_symbols[0]
            problems.append(
                f"{path} uses {count} unstable symbols of torch, such as {first}: some unit was compiled without "
                "TORCH_TARGET_VERSION, so the module works beside one torch only"
            )
        needed = verdict.min_torch_version
        if needed is not None and oldest is not None and Version(needed) > oldest:
            names = ", ".join(verdict.version_defining_symbols[:3])
            problems.append(f"{path} needs torch {needed} or newer ({names}); the release admits {oldest}")
        unknown += verdict.unknown_shim_symbols
        shown.append(f"{path}: {verdict.stable_shim_count} shim symbols, 0 unstable, oldest torch {needed or 'any'}")
    if unknown:
        shown.append(f"{len(unknown)} shim symbols are newer than torch-abi-audit's table: {', '.join(unknown[:3])}")
    return Check.of("stable ABI", problems, "; ".join(shown))


def _verdict(elf: Elf) -> TorchABIVerdict:
    from torch_abi_audit.demangle import demangle_symbol
    from torch_abi_audit.torch_abi import classify_symbols

    return classify_symbols([demangle_symbol(symbol.name) for symbol in elf.undefined])


def _oldest(release: Release) -> Version | None:
    """The oldest torch that the release's requirement admits."""
    parts = SpecifierSet(release.torch_requirement)
    return max((Version(part.version) for part in parts if part.operator in (">=", "==")), default=None)

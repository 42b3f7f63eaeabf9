"""Find the pinned programs: installed beside this one, or fetched from the package registry when first needed."""

from __future__ import annotations

import hashlib
import importlib.util
import platform as host
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from build_torchvision.facts.pinned_wheels import PinnedWheel
from build_torchvision.facts.programs import program_wheels
from build_torchvision.inputs.cache import cache_dir
from build_torchvision.inputs.pinned import unpack_pinned

ZIG, HEADERS = "ziglang/zig", "clang_tidy/data/lib/clang"


class PinnedClang(NamedTuple):
    """`zig` is the program, `headers` the folder that has clang's headers by major version."""

    zig: Path
    headers: Path


def pinned_clang() -> PinnedClang:
    """The clang of facts/programs.toml: about 145 MB are fetched once, checked by digest, and kept in the cache.

    Raises FetchFailed where the registry does not serve it, CannotWrite where the cache has no room.
    """
    zig, headers = _installed("ziglang", ZIG), _installed("clang-tidy", HEADERS)
    if zig is not None and headers is not None:
        return PinnedClang(zig, headers)
    hint = "Check the network and pip's configuration, or take this machine's: --compiler gcc --glibc host."
    tree = _fetched("clang", ("ziglang", "clang-tidy"), (ZIG,), hint)
    return PinnedClang(tree / ZIG, tree / HEADERS)


def uv() -> Path:
    """The uv of facts/programs.toml, or the one that is installed beside this program. Raises as `pinned_clang`."""
    try:
        from uv import find_uv_bin

        return Path(find_uv_bin())
    except (ImportError, FileNotFoundError):
        program = f"uv-{program_wheels()['uv'].version}.data/scripts/uv"
        return _fetched("uv", ("uv",), (program,), "Check the network and pip's configuration.") / program


def aarch64_decoder() -> None:
    """Make capstone, which decodes AArch64, importable: the installed one, else the pinned one, 3 MB to fetch.

    Raises as `pinned_clang`.
    """
    if importlib.util.find_spec("capstone") is None:
        hint = (
            "Check the network and pip's configuration, or install it beforehand: pip install 'build-torchvision[arm]'."
        )
        sys.path.append(str(_fetched("capstone", ("capstone",), (), hint)))  # processes that are spawned get it too


def _installed(package: str, path: str) -> Path | None:
    """`path` in the package, where its pinned version is installed beside this program."""
    import importlib.metadata  # with it the parser of e-mail headers: slow to import

    try:
        found = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return None
    place = Path(str(found.locate_file(path)))
    return place if found.version == program_wheels()[package].version and place.exists() else None


def _fetched(name: str, packages: Sequence[str], programs: Sequence[str], hint: str) -> Path:
    """The folder in the cache that holds the kept files of `packages`; of them `programs` can be run."""
    wheels, platform = [program_wheels()[package] for package in packages], host.machine()
    pins = hashlib.sha256(repr([(wheel.keep, wheel.records[platform]) for wheel in wheels]).encode()).hexdigest()
    entry = cache_dir() / "programs" / f"{name}-{platform}-{pins[:16]}"
    return unpack_pinned(entry, wheels, _place, platform=platform, programs=programs, hint=hint)


def _place(wheel: PinnedWheel, name: str) -> str | None:
    """The same path in the tree, for kept files and folders only."""
    return name if any(name == path or name.startswith(f"{path}/") for path in wheel.keep) else None

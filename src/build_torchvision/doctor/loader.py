"""Find shared libraries as the dynamic loader would, and read what a library asks of it, without loading anything.

The order is ld.so's, as far as files tell it: the library's own run paths, the interpreter's (conda's Pythons have
one), LD_LIBRARY_PATH, and the system's folders.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from build_torchvision.binary.elf import UNREADABLE, read_header
from build_torchvision.machine.environment import PythonEnvironment
from build_torchvision.reading import is_file, names_in, read_text

DAMAGED = (*UNREADABLE, ValueError, OverflowError, AttributeError, MemoryError, RecursionError)
"""What reading a damaged ELF file may raise."""
UNREAD_PLATFORMS = ("armv6l", "armv7l", "armv8l", "i386", "i686", "s390x")
"""Where libraries are 32-bit or big-endian, which this program does not read: nothing is said of them."""
LIMIT = 1 << 30
"""Bytes: a larger extension is not TorchVision's."""
_ENTRIES = 4096
_MAGIC = {
    b"MZ": "a Windows library (PE)",
    b"\xcf\xfa\xed\xfe": "a macOS library (Mach-O)",
    b"\xce\xfa\xed\xfe": "a macOS library (Mach-O)",
    b"\xca\xfe\xba\xbe": "a macOS library (Mach-O, universal)",
}


@dataclass(frozen=True, kw_only=True)
class Header:
    """A library of torch, and what it asks of the loader."""

    path: Path
    needed: tuple[str, ...]
    run_paths: tuple[str, ...]
    versions: tuple[tuple[str, str], ...]
    """(library, symbol version) pairs that the loader insists on."""


def read_library(path: Path) -> Header | str:
    """The header of the library at `path`, of any size; a sentence where it is no whole ELF file."""
    foreign = foreign_format(path)
    if foreign:
        return foreign
    if not is_file(path):  # a pipe would wait for ever
        return "no regular file"
    try:
        found = read_header(path)
    except (OSError, *DAMAGED) as error:
        return str(error) or type(error).__name__
    return Header(path=path, needed=found.needed, run_paths=found.run_paths, versions=found.versions)


def foreign_format(path: Path) -> str | None:
    """Another system's format, by the first bytes: "a Windows library (PE)"; None for everything else."""
    with suppress(OSError):
        if is_file(path):
            with path.open("rb") as stream:
                head = stream.read(4)
            return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)
    return None


@dataclass(frozen=True, kw_only=True)
class Loader:
    """Where libraries are looked for in one environment. `loaded` are those that torch has loaded by then."""

    loaded: frozenset[str]
    folders: tuple[Path, ...]

    def find(self, name: str, folder: Path, run_paths: tuple[str, ...]) -> Path | None:
        """The library `name` for an object in `folder` with these run paths; None where the loader finds none."""
        own = [
            Path(entry.replace("${ORIGIN}", str(folder)).replace("$ORIGIN", str(folder)))
            for text in run_paths
            for entry in text.split(":")[:_ENTRIES]
            if entry
        ]
        return next((path / name for path in (*own, *self.folders) if is_file(path / name)), None)


def loader_of(environment: PythonEnvironment, variables: Mapping[str, str]) -> Loader:
    """The loader of an environment's Python, started with the environment variables `variables`."""
    paths = [Path(entry) for entry in variables.get("LD_LIBRARY_PATH", "").split(":") if entry]
    return Loader(
        loaded=frozenset(_loaded(environment)), folders=(*environment.library_folders, *paths, *system_folders())
    )


def _loaded(environment: PythonEnvironment) -> Iterator[str]:
    """Libraries that importing torch brings: its own, and those of the packages that it looks into."""
    if environment.torch is None:
        return
    folders = [environment.torch.folder / "lib"]
    for path in environment.paths:
        folders += [path / "nvidia" / name / lib for name in names_in(path / "nvidia") for lib in ("lib", "lib64")]
        rocm = [name for name in names_in(path) if name.startswith("_rocm_sdk_")]
        folders += [path / name / lib for name in rocm for lib in ("lib", "lib64", "lib/llvm/lib")]
    for folder in folders:
        yield from (name for name in names_in(folder) if ".so" in name)


@cache
def system_folders() -> tuple[Path, ...]:
    """The loader's own folders and those of /etc/ld.so.conf.d."""
    roots = [Path(root, lib) for root in ("/", "/usr", "/usr/local") for lib in ("lib", "lib64")]
    folders = [*roots]
    for root in roots:
        folders += [root / name for name in names_in(root) if name.endswith(("-linux-gnu", "-linux-gnueabihf"))]
    for name in names_in(Path("/etc/ld.so.conf.d")):
        text = read_text(Path("/etc/ld.so.conf.d") / name) or ""
        folders += [Path(line) for line in text.split() if line.startswith("/")]
    return tuple(dict.fromkeys(folders))


@dataclass(frozen=True, kw_only=True)
class CxxRuntime:
    """The C++ library that an environment loads, and the symbol versions that it has."""

    path: Path
    versions: frozenset[str]


def cxx_runtime(environment: PythonEnvironment, loader: Loader) -> CxxRuntime | None:
    """The libstdc++.so.6 that torch's libraries load; None where none was found."""
    folder = environment.torch.folder / "lib" if environment.torch else Path("/")
    path = loader.find("libstdc++.so.6", folder, ("$ORIGIN",))
    if path is None:
        return None
    with suppress(OSError):
        if path.stat().st_size <= LIMIT:
            found = re.findall(rb"\0((?:GLIBCXX|CXXABI)_[0-9.]+)(?=\0)", path.read_bytes())
            if found:
                return CxxRuntime(path=path, versions=frozenset(version.decode() for version in found))
    return None

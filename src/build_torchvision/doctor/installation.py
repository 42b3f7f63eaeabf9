"""An environment's TorchVision and torch as the loader will meet them: read from files, nothing loaded or run.

Of libtorch's large libraries only symbol tables and the headers of fat binaries are read, through a memory map.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PathDistribution
from pathlib import Path
from typing import Any

from build_torchvision.binary.elf import Elf, NotElf, defined_symbols, read_elf
from build_torchvision.binary.fatbin import BadFatbin, images
from build_torchvision.binary.instructions import Scan, scan
from build_torchvision.facts import PLATFORMS
from build_torchvision.machine.environment import PythonEnvironment, descriptor, distributions
from build_torchvision.verify.libraries import CUDART, TORCH, TORCH_CUDA

TRIPLETS = tuple(f"{platform}-linux-gnu" for platform in PLATFORMS)
EXTENSIONS = ("_C", "image")
_NOT_COMPILED = re.compile(rb"\b(?:de|en)code_(?:jpeg|png|webp): torchvision not compiled with (\w+) support", re.I)


@dataclass(frozen=True, kw_only=True)
class DeviceCode:
    """GPU code of a library: how many fat binaries have exactly these (cubins' SMs, PTX's SMs)."""

    groups: Mapping[tuple[frozenset[str], frozenset[str]], int]

    @property
    def cubins(self) -> frozenset[str]:
        return frozenset().union(*(cubins for cubins, _ in self.groups))

    @property
    def ptx(self) -> frozenset[str]:
        return frozenset().union(*(ptx for _, ptx in self.groups))


@dataclass(frozen=True, kw_only=True)
class InstalledExtension:
    """One of TorchVision's shared objects. `elf` and what follows are None where it is no whole ELF file: `fault`."""

    name: str
    path: Path
    fault: str | None = None
    elf: Elf | None = None
    unfound: tuple[str, ...] = ()
    """Needed libraries that the loader would find nowhere: not among torch's, nor by run paths, nor in the system's."""
    scan: Scan | None = None
    device: DeviceCode | None = None
    missing_codecs: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class InstallationState:
    """What `doctor` looks at."""

    environment: PythonEnvironment
    copies: tuple[Path, ...]
    """Metadata folders of every TorchVision that Python could find here, the one in use first."""
    shadow: Path | None
    """A torchvision folder that is imported before the environment's, when Python is started in the current folder."""
    requirement: str | None
    """What its metadata asks of torch, such as "==2.6.0"."""
    descriptor: Mapping[str, Any]
    recorded: frozenset[str]
    """Files that RECORD lists and that are not there."""
    extensions: tuple[InstalledExtension, ...]
    bundled: Mapping[str, frozenset[str]]
    """Library in torchvision.libs -> the symbols it brings."""
    torch_symbols: Mapping[str, frozenset[str]]
    """Library of torch -> the symbols it brings."""
    torch_device: DeviceCode | None
    libstdcxx: frozenset[str]
    """GLIBCXX and CXXABI versions of the libstdc++ that will be loaded; empty where none was found."""

    @property
    def built_for(self) -> str | None:
        """The version of torch that the descriptor names: of a wheel, or of a Nix build, which has it as a string."""
        named = self.descriptor.get("torch")
        found = named.get("version") if isinstance(named, Mapping) else named
        return str(found) if found else None

    @property
    def built_with_cuda(self) -> str | None:
        """The CUDA version of that torch, where this TorchVision has GPU code of ours."""
        named = self.descriptor.get("torch")
        if isinstance(named, Mapping):
            return str(named["cuda"]) if self.descriptor.get("cuda") and named.get("cuda") else None
        return str(self.descriptor["torch_cuda"]) if self.descriptor.get("gencode") else None


def inspect_installation(environment: PythonEnvironment, cwd: Path) -> InstallationState:
    """Read what is installed in `environment`. Raises nothing about it: what is wrong is for the diagnosis."""
    found = environment.torchvision
    info = found.info if found else None
    torch_lib = environment.torch.folder / "lib" if environment.torch else None
    site = found.folder.parent if found else None
    loaded = frozenset(_names(torch_lib)) if torch_lib else frozenset[str]()
    return InstallationState(
        environment=environment,
        copies=tuple(path for _, path in distributions("torchvision", environment.paths)),
        shadow=_shadow(cwd, found.folder if found else None),
        requirement=_requirement(info),
        descriptor=descriptor(info),
        recorded=frozenset(_absent(info)),
        extensions=tuple(_extensions(found.folder, loaded)) if found else (),
        bundled=dict(_bundled(site / "torchvision.libs")) if site else {},
        torch_symbols=dict(_symbols(torch_lib)) if torch_lib else {},
        torch_device=device_code(torch_lib / "libtorch_cuda.so") if torch_lib else None,
        libstdcxx=_libstdcxx(environment),
    )


def _shadow(cwd: Path, own: Path | None) -> Path | None:
    folder = cwd / "torchvision"
    try:
        return folder if (folder / "__init__.py").is_file() and (own is None or not folder.samefile(own)) else None
    except OSError:
        return folder


def _requirement(info: Path | None) -> str | None:
    if info is None:
        return None
    for text in PathDistribution(info).requires or ():
        match = re.fullmatch(r"torch\s*\(?([<>=!~][^;)]*?)\)?\s*", text)
        if match:
            return match[1].strip()
    return None


def _absent(info: Path | None) -> Iterator[str]:
    """What RECORD lists of shared objects and Python files, and is not there."""
    if info is None:
        return
    for path in PathDistribution(info).files or ():
        name = str(path)
        if re.search(r"\.(so|py)(\.\d+)*$", name) and not (info.parent / name).exists():
            yield name


def _extensions(folder: Path, loaded: frozenset[str]) -> Iterator[InstalledExtension]:
    """TorchVision's own shared objects; `loaded` are the libraries that importing torch brings."""
    for path in sorted(folder.glob("*.so")):
        name = path.name.partition(".")[0].removesuffix("_stable")
        if name not in EXTENSIONS:
            continue
        try:
            data = path.read_bytes()
            elf = read_elf(data)
        except (OSError, NotElf) as error:
            yield InstalledExtension(name=name, path=path, fault=str(error))
            continue
        yield InstalledExtension(
            name=name,
            path=path,
            elf=elf,
            unfound=tuple(name for name in elf.needed if name not in loaded and not _findable(name, elf, folder)),
            scan=scan(elf.code, elf.machine) if elf.machine in PLATFORMS else None,
            device=device_code(path),
            missing_codecs=tuple(sorted({match.decode().lower() for match in _NOT_COMPILED.findall(data)})),
        )


def _findable(name: str, elf: Elf, folder: Path) -> bool:
    """Whether the loader finds library `name` for an object in `folder`: by its run paths or the system's."""
    own = [
        Path(entry.replace("${ORIGIN}", str(folder)).replace("$ORIGIN", str(folder)))
        for _, text in elf.run_paths
        for entry in text.split(":")
        if entry
    ]
    return any((path / name).exists() for path in (*own, *_system_folders()))


@cache
def _system_folders() -> tuple[Path, ...]:
    """The loader's own folders and those of /etc/ld.so.conf.d."""
    folders = [Path(root, lib) for root in ("/", "/usr", "/usr/local") for lib in ("lib", "lib64")]
    folders += [Path(root, "lib", triplet) for root in ("/", "/usr") for triplet in TRIPLETS]
    for listing in sorted(Path("/etc/ld.so.conf.d").glob("*.conf")):
        with suppress(OSError):
            folders += [Path(line) for line in listing.read_text(errors="replace").split() if line.startswith("/")]
    return tuple(folders)


def _bundled(folder: Path) -> Iterator[tuple[str, frozenset[str]]]:
    for path in sorted(folder.glob("*.so*")):
        try:
            yield path.name, defined_symbols(path)
        except (OSError, NotElf):
            continue


def _symbols(lib: Path) -> Iterator[tuple[str, frozenset[str]]]:
    for name in (*TORCH, *TORCH_CUDA, "libtorch_python.so"):
        path = lib / name
        if name != CUDART and path.is_file():
            with suppress(OSError, NotElf):
                yield name, defined_symbols(path)


def _names(lib: Path) -> Iterator[str]:
    for folder in (lib, *lib.parent.parent.glob("nvidia/*/lib"), *lib.parent.parent.glob("nvidia/*/lib64")):
        if folder.is_dir():
            yield from (path.name for path in folder.iterdir() if ".so" in path.name)


def device_code(path: Path) -> DeviceCode | None:
    """The GPU code of the library at `path`: a tenth of a CPU second for 450 MB."""
    groups: dict[tuple[frozenset[str], frozenset[str]], int] = {}
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for group in images(data, contents=False):
                kinds = {
                    kind: frozenset(image.sm for image in group if image.kind == kind) for kind in ("cubin", "ptx")
                }
                key = kinds["cubin"], kinds["ptx"]
                groups[key] = groups.get(key, 0) + 1
    except (OSError, ValueError, BadFatbin):
        return None
    return DeviceCode(groups=groups) if groups else None


def _libstdcxx(environment: PythonEnvironment) -> frozenset[str]:
    """The symbol versions of the C++ library that this Python loads: its prefix's own (conda), else the system's."""
    prefix = environment.executable.absolute().parent.parent
    for path in (folder / "libstdc++.so.6" for folder in (prefix / "lib", *_system_folders())):
        with suppress(OSError):
            found = re.findall(rb"\0((?:GLIBCXX|CXXABI)_[0-9.]+)(?=\0)", path.read_bytes())
            if found:
                return frozenset(version.decode() for version in found)
    return frozenset()

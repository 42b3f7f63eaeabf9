"""Inspect an installed torch and TorchVision on disk, without importing them.

Of libtorch's large libraries only headers, symbol tables and the headers of fat binaries are read.
"""

from __future__ import annotations

import mmap
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from build_torchvision.binary.elf import Elf, NotElf, defined_symbols, read_elf
from build_torchvision.binary.fatbin import BadFatbin, images
from build_torchvision.binary.instructions import Scan, can_decode, scan
from build_torchvision.compatibility import Sm
from build_torchvision.doctor.loader import (
    DAMAGED,
    LIMIT,
    CxxRuntime,
    Header,
    Loader,
    cxx_runtime,
    foreign_format,
    loader_of,
    read_library,
)
from build_torchvision.machine.distributions import (
    MOST_REQUIREMENTS,
    Distribution,
    applies,
    find_distributions,
    parsed_requirement,
)
from build_torchvision.machine.environment import Backend, InstalledPackage, PythonEnvironment, descriptor
from build_torchvision.machine.search_path import Folder
from build_torchvision.reading import is_file, names_in, real
from build_torchvision.verify.libraries import CUDART, TORCH, TORCH_CUDA

EXTENSIONS = ("_C", "image")
SUFFIXES = (".so", ".pyd", ".dylib")
IMPORT_NAMES = {"pillow": "PIL", "typing-extensions": "typing_extensions", "pyyaml": "yaml"}
"""Distribution -> the package that it brings, where the names differ."""
_NOT_COMPILED = re.compile(rb"\b(?:de|en)code_(?:jpeg|png|webp): torchvision not compiled with (\w+) support", re.I)
_BRINGS_LIBRARIES = ("nvidia-", "cuda-", "triton", "pytorch-triton", "intel-", "rocm", "amd-", "mkl", "onemkl", "tbb")
"""What torch requires for its libraries' sake: whether these are there is judged by the libraries."""
_TOOLKIT = re.compile(rb"Cuda compilation tools, release (\d+\.\d+)")
_CUDA = ("libcudart.so", "libc10_cuda.so", "libtorch_cuda.so")
_ROCM = ("libamdhip64.so", "libc10_hip.so", "libtorch_hip.so")
_FAT_BINARIES = 20_000


@dataclass(frozen=True, kw_only=True)
class DeviceCode:
    """GPU code of a library: how many fat binaries have exactly these (cubins' SMs, PTX's SMs)."""

    groups: Mapping[tuple[frozenset[str], frozenset[str]], int]

    @property
    def cubins(self) -> frozenset[str]:
        """SMs that any fat binary has a cubin for."""
        return frozenset().union(*(cubins for cubins, _ in self.groups))

    @property
    def ptx(self) -> frozenset[str]:
        """SMs that any fat binary has PTX of."""
        return frozenset().union(*(ptx for _, ptx in self.groups))

    @property
    def names(self) -> list[str]:
        """All of it by rising compute capability, the PTX last: "sm90", "sm100", "sm120", "sm120 PTX"."""
        return [*sorted(self.cubins, key=Sm.parse), *(f"{sm} PTX" for sm in sorted(self.ptx, key=Sm.parse))]


@dataclass(frozen=True, kw_only=True)
class InstalledExtension:
    """One of TorchVision's shared objects. `elf` and what follows are None where it is no whole ELF file: `fault`."""

    name: str
    path: Path
    fault: str | None = None
    foreign: bool = False
    """Whether `fault` is that it is a library of another system (Windows, macOS)."""
    elf: Elf | None = None
    unfound: tuple[str, ...] = ()
    """Needed libraries that the loader would find nowhere: not among torch's, nor by run paths, nor in the system's."""
    scan: Scan | None = None
    device: DeviceCode | None = None
    toolkit: str | None = None
    """The CUDA toolkit that made its GPU code, by the code itself ("12.8")."""
    missing_codecs: tuple[str, ...] = ()

    @property
    def platform(self) -> str | None:
        """The platform that it was compiled for."""
        return self.elf.machine if self.elf else None

    @property
    def cuda_libraries(self) -> tuple[str, ...]:
        """The CUDA libraries that it needs, such as libcudart.so.12."""
        return tuple(sorted(name for name in self.elf.needed if name.startswith(_CUDA))) if self.elf else ()

    @property
    def cudart(self) -> str | None:
        """The CUDA major version that it is linked with ("12"), by the library that it needs."""
        names = [name.rpartition(".so.")[2] for name in self.cuda_libraries if name.startswith("libcudart.so.")]
        return names[0].split(".")[0] if names else None

    @property
    def backend(self) -> Backend | None:
        """What it is built for; None where it cannot be read."""
        if self.elf is None:
            return None
        if self.cuda_libraries or self.device is not None:
            return Backend.CUDA
        return Backend.ROCM if any(name.startswith(_ROCM) for name in self.elf.needed) else Backend.CPU


@dataclass(frozen=True, kw_only=True)
class InstallationState:
    """What `doctor` looks at."""

    environment: PythonEnvironment
    copies: tuple[Path, ...]
    """Metadata of every TorchVision in the folder of the one in use, its own first."""
    shadow: Path | None
    """A torchvision or torch that is imported before the environment's when Python starts in the current folder."""
    archive: Folder | None
    """A zip archive on sys.path (an egg) whose torchvision is imported before the environment's."""
    requirement: str | None
    """What its metadata asks of torch, such as "==2.6.0"; empty for any torch, None without metadata."""
    descriptor: Mapping[str, Any]
    recorded: frozenset[str]
    """Files that RECORD lists and that are not there."""
    missing_packages: tuple[tuple[str, str], ...]
    """(package, who requires it) for what torch's and TorchVision's metadata require and is not installed."""
    extensions: tuple[InstalledExtension, ...]
    bundled: Mapping[str, frozenset[str]]
    """Library in torchvision.libs -> the symbols it brings."""
    torch_libraries: tuple[Header, ...]
    """Torch's own libraries that importing it loads."""
    torch_faults: tuple[tuple[Path, str], ...]
    """(library of torch, why it cannot be read)."""
    torch_absent: tuple[str, ...]
    """Torch's own libraries that are not there: those that its RECORD lists or that its others need."""
    torch_unfound: Mapping[str, tuple[str, ...]]
    """Library of others that the loader finds nowhere -> those of torch's libraries that need it."""
    torch_scan: Scan | None
    """The machine code of the smallest of torch's libraries, libc10.so."""
    torch_symbols: Mapping[str, frozenset[str]]
    """Library of torch -> the symbols it brings."""
    torch_device: DeviceCode | None
    cxx_runtime: CxxRuntime | None
    """The C++ library that will be loaded."""

    @property
    def main(self) -> InstalledExtension | None:
        """The extension with the operators."""
        return next((extension for extension in self.extensions if extension.name == "_C"), None)

    @property
    def ours(self) -> bool:
        """Whether this project built the TorchVision."""
        return "variant" in self.descriptor

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


def inspect_installation(
    environment: PythonEnvironment, cwd: Path, variables: Mapping[str, str] | None = None
) -> InstallationState:
    """Read what is installed in `environment`. Raises nothing about it: what is wrong is for the diagnosis."""
    found, torch = environment.torchvision, environment.torch
    info = found.info if found else None
    lib = torch.folder / "lib" if torch else None
    site = found.folder.parent if found else None
    loader = loader_of(environment, os.environ if variables is None else variables)
    headers = dict(_torch_headers(lib)) if lib else {}
    whole = {path: header for path, header in headers.items() if isinstance(header, Header)}
    unfound = _unfound(tuple(whole.values()), loader)
    return InstallationState(
        environment=environment,
        copies=tuple(_same_folder(environment)),
        shadow=_shadow(cwd, environment),
        archive=_archive(environment),
        requirement=torch_requirement(info),
        descriptor=descriptor(info),
        recorded=frozenset(_absent(found, info)),
        missing_packages=tuple(_missing_packages(environment)),
        extensions=tuple(_extensions(found.folder, loader)) if found else (),
        bundled=dict(_bundled(site / "torchvision.libs")) if site else {},
        torch_libraries=tuple(whole.values()),
        torch_faults=tuple((path, fault) for path, fault in headers.items() if isinstance(fault, str)),
        torch_absent=tuple(sorted({*_torch_absent(torch, loader), *filter(_of_torch, unfound)})) if torch else (),
        torch_unfound={name: needing for name, needing in unfound.items() if not _of_torch(name)},
        torch_scan=_scan_of(lib / "libc10.so") if lib else None,
        torch_symbols=dict(_symbols(lib)) if lib else {},
        torch_device=device_code(lib / "libtorch_cuda.so") if lib else None,
        cxx_runtime=cxx_runtime(environment, loader),
    )


def _distribution(info: Path | None) -> Distribution | None:
    return Distribution(name="", version="", info=info, location=info.parent) if info is not None else None


def _same_folder(environment: PythonEnvironment) -> Iterator[Path]:
    found = environment.torchvision
    if found is None:
        return
    folder = found.folder.parent
    infos = [one.info for one in find_distributions("torchvision", [folder]) if not one.editable]
    yield from sorted(infos, key=lambda path: path != found.info)


def _shadow(cwd: Path, environment: PythonEnvironment) -> Path | None:
    """What the current folder puts before the environment's packages: a module, or a package without its extensions."""
    for name, found in (("torchvision", environment.torchvision), ("torch", environment.torch)):
        if is_file(cwd / f"{name}.py"):
            return cwd / f"{name}.py"
        folder = cwd / name
        if is_file(folder / "__init__.py") and (found is None or real(folder) != real(found.folder)):
            return folder
    return None


def _archive(environment: PythonEnvironment) -> Folder | None:
    """The zip archive on sys.path that Python imports torchvision from, if it comes before any folder with one."""
    found = environment.torchvision
    for folder in environment.folders:
        if found is not None and real(folder.path) == real(found.folder.parent):
            return None
        if is_file(folder.path) and "torchvision/__init__.py" in _archived(folder.path):
            return folder
    return None


def _archived(path: Path) -> list[str]:
    """The names in the zip archive `path`; none where it is no whole one."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (OSError, ValueError, NotImplementedError, RuntimeError, MemoryError, zipfile.BadZipFile):
        return []


def torch_requirement(info: Path | None) -> str | None:
    """The version specifier on torch, without the local part of a version: an index's builds name their own."""
    distribution = _distribution(info)
    if distribution is None or not distribution.metadata:
        return None
    for text in distribution.requires:
        requirement = parsed_requirement(text)
        if requirement is not None and canonicalize_name(requirement.name) == "torch":
            return re.sub(r"\+[A-Za-z0-9.]+", "", str(requirement.specifier))
    return ""


def _missing_packages(environment: PythonEnvironment) -> Iterator[tuple[str, str]]:
    for package in (environment.torchvision, environment.torch):
        distribution = _distribution(package.info) if package else None
        if package is None or distribution is None:
            continue
        for text in distribution.requires[:MOST_REQUIREMENTS]:
            requirement = parsed_requirement(text)
            if requirement is None or not applies(requirement, environment.python):
                continue
            name = canonicalize_name(requirement.name)
            if name in ("torch", "torchvision", "setuptools") or name.startswith(_BRINGS_LIBRARIES):
                continue
            if not environment.has(name, IMPORT_NAMES.get(name, name.replace("-", "_"))):
                yield name, package.folder.name


def _absent(found: InstalledPackage | None, info: Path | None) -> Iterator[str]:
    """What RECORD lists of shared objects and Python files, and is not there."""
    distribution = _distribution(info)
    if found is None or distribution is None or found.editable:
        return
    for name in distribution.recorded:
        if re.search(r"\.(so|py|pyd|dylib)(\.\d+)*$", name) and not is_file(distribution.location / name):
            yield name


def _of_torch(name: str) -> bool:
    """Whether torch's own wheel brings the library `name`."""
    return name.startswith(("libtorch", "libc10", "libshm", "libcaffe2"))


def _torch_absent(torch: InstalledPackage, loader: Loader) -> Iterator[str]:
    """Torch's own libraries that RECORD lists, or that every torch has, and that the loader finds nowhere.

    A distribution may keep them in a folder of the system, whatever RECORD says.
    """
    lib = torch.folder / "lib"
    if not is_file(torch.folder / "__init__.py") or any(name.endswith((".dylib", ".dll")) for name in names_in(lib)):
        return
    distribution = _distribution(torch.info)
    recorded = () if distribution is None or torch.editable else distribution.recorded
    names = {path.rpartition("/")[2] for path in recorded if path.startswith("torch/lib/") and ".so" in path}
    for name in sorted(names | set(TORCH)):
        if loader.find(name, lib, ("$ORIGIN",)) is None:
            yield name


def _extensions(folder: Path, loader: Loader) -> Iterator[InstalledExtension]:
    """TorchVision's own shared objects."""
    for file_name in names_in(folder):
        name = file_name.partition(".")[0].removesuffix("_stable")
        path = folder / file_name
        if name not in EXTENSIONS or not file_name.endswith(SUFFIXES):
            continue
        foreign = foreign_format(path)
        if foreign is not None:
            yield InstalledExtension(name=name, path=path, fault=foreign, foreign=True)
            continue
        try:
            if not is_file(path):
                raise NotElf("a link that leads nowhere, or no file")
            if path.stat().st_size > LIMIT:
                raise NotElf("larger than any TorchVision")
            data = path.read_bytes()
            elf = read_elf(data)
            decoded = scan(elf.code, elf.machine) if can_decode(elf.machine) else None
        except (OSError, *DAMAGED) as error:
            yield InstalledExtension(name=name, path=path, fault=str(error) or type(error).__name__)
            continue
        run_paths = tuple(text for _, text in elf.run_paths)
        needed = (name for name in elf.needed if name not in loader.loaded)
        yield InstalledExtension(
            name=name,
            path=path,
            elf=elf,
            unfound=tuple(name for name in needed if loader.find(name, folder, run_paths) is None),
            scan=decoded,
            device=device_code(path),
            toolkit=_toolkit(path),
            missing_codecs=tuple(sorted({match.decode().lower() for match in _NOT_COMPILED.findall(data)})),
        )


def _bundled(folder: Path) -> Iterator[tuple[str, frozenset[str]]]:
    for name in names_in(folder):
        if ".so" in name and is_file(folder / name):
            try:
                yield name, defined_symbols(folder / name)
            except (OSError, *DAMAGED):
                continue


def _torch_headers(lib: Path) -> Iterator[tuple[Path, Header | str]]:
    """The libraries that `import torch` loads: libtorch_python.so, and of torch's own what each of them needs."""
    names = set(names_in(lib))
    queue, seen = ["libtorch_python.so", "libtorch.so", "libtorch_cpu.so", "libc10.so"], set[str]()
    while queue:
        name = queue.pop(0)
        if name in seen or name not in names:
            continue
        seen.add(name)
        header = read_library(lib / name)
        yield lib / name, header
        if isinstance(header, Header):
            queue += header.needed


def _unfound(headers: tuple[Header, ...], loader: Loader) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for header in headers:
        for name in header.needed:
            known = name in loader.loaded or loader.find(name, header.path.parent, header.run_paths) is not None
            if not known:
                found.setdefault(name, []).append(header.path.name)
    return {name: tuple(needing) for name, needing in found.items()}


def _scan_of(path: Path) -> Scan | None:
    try:
        if not is_file(path) or path.stat().st_size > LIMIT:
            return None
        elf = read_elf(path.read_bytes())
        return scan(elf.code, elf.machine) if can_decode(elf.machine) else None
    except (OSError, *DAMAGED):
        return None


def _symbols(lib: Path) -> Iterator[tuple[str, frozenset[str]]]:
    for name in (*TORCH, *TORCH_CUDA, "libtorch_python.so"):
        path = lib / name
        if name != CUDART and is_file(path):
            try:
                yield name, defined_symbols(path)
            except (OSError, *DAMAGED):
                continue


def device_code(path: Path) -> DeviceCode | None:
    """The GPU code of the library at `path`: a tenth of a CPU second for 450 MB."""
    groups: dict[tuple[frozenset[str], frozenset[str]], int] = {}
    if not is_file(path):
        return None
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for group in islice(images(data, contents=False), _FAT_BINARIES):
                kinds = {
                    kind: frozenset(image.sm for image in group if image.kind == kind) for kind in ("cubin", "ptx")
                }
                key = kinds["cubin"], kinds["ptx"]
                groups[key] = groups.get(key, 0) + 1
    except (OSError, BadFatbin, *DAMAGED):
        return None
    return DeviceCode(groups=groups) if groups else None


def _toolkit(path: Path) -> str | None:
    """The release of the CUDA toolkit that wrote the first cubin of the library at `path`, which says so itself."""
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for group in islice(images(data), 4):
                for image in group:
                    match = _TOOLKIT.search(image.data or b"")
                    if match:
                        return match[1].decode()
    except (OSError, BadFatbin, *DAMAGED, RuntimeError, ValueError):
        return None
    return None

"""Read a Python environment from its files: what its Python would import, and how packages get into it.

Nothing in it is run or imported. `search_path` forms sys.path, `distributions` reads the metadata in it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from packaging.utils import canonicalize_name

from build_torchvision.errors import BadInput
from build_torchvision.inputs.torch_sdk import version_constants
from build_torchvision.machine.distributions import (
    Distribution,
    find_distributions,
    installed_names,
    is_package,
    python_of_wheel,
    read_json,
)
from build_torchvision.machine.search_path import (
    Folder,
    Layout,
    Origin,
    layout_of,
    library_folders,
    search_path,
)
from build_torchvision.reading import home_expanded, is_file, is_folder, is_there, names_in, read_text, real
from build_torchvision.variants import PYTHONS
from build_torchvision.wheel.names import DESCRIPTOR

Installer = Literal["pip", "uv", "venv", "target", "none"]
"""How packages get in: its own pip; uv, where it has none; a new virtual environment first, where the distribution
manages the Python (PEP 668); pip's --target, for a folder without a Python; not at all, in a Nix store."""

CONDA_NAMES = {"torch": "pytorch"}
"""Package -> its name among conda's packages, where that is another one."""
_HINT = "Name an environment's python, such as .venv/bin/python, or its folder."


class Backend(StrEnum):
    """What a torch computes with, beside the CPU."""

    CPU = "cpu"
    CUDA = "cuda"
    ROCM = "rocm"
    XPU = "xpu"
    MPS = "mps"

    @property
    def label(self) -> str:
        """As people write it."""
        return {"cpu": "CPU-only", "cuda": "CUDA", "rocm": "ROCm", "xpu": "XPU (Intel)", "mps": "macOS"}[self]

    @property
    def build(self) -> str:
        """In a sentence: "a ROCm build", "an XPU (Intel) build"."""
        return f"{'an' if self is Backend.XPU else 'a'} {self.label} build"


@dataclass(frozen=True, kw_only=True)
class InstalledPackage:
    """A package in the environment. `folder` is its own, `info` its metadata's (.dist-info, .egg-info)."""

    version: str
    """With its local part, such as 2.6.0+cu124."""
    folder: Path
    info: Path | None
    cuda: str | None = None
    """Of torch: the CUDA it was built with ("12.4")."""
    variant: str | None = None
    """Of a TorchVision that this project built: its variant's name."""
    backend: Backend | None = None
    """Of torch: what it computes with; None stands for CUDA where `cuda` is set, else for the CPU."""
    origin: Origin = "site"
    """The kind of the folder of sys.path that it is imported from."""
    editable: bool = False
    """Whether it is imported from a source folder."""
    whole: bool = True
    """Whether Python imports it: not where little more than its metadata is left."""
    channel: str | None = None
    """The conda channel that it was installed from, such as "conda-forge"; None for what no conda installed."""

    @property
    def public(self) -> str:
        """The version without its local part."""
        return self.version.partition("+")[0]

    @property
    def local(self) -> str | None:
        """The local part of the version, such as "cu124"; None without one."""
        return self.version.partition("+")[2] or None

    @property
    def kind(self) -> Backend:
        """Of torch: what it computes with."""
        return self.backend or (Backend.CUDA if self.cuda else Backend.CPU)


@dataclass(frozen=True, kw_only=True)
class PythonEnvironment:
    """`python` is its version without the dot ("313", "314t"), `executable` what runs it, `paths` its sys.path."""

    python: str
    executable: Path
    paths: tuple[Path, ...]
    torch: InstalledPackage | None
    torchvision: InstalledPackage | None
    installer: Installer = "pip"
    folders: tuple[Folder, ...] = ()
    """`paths`, with where each comes from."""
    copies: Mapping[str, tuple[InstalledPackage, ...]] | None = None
    """"torch" and "torchvision" -> all that sys.path holds of them, the one that is imported first."""
    library_folders: tuple[Path, ...] = ()
    """Where the interpreter's own run path leads (conda)."""
    prefix: Path | None = None
    missing_target: Path | None = None
    """Where the link of an environment's python leads, if nothing is there."""

    @property
    def python_version(self) -> str:
        """As people write it: "3.13", "3.14t"."""
        return f"{self.python[0]}.{self.python[1:]}"

    @property
    def site(self) -> Path | None:
        """The folder that torch is imported from: what `build --torch` takes."""
        return self.torch.folder.parent if self.torch else None

    def has(self, distribution: str, package: str) -> bool:
        """Whether a distribution is installed, or a package or module of that name lies on the path."""
        if canonicalize_name(distribution) in installed_names(self.paths):
            return True
        return any(is_folder(path / package) or is_file(path / f"{package}.py") for path in self.paths)


def read_environment(python: Path, variables: Mapping[str, str] | None = None) -> PythonEnvironment:
    """The environment of `python`: an interpreter, an environment's folder, or a site-packages folder.

    `variables` are the environment variables that its Python is started with; default: this process's. Raises BadInput
    for what is none of these.
    """
    layout = layout_of(python)
    if layout is None:
        raise _no_environment(python)
    named = python if python.name in ("site-packages", "dist-packages") else None
    path = search_path(layout, os.environ if variables is None else variables, [named] if named else [])
    paths = tuple(folder.path for folder in path.folders)
    packages = {
        name: tuple(_with_channel(found, layout.prefix) for found in _installed(name, path.folders, path.editable))
        for name in ("torch", "torchvision")
    }
    torch, torchvision = (next(iter(packages[name]), None) for name in ("torch", "torchvision"))
    version = layout.version or next(
        filter(None, (python_of_wheel(one.info) for one in (torch, torchvision) if one)), None
    )
    python_version = version or f"{sys.version_info.major}{sys.version_info.minor}"
    executable = layout.executable or Path(f"python{python_version[0]}.{python_version[1:]}")
    absent = layout.executable is not None and is_there(executable) and not is_file(executable)
    return PythonEnvironment(
        python=python_version,
        executable=executable,
        paths=paths,
        torch=torch,
        torchvision=torchvision,
        installer=_installer(layout, paths),
        folders=path.folders,
        copies=packages,
        library_folders=library_folders(layout),
        prefix=layout.prefix,
        missing_target=real(executable) if absent else None,
    )


def current_environment() -> PythonEnvironment:
    """The environment that is active (VIRTUAL_ENV, CONDA_PREFIX), else the one that this program runs in."""
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        with suppress(BadInput):
            if folder := os.environ.get(name):
                return read_environment(Path(folder))
    return read_environment(Path(sys.executable))


def environment_with_torch() -> PythonEnvironment | None:
    """The current environment, if torch or TorchVision is installed there; without them it is no more than a tool's."""
    with suppress(BadInput):
        current = current_environment()
        return current if current.torch or current.torchvision else None
    return None


def descriptor(info: Path | None) -> Mapping[str, Any]:
    """What build_torchvision.json in the metadata folder `info` says; empty where there is none, or it is no object."""
    return read_json(info / DESCRIPTOR) if info else {}


def environment_named(python: str | None) -> tuple[str | None, PythonEnvironment | None]:
    """(Python of the matrix, environment) that --python names; without it the active environment, if torch is there.

    Raises BadInput for what is neither.
    """
    if python is None:
        return None, environment_with_torch()
    if python.replace(".", "") in PYTHONS:
        return python.replace(".", ""), None
    if re.fullmatch(r"\d+(\.\d+)*", python) and not is_there(Path(python)):
        raise BadInput(
            f"--python {python}", "is no Python of the matrix.", f"Choose from {', '.join(PYTHONS)}, or a path."
        )
    return None, read_environment(home_expanded(python))


def _no_environment(python: Path) -> BadInput:
    action = f"Read the Python environment of {python}"
    if is_folder(python):
        return BadInput(action, "the folder holds neither a bin/python nor lib/pythonX.Y/site-packages.", _HINT)
    if not is_file(python):
        return BadInput(action, "there is no such file.", _HINT)
    if not any("python" in name.lower() for name in (python.name, real(python).name)):
        return BadInput(action, "it is a file, and no Python interpreter by its name.", _HINT)
    prefix = real(python).parent.parent
    return BadInput(action, f"{prefix} has no lib/pythonX.Y: a launcher or shim, not an interpreter.", _HINT)


def _installer(layout: Layout, paths: Sequence[Path]) -> Installer:
    if layout.in_store:
        return "none"
    if layout.executable is None:
        return "target"
    if layout.externally_managed:
        return "venv"
    return "pip" if any(is_package(path / "pip") for path in paths) else "uv"


def _installed(name: str, folders: Sequence[Folder], editable: Mapping[str, Path]) -> Iterator[InstalledPackage]:
    """All copies of package `name`, in the order in which Python meets them; metadata without a package last."""
    listed = [(found, folder.origin) for folder in folders for found in find_distributions(name, [folder.path])]
    met: set[Path] = set()
    for folder in folders:
        place = folder.path / name
        if is_package(place) and real(place) not in met:
            met.add(real(place))
            yield _package(name, place, _metadata_of(folder.path, listed), folder.origin)
    if name in editable and is_package(editable[name]) and real(editable[name]) not in met:
        met.add(real(editable[name]))
        yield _package(name, editable[name], next((found for found, _ in listed), None), "pth")
    for found, origin in listed:
        place = found.location / name
        if is_package(place) and real(place) not in met:  # an editable install by other means than a .pth file
            met.add(real(place))
            yield _package(name, place, found, origin)
    if not met and listed:
        found, origin = listed[0]
        yield _package(name, found.location / name, found, origin)


def _with_channel(found: InstalledPackage, prefix: Path) -> InstalledPackage:
    """`found` with the conda channel that it came from, by the records that conda keeps in conda-meta."""
    installer = read_text(found.info / "INSTALLER") if found.info else None
    if found.origin != "site" or (installer or "conda").strip() != "conda":
        return found
    name = CONDA_NAMES.get(found.folder.name, found.folder.name)
    for file_name in names_in(prefix / "conda-meta"):
        if re.fullmatch(rf"{re.escape(name)}-\d[^-]*-[^-]+\.json", file_name):
            stated = str(read_json(prefix / "conda-meta" / file_name).get("channel") or "")
            parts = [
                part for part in stated.split("/") if part and not re.fullmatch(r"noarch|(linux|osx|win)-\w+", part)
            ]
            return replace(found, channel=parts[-1] if parts and parts[-1].isascii() else "conda-forge")
    return found


def _metadata_of(folder: Path, listed: Sequence[tuple[Distribution, Origin]]) -> Distribution | None:
    """The distribution whose packages lie in `folder`: what was installed there, else what leads there."""
    own = [found for found, _ in listed if real(found.location) == real(folder)]
    return own[0] if own else None


def _package(name: str, folder: Path, found: Distribution | None, origin: Origin) -> InstalledPackage:
    info = found.info if found else None
    constants = version_constants(folder)
    stated, version = str(constants.get("__version__") or ""), found.version if found else ""
    if name == "torch" and stated.partition("+")[0]:
        version = stated  # the metadata of the registry's wheels leaves out the local part
    variant = descriptor(info).get("variant")
    cuda, backend = _backend(folder, constants, version) if name == "torch" else (None, None)
    return InstalledPackage(
        version=version or stated or "0",
        folder=folder,
        info=info,
        cuda=cuda,
        variant=str(variant) if variant else None,
        backend=backend,
        origin=origin,
        editable=bool(found and found.editable),
        whole=is_package(folder),
    )


def _backend(folder: Path, constants: Mapping[str, object], version: str) -> tuple[str | None, Backend]:
    """(CUDA version, backend) of the torch in `folder`: by version.py, else its local version, else its libraries."""
    local = version.partition("+")[2]
    stated = re.match(r"\d{1,3}\.\d{1,3}(?![\d])", str(constants.get("cuda") or ""))
    tag = re.match(r"cu(\d\d)(\d)$", local)
    if stated is not None:
        return stated[0], Backend.CUDA
    if "cuda" not in constants and tag is not None:
        return f"{tag[1]}.{tag[2]}", Backend.CUDA
    if constants.get("hip") or constants.get("rocm") or local.startswith("rocm"):
        return None, Backend.ROCM
    if constants.get("xpu") or local.startswith("xpu"):
        return None, Backend.XPU
    libraries = names_in(folder / "lib")
    if constants.get("mps") or any(name.endswith(".dylib") for name in libraries):
        return None, Backend.MPS
    if not constants and "libtorch_cuda.so" in libraries:
        return None, Backend.CUDA
    return None, Backend.CPU

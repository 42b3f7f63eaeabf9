"""A Python environment, read from its files: nothing in it is run or imported."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from build_torchvision.errors import BadInput
from build_torchvision.inputs.torch_sdk import read_version
from build_torchvision.wheel.descriptor import DESCRIPTOR

_REMEDY = "Name an environment's python, such as .venv/bin/python, or its folder."


@dataclass(frozen=True, kw_only=True)
class InstalledPackage:
    """A distribution in the environment. `folder` is its package's, `info` its metadata's (.dist-info)."""

    version: str
    """With its local part, such as 2.6.0+cu124."""
    folder: Path
    info: Path | None
    cuda: str | None = None
    """Of torch: the CUDA it was built with ("12.4")."""
    variant: str | None = None
    """Of a TorchVision that this project built: its variant's name."""

    @property
    def public(self) -> str:
        """The version without its local part."""
        return self.version.partition("+")[0]


@dataclass(frozen=True, kw_only=True)
class PythonEnvironment:
    """`python` is its version without the dot ("313"), `executable` what runs it, `paths` where its packages are."""

    python: str
    executable: Path
    paths: tuple[Path, ...]
    torch: InstalledPackage | None
    torchvision: InstalledPackage | None


def read_environment(python: Path) -> PythonEnvironment:
    """The environment of `python`: an interpreter, an environment's folder, or a site-packages folder.

    Raises BadInput for anything else.
    """
    executable, version, paths = _locate(python)
    return PythonEnvironment(
        python=version,
        executable=executable,
        paths=paths,
        torch=_torch(paths),
        torchvision=_installed("torchvision", paths),
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


def _locate(python: Path) -> tuple[Path, str, tuple[Path, ...]]:
    action = f"Read the Python environment of {python}"
    if python.is_dir() and python.name in ("site-packages", "dist-packages"):
        match = re.search(r"python(\d)\.(\d+)", str(python))
        version = "".join(match.groups()) if match else f"{sys.version_info.major}{sys.version_info.minor}"
        return python.parent.parent.parent / "bin" / "python", version, (python,)
    if python.is_dir():
        found = [python / "bin" / name for name in ("python", "python3") if (python / "bin" / name).exists()]
        if not found:
            raise BadInput(action, "the folder holds no bin/python.", _REMEDY)
        python = found[0]
    if not python.is_file():
        raise BadInput(action, "there is no such file.", _REMEDY)
    prefix = python.absolute().parent.parent
    config = prefix / "pyvenv.cfg"
    if config.is_file():
        return python, *_virtual(action, prefix, config)
    prefix = python.resolve().parent.parent
    paths = tuple(_base_paths(prefix))
    if not paths:
        raise BadInput(action, f"{prefix} has no lib/pythonX.Y: a launcher or shim, not an interpreter.", _REMEDY)
    return python, _python_of(paths, python.resolve()), paths


def _virtual(action: str, prefix: Path, config: Path) -> tuple[str, tuple[Path, ...]]:
    pairs = (line.partition("=") for line in config.read_text(encoding="utf-8", errors="replace").splitlines())
    said = {key.strip().lower(): value.strip() for key, _, value in pairs}
    paths = tuple(sorted(prefix.glob("lib/python3.*/site-packages")))
    match = re.match(r"(\d+)\.(\d+)", said.get("version") or said.get("version_info") or "")
    if match is None and not paths:
        raise BadInput(action, f"{config} names no version.", _REMEDY)
    version = "".join(match.groups()) if match else _python_of(paths, prefix)
    if said.get("include-system-site-packages", "").lower() == "true" and "home" in said:
        paths += tuple(path for path in _base_paths(Path(said["home"]).parent) if _python_of((path,), path) == version)
    return version, paths


def _base_paths(prefix: Path) -> Iterator[Path]:
    """Where an interpreter of `prefix` finds packages; Debian's own folders among them."""
    for pattern in ("lib/python3.*/site-packages", "local/lib/python3.*/dist-packages", "lib/python3/dist-packages"):
        yield from sorted(prefix.glob(pattern))


def _python_of(paths: tuple[Path, ...], executable: Path) -> str:
    match = re.search(r"python(\d)\.(\d+)", executable.name) or re.search(
        r"python(\d)\.(\d+)", " ".join(map(str, paths))
    )
    return "".join(match.groups()) if match else f"{sys.version_info.major}{sys.version_info.minor}"


def _torch(paths: tuple[Path, ...]) -> InstalledPackage | None:
    found = _installed("torch", paths)
    if found is None:
        return None
    try:
        version, cuda = read_version(found.folder)
    except BadInput:
        return found
    return InstalledPackage(version=str(version), folder=found.folder, info=found.info, cuda=cuda)


def distributions(name: str, paths: tuple[Path, ...]) -> list[tuple[str, Path]]:
    """(version, .dist-info folder) of every distribution `name` in `paths`, in the order in which Python finds them."""
    found = []
    for path in paths:
        for dist in importlib.metadata.distributions(name=name, path=[str(path)]):
            info = getattr(dist, "_path", None)
            if info is not None:
                found.append((str(dist.metadata["Version"]), Path(info)))
    return found


def descriptor(info: Path | None) -> Mapping[str, Any]:
    """What build_torchvision.json in the metadata folder `info` says; empty where there is none, or it is no object."""
    with suppress(OSError, ValueError):
        data = json.loads((info / DESCRIPTOR).read_text(encoding="utf-8")) if info else {}
        return data if isinstance(data, dict) else {}
    return {}


def _installed(name: str, paths: tuple[Path, ...]) -> InstalledPackage | None:
    listed = distributions(name, paths)
    for path in paths:
        folder = path / name
        here = [(version, info) for version, info in listed if info.parent == path]
        if here:
            variant = descriptor(here[0][1]).get("variant")
            return InstalledPackage(
                version=here[0][0], folder=folder, info=here[0][1], variant=variant and str(variant)
            )
        if (folder / "__init__.py").is_file():
            return InstalledPackage(version=_unlisted_version(folder), folder=folder, info=None)
    return None


def _unlisted_version(folder: Path) -> str:
    """The version that a package without metadata gives itself, "0" for none."""
    try:
        return str(read_version(folder)[0])
    except BadInput:
        return "0"

"""Work out an interpreter's sys.path from files: nothing is run.

The order is site.py's: PYTHONPATH; then, outside a virtual environment, the user's site-packages before the
interpreter's own; inside one its own first, and the base's only with include-system-site-packages. What .pth files name
follows the folder that they lie in.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from build_torchvision.machine.distributions import editable_packages
from build_torchvision.reading import is_file, is_folder, is_there, names_in, read_text, real

Origin = Literal["PYTHONPATH", "user", "site", "base", "pth", "store"]
"""Where a folder of the path comes from: "user" is the user's own site-packages, "base" that of the Python below a
virtual environment, "store" another path of a Nix store."""

MOST_FOLDERS = 2000
"""Folders that are followed at most: a path of a real environment has far fewer."""
_VERSION = re.compile(r"python(3)\.(\d{1,2})(t?)")
_BINARIES = ("bin/python", "bin/python3", "Scripts/python.exe")


@dataclass(frozen=True, kw_only=True)
class Folder:
    """One folder of sys.path, and where it comes from."""

    path: Path
    origin: Origin


@dataclass(frozen=True, kw_only=True)
class SearchPath:
    """sys.path, and the packages that editable finders add behind it."""

    folders: tuple[Folder, ...]
    editable: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """An installation of Python: `prefix` holds lib/, `base` is the prefix of the Python below a virtual environment.

    `version` is "312" or "314t", None where nothing says. `config` is pyvenv.cfg's content, None outside one.
    """

    executable: Path | None
    prefix: Path
    base: Path
    version: str | None
    config: Mapping[str, str] | None

    @property
    def virtual(self) -> bool:
        return self.config is not None

    @property
    def dotted(self) -> str | None:
        """The version as people write it: "3.12", "3.14t"."""
        return f"{self.version[0]}.{self.version[1:]}" if self.version else None

    @property
    def in_store(self) -> bool:
        """Whether it lies in a Nix store, where nothing can be installed."""
        return is_file(self.prefix / "nix-support" / "propagated-build-inputs") or _store(self.prefix)

    @property
    def externally_managed(self) -> bool:
        """Whether pip and uv refuse to install into it: the marker of PEP 668 in the base's standard library."""
        if self.virtual:
            return False
        names = [f"lib/python{self.dotted}", *(f"lib/{name}" for name in names_in(self.prefix / "lib"))]
        return any(is_file(self.prefix / name / "EXTERNALLY-MANAGED") for name in names if "python3" in name)


def layout_of(python: Path) -> Layout | None:
    """The layout that `python` names: an interpreter, an environment's folder or a site-packages folder; else None."""
    if python.name in ("site-packages", "dist-packages") and is_folder(python):
        return _of_packages(python)
    if is_folder(python):
        return _of_prefix(python)
    if not is_there(python) or is_folder(python):
        return None
    return _of_executable(python)


def search_path(layout: Layout, variables: Mapping[str, str], extra: Iterable[Path] = ()) -> SearchPath:
    """sys.path of the interpreter of `layout`, started with the environment variables `variables`.

    `extra` are folders that count as its own site-packages, such as one that was named itself.
    """
    path = _Path()
    for entry in variables.get("PYTHONPATH", "").split(os.pathsep):
        if entry:
            path.add(Path(entry).absolute(), "PYTHONPATH")
    config, own = layout.config, [*extra, *_site_folders(layout.prefix, layout.dotted)]
    with_base = config is not None and config.get("include-system-site-packages", "").lower() == "true"
    user = _user_site(layout, variables) if config is None or with_base else None
    if config is None and user is not None:
        path.add_site(user, "user")
    for folder in own:
        path.add_site(folder, "site")
    if with_base:
        if user is not None:
            path.add_site(user, "user")
        for folder in _site_folders(layout.base, layout.dotted):
            path.add_site(folder, "base")
    for prefix in _propagated(layout.prefix):
        for folder in _site_folders(prefix, layout.dotted):
            path.add_site(folder, "store")
    return SearchPath(folders=tuple(path.folders), editable=path.editable)


def library_folders(layout: Layout) -> tuple[Path, ...]:
    """Where the interpreter itself looks for libraries by its own run path: conda's Pythons have one, to their lib."""
    prefixes = [layout.prefix, layout.base]
    if layout.executable is not None:
        prefixes.append(real(layout.executable).parent.parent)
    return tuple(dict.fromkeys(prefix / "lib" for prefix in prefixes if is_folder(prefix / "conda-meta")))


class _Path:
    """sys.path in the making: each folder once, as site.py keeps it."""

    def __init__(self) -> None:
        self.folders: list[Folder] = []
        self.editable: dict[str, Path] = {}
        self._seen: set[Path] = set()

    def add(self, path: Path, origin: Origin, *, first: bool = False) -> bool:
        key = real(path)
        if key in self._seen or len(self.folders) >= MOST_FOLDERS or not (is_folder(path) or is_file(path)):
            return False
        self._seen.add(key)
        self.folders.insert(0 if first else len(self.folders), Folder(path=path, origin=origin))
        return True

    def add_site(self, path: Path, origin: Origin) -> None:
        """A site folder: itself, then what its .pth files name."""
        if not is_folder(path) or not self.add(path, origin):
            return
        self.editable = {**editable_packages(path), **self.editable}
        for name in names_in(path):
            if not name.endswith(".pth") or name.startswith("."):
                continue
            text = read_text(path / name) or ""
            for line in text.splitlines()[:MOST_FOLDERS]:
                entry = line.strip()
                if entry and not entry.startswith(("#", "import ", "import\t")) and "\0" not in entry:
                    # Old setuptools moves the eggs of easy-install.pth to the front of sys.path.
                    self.add(path / entry, "pth", first="__egginsert" in text)


def _of_executable(python: Path) -> Layout | None:
    prefix = python.absolute().parent.parent
    if is_file(prefix / "pyvenv.cfg"):
        return _of_prefix(prefix, python)
    if not is_file(python):
        return None
    target = real(python)
    if not any("python" in name.lower() for name in (python.name, target.name)):
        return None
    base = target.parent.parent
    version = _version_in(target.name) or _only_version(base)
    if version is None and not _site_folders(base, None):
        return None
    return Layout(executable=python, prefix=base, base=base, version=version, config=None)


def _of_prefix(prefix: Path, python: Path | None = None) -> Layout | None:
    executable = python or next((prefix / name for name in _BINARIES if is_there(prefix / name)), None)
    text = read_text(prefix / "pyvenv.cfg")
    if text is None:
        if executable is not None and is_file(executable) and not _site_folders(prefix, None):
            return _of_executable(executable)
        known = _only_version(prefix)
        if executable is None and not _site_folders(prefix, None):
            return None
        version = known or (_version_in(real(executable).name) if executable else None)
        return Layout(executable=executable, prefix=prefix, base=prefix, version=version, config=None)
    pairs = (line.partition("=") for line in text.splitlines())
    config = {key.strip().lower(): value.strip() for key, _, value in pairs}
    match = re.match(r"(\d+)\.(\d+)", config.get("version") or config.get("version_info") or "")
    version = "".join(match.groups()) if match else None
    folders = [name for name in names_in(prefix / "lib") if _VERSION.fullmatch(name)]
    own = [found for name in folders if (found := _version_in(name))]
    if len(own) == 1 and (version is None or own[0].rstrip("t") != version or own[0].endswith("t")):
        version = own[0]
    base = Path(config["home"]).parent if config.get("home") else prefix
    if executable is not None and is_file(executable) and not is_folder(base):
        base = real(executable).parent.parent
    return Layout(executable=executable, prefix=prefix, base=base, version=version, config=config)


def _of_packages(folder: Path) -> Layout:
    parents = folder.absolute().parents
    prefix = parents[1] if parents[0].name == "Lib" else parents[min(2, len(parents) - 1)]
    version = _version_in(parents[0].name)
    known = _of_prefix(prefix) if is_there(prefix / "pyvenv.cfg") else None
    if known is not None:
        return Layout(
            executable=known.executable,
            prefix=prefix,
            base=known.base,
            version=version or known.version,
            config=known.config,
        )
    dotted = f"{version[0]}.{version[1:]}" if version else "3"
    names = (f"bin/python{dotted}", *_BINARIES)
    executable = next((prefix / name for name in names if is_there(prefix / name)), None)
    if version is None and executable is not None:
        version = _version_in(real(executable).name)
    return Layout(executable=executable, prefix=prefix, base=prefix, version=version, config=None)


def _site_folders(prefix: Path, dotted: str | None) -> list[Path]:
    """The site folders below `prefix` for Python `dotted` (None: any), in site.py's order; Debian's among them."""
    names = [f"python{dotted}"] if dotted else [name for name in names_in(prefix / "lib") if _VERSION.fullmatch(name)]
    patterns = [f"local/lib/{name}/dist-packages" for name in names]
    patterns += [f"{lib}/{name}/site-packages" for name in names for lib in ("lib64", "lib")]
    patterns += ["lib/python3/dist-packages", *(f"lib/{name}/dist-packages" for name in names), "Lib/site-packages"]
    found: dict[Path, Path] = {}
    for pattern in patterns:
        if is_folder(prefix / pattern):
            found[real(prefix / pattern)] = prefix / pattern  # a venv's lib64 is a link to its lib
    return list(found.values())


def _user_site(layout: Layout, variables: Mapping[str, str]) -> Path | None:
    if variables.get("PYTHONNOUSERSITE") or layout.dotted is None or layout.executable is None or layout.in_store:
        return None
    home = variables.get("HOME", "")
    base = variables.get("PYTHONUSERBASE") or (f"{home}/.local" if home else "")
    return Path(base) / "lib" / f"python{layout.dotted}" / "site-packages" if base else None


def _propagated(prefix: Path) -> Iterator[Path]:
    """The store paths that `prefix` propagates (nix-support), each once, the nearest first."""
    queue, seen = [prefix], {real(prefix)}
    while queue and len(seen) < MOST_FOLDERS:
        listed = read_text(queue.pop(0) / "nix-support" / "propagated-build-inputs") or ""
        for entry in listed.split()[:MOST_FOLDERS]:
            if entry.startswith("/") and "\0" not in entry and real(Path(entry)) not in seen:
                seen.add(real(Path(entry)))
                queue.append(Path(entry))
                yield Path(entry)


def _version_in(name: str) -> str | None:
    match = _VERSION.search(name)
    return "".join(match.groups()) if match else None


def _only_version(prefix: Path) -> str | None:
    """The version of the one lib/pythonX.Y below `prefix` that is a standard library or has packages."""
    names = [name for name in names_in(prefix / "lib") if _VERSION.fullmatch(name)]
    if len(names) > 1:
        names = [name for name in names if is_file(prefix / "lib" / name / "os.py")] or names
    return _version_in(names[0]) if len(names) == 1 else None


def _store(prefix: Path) -> bool:
    return prefix.parts[:3] == ("/", "nix", "store")

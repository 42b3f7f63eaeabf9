"""Find installed distributions in the folders of a search path, and read their metadata as it stands on disk.

`importlib.metadata` answers for the Python that runs it and, from 3.12 on, leaves out of a RECORD what is not there.
Here the files themselves are read: .dist-info, .egg-info (folder or file), .egg folders, egg-links and direct_url.json.
"""

from __future__ import annotations

import ast
import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from build_torchvision.reading import is_file, is_folder, names_in, read_text

_FORMS = (".dist-info", ".egg-info", ".egg-link", ".egg")
_NO_VERSION = "0"
MOST_REQUIREMENTS = 200
"""Requirements that are read of a package at most: torch has some twenty."""


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """An installed distribution. `info` is its metadata folder, or file; `location` where its packages lie.

    For an editable install or an egg-link `location` is the source folder, else the folder of the search path.
    """

    name: str
    version: str
    """As the metadata states it, local part included; "0" where nothing states one."""
    info: Path
    location: Path
    editable: bool = False

    @property
    def metadata(self) -> Mapping[str, tuple[str, ...]]:
        """The headers of METADATA or PKG-INFO, lower-cased; empty where there are none."""
        return _headers(_metadata_text(self.info))

    @property
    def requires(self) -> tuple[str, ...]:
        """What it requires, a PEP 508 text each."""
        listed = self.metadata.get("requires-dist", ())
        return listed or tuple(_egg_requirements(read_text(self.info / "requires.txt") or ""))

    @property
    def recorded(self) -> tuple[str, ...]:
        """The files of RECORD, relative to `location`, whether they are there or not."""
        return tuple(_record(read_text(self.info / "RECORD") or ""))


def find_distributions(name: str, folders: Iterable[Path]) -> list[Distribution]:
    """Every distribution `name` in `folders`, in the order in which Python finds them."""
    wanted = canonicalize_name(name)
    found: list[Distribution] = []
    for folder in folders:
        for entry in _metadata_in(folder):
            stem, version = _split(entry.name)
            if canonicalize_name(stem) == wanted:
                found.append(_read(wanted, version, entry, folder))
    return found


def installed_names(folders: Iterable[Path]) -> frozenset[str]:
    """The normalized names of all distributions in `folders`."""
    return frozenset(canonicalize_name(_split(entry.name)[0]) for folder in folders for entry in _metadata_in(folder))


def editable_packages(folder: Path) -> dict[str, Path]:
    """Package -> its folder, for what setuptools' editable finders in `folder` map (PEP 660): nothing is run."""
    found: dict[str, Path] = {}
    for name in names_in(folder):
        if name.startswith("__editable__") and name.endswith("_finder.py"):
            found |= {key: Path(value) for key, value in _mapping(read_text(folder / name) or "").items()}
    return found


def parsed_requirement(text: str) -> Requirement | None:
    """A requirement of METADATA; None for what is none."""
    try:
        return Requirement(text)
    except (InvalidRequirement, RecursionError):
        return None


def applies(requirement: Requirement, python: str) -> bool:
    """Whether `requirement`, without an extra, is one for Python `python` ("313", "314t") here, by its marker."""
    if requirement.marker is None:
        return True
    dotted = f"{python[0]}.{python[1:]}".rstrip("t")
    values = {"extra": "", "python_version": dotted, "python_full_version": f"{dotted}.0"}
    try:
        return requirement.marker.evaluate(values)
    except (ValueError, KeyError):
        return False


def _metadata_in(folder: Path) -> Iterator[Path]:
    if folder.suffix == ".egg":
        if is_folder(folder / "EGG-INFO"):
            yield folder
        return
    for name in names_in(folder):
        if name.endswith(_FORMS) and not name.endswith(".egg"):  # an egg counts where it is on the path itself
            yield folder / name


def _split(name: str) -> tuple[str, str]:
    """("torchvision", "0.23.0+cu128") of "torchvision-0.23.0+cu128.dist-info" or "torchvision-0.9.0-py3.6.egg"."""
    stem = next(name.removesuffix(form) for form in _FORMS if name.endswith(form))
    head, _, rest = stem.partition("-")
    return head, rest.partition("-")[0] or _NO_VERSION


def _read(name: str, version: str, entry: Path, folder: Path) -> Distribution:
    if entry.suffix == ".egg-link":
        lines = (read_text(entry) or "").splitlines()
        source = folder / lines[0].strip() if lines and lines[0].strip() else folder
        infos = [source / other for other in names_in(source) if other.endswith(".egg-info")]
        linked = next((path for path in infos if canonicalize_name(_split(path.name)[0]) == name), entry)
        stated = _headers(_metadata_text(linked)).get("version", (version,))[0]
        return Distribution(name=name, version=stated, info=linked, location=source, editable=True)
    info = entry / "EGG-INFO" if entry.suffix == ".egg" else entry
    stated = _headers(_metadata_text(info)).get("version", (version,))[0] or version
    origin = _editable_source(info)
    return Distribution(
        name=name,
        version=stated,
        info=info,
        location=origin or (entry if entry.suffix == ".egg" else folder),
        editable=origin is not None,
    )


def _metadata_text(info: Path) -> str:
    for path in (info / "METADATA", info / "PKG-INFO", info):
        text = read_text(path)
        if text is not None:
            return text
    return ""


def _headers(text: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if not line.strip():
            break
        key, colon, value = line.partition(":")
        if colon and not line[0].isspace():
            found.setdefault(key.strip().lower(), []).append(value.strip())
    return {key: tuple(values) for key, values in found.items()}


def _egg_requirements(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if line.startswith("["):  # what follows is for extras
            return
        if line.strip():
            yield line.strip()


def _record(text: str) -> Iterator[str]:
    try:
        for row in csv.reader(text.splitlines()):
            if row and row[0]:
                yield row[0]
    except csv.Error:
        return


def _editable_source(info: Path) -> Path | None:
    """The source folder of an editable install, by its direct_url.json."""
    data = read_json(info / "direct_url.json")
    folder = data.get("dir_info")
    url = data.get("url")
    if not isinstance(folder, dict) or folder.get("editable") is not True or not isinstance(url, str):
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return Path(unquote(parts.path)) if parts.scheme == "file" and parts.path else None


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in the file `path`; empty where there is none."""
    try:
        data = json.loads(read_text(path) or "{}")
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _mapping(text: str) -> dict[str, str]:
    """The MAPPING that an editable finder assigns, by parsing alone."""
    try:
        for node in ast.parse(text).body:
            targets = (
                node.targets
                if isinstance(node, ast.Assign)
                else [node.target]
                if isinstance(node, ast.AnnAssign)
                else []
            )
            named = [target.id for target in targets if isinstance(target, ast.Name)]
            if named == ["MAPPING"] and isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
                value = ast.literal_eval(node.value)
                return {str(key): str(path) for key, path in value.items()} if isinstance(value, dict) else {}
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return {}
    return {}


def python_of_wheel(info: Path | None) -> str | None:
    """The Python ("312", "314t") that the wheel behind `info` was made for, by its WHEEL file; None for any Python."""
    text = read_text(info / "WHEEL") if info is not None else None
    match = re.search(r"^Tag: cp(3\d+)-cp3\d+(t?)-", text or "", re.MULTILINE)
    return match[1] + match[2] if match else None


def is_package(folder: Path) -> bool:
    """Whether Python imports `folder` as a package of its own."""
    return is_file(folder / "__init__.py")

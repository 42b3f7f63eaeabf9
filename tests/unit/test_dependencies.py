"""What the package imports is what its metadata requires: an installation from a wheel lacks nothing."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src/build_torchvision"
ELSEWHERE = {"torch", "torchvision", "numpy", "PIL", "pytest"}  # of the environment that a probe runs in
OPTIONAL = {
    "compression": "Python 3.14's own",
    "zstandard": "where the backport is not",
    "matplotlib": "the extra bench",
    "uv": "the extra programs",
    "capstone": "the extra arm, or fetched",
}
IN_TEXT = re.compile(r'import_module\("([a-z]\w*)')


def imported(path: Path) -> set[str]:
    """The top names of modules that a file imports from elsewhere than this package and Python itself."""
    text = path.read_text(encoding="utf-8")
    found = set(IN_TEXT.findall(text))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(str(node.module).partition(".")[0])
    beside = {other.stem for other in path.parent.glob("*.py")} | {other.name for other in path.parent.iterdir()}
    return found - sys.stdlib_module_names - {"build_torchvision", "__future__"} - beside


def required() -> set[str]:
    """The distributions that the project requires, by normalized name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = (re.split(r"[^A-Za-z0-9._-]", text)[0] for text in project["dependencies"])
    return {re.sub(r"[-_.]+", "-", name).lower() for name in names}


@cache
def installed() -> Mapping[str, list[str]]:
    """Module -> the distributions that bring it."""
    return importlib.metadata.packages_distributions()


def closure() -> set[str]:
    """The normalized names of what an installer brings on x86-64 beside this project, without extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found, queue = set[str](), list(project["dependencies"])
    while queue:
        requirement = Requirement(queue.pop())
        name = canonicalize_name(requirement.name)
        values = {"extra": "", "platform_machine": "x86_64"}
        if name in found or (requirement.marker is not None and not requirement.marker.evaluate(values)):
            continue
        found.add(name)
        queue += importlib.metadata.requires(name) or ()
    return found


def disk(path: Path) -> int:
    """Bytes that a file takes on a disk with blocks of 4 KiB, its bytecode, which is about as large, included."""
    if path.suffix == ".pyc" or not path.is_file():
        return 0
    return -(-path.stat().st_size // 4096) * 4096 * (2 if path.suffix == ".py" else 1)


def test_what_is_installed_for_detect_and_doctor_stays_small() -> None:
    """At most 120 MB by pip, which writes bytecode. test_installed_tool.py installs it and measures."""
    sizes = {
        name: sum(disk(Path(str(file.locate()))) for file in importlib.metadata.files(name) or ()) for name in closure()
    }
    sizes["build-torchvision"] = sum(map(disk, PACKAGE.rglob("*")))
    shown = ", ".join(f"{name} {size / 1e6:.1f}" for name, size in sorted(sizes.items(), key=lambda row: -row[1])[:6])
    print(f"{sum(sizes.values()) / 1e6:.1f} MB: {shown}")
    assert sum(sizes.values()) <= 120_000_000, shown


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_module_that_is_imported_is_required(path: Path) -> None:
    distributions = installed()
    for name in imported(path) - ELSEWHERE - OPTIONAL.keys():
        brings = {re.sub(r"[-_.]+", "-", text).lower() for text in distributions.get(name, [])}
        assert brings & required(), f"{name} is imported, and {' or '.join(brings) or 'nothing'} is not required"

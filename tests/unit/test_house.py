"""The house: who may import whom."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import build_torchvision

PACKAGE = Path(build_torchvision.__file__).parent
# A module imports only those before it, and its own room.
ORDER = (
    "errors",
    "process",
    "reading",
    "writing",
    "progress",
    "facts",
    "compatibility",
    "variants",
    "flags",
    "describe",
    "releases",
    "fleet",
    "spec",
    "binary",
    "operators",
    "inputs",
    "graph",
    "execute",
    "wheel",
    "verify",
    "requests",
    "prefetch",
    "plan_report",
    "pipeline",
    "bench",
    "machine",
    "choose",
    "doctor",
    "publish",
    "install",
    "recipes",
    "cli",
)


def imported_floors(source: str, module: str, *, is_package: bool) -> set[str]:
    """The floors of the house that `source`, the text of `build_torchvision.MODULE`, imports anywhere in it."""
    here = ["build_torchvision", *module.split(".")]
    targets: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            targets += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + is_package] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            targets += [f"{origin}.{alias.name}" for alias in node.names]
    floors = {target.split(".")[1] for target in targets if target.startswith("build_torchvision.")}
    return floors - {"__version__"}


def uphill(source: str, module: str, *, is_package: bool = False) -> set[str]:
    """The imports of `source` that do not run downhill; a floor may import within itself."""
    own = module.split(".")[0]
    allowed = set(ORDER[: ORDER.index(own) + 1])
    return imported_floors(source, module, is_package=is_package) - allowed


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found.append((".".join(part for part in parts if part != "__init__"), path))
    return [(name, path) for name, path in found if name and name != "__main__"]


def test_every_module_has_a_place_in_the_order() -> None:
    assert {name.split(".")[0] for name, _ in modules()} <= set(ORDER)
    assert {"facts", "variants", "flags"} <= {name for name, _ in modules()}


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_imports_run_downhill(name: str, path: Path) -> None:
    assert uphill(path.read_text(encoding="utf-8"), name, is_package=path.name == "__init__.py") == set()


def test_the_package_itself_imports_no_floor() -> None:
    assert imported_floors((PACKAGE / "__init__.py").read_text(encoding="utf-8"), "", is_package=False) == set()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from build_torchvision.cli.main import main", {"cli"}),
        ("import build_torchvision.cli", {"cli"}),
        ("from build_torchvision import cli", {"cli"}),
        ("def f():\n    from build_torchvision.verify import checks", {"verify"}),
        ("from ..wheel import archive", {"wheel"}),
        ("from build_torchvision.graph import units\nfrom . import cache\nfrom ..facts import gpus", {"graph"}),
        ("from build_torchvision.errors import BadInput\nimport json", set()),
    ],
)
def test_an_import_uphill_is_seen(source: str, found: set[str]) -> None:
    assert uphill(source, "inputs.cache") == found


def test_the_codes_of_errors_are_those_documented() -> None:
    from build_torchvision import errors

    codes = {
        kind.__name__: kind.exit_code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.BuildTorchvisionError)
    }
    assert codes == {
        "BuildTorchvisionError": 1,
        "VerificationFailed": 1,
        "BadInput": 2,
        "MissingInput": 3,
        "ProcessFailed": 4,
        "FetchFailed": 5,
        "CannotWrite": 6,
    }


def test_test_files_have_names_of_their_own() -> None:
    """pytest imports them by their bare names: two of one name stop the whole collection."""
    names = [path.name for path in Path(__file__).parents[1].rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def unencoded(source: str) -> list[int]:
    """Lines of `source` that read or write text in the locale's encoding. The linter's rule needs to know a type."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"read_text", "write_text"}
        and len(node.args) == (node.func.attr == "write_text")
        and not any(keyword.arg == "encoding" for keyword in node.keywords)
    ]


def test_text_is_utf8_whatever_the_locale() -> None:
    found = {name: unencoded(path.read_text(encoding="utf-8")) for name, path in modules()}
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("path.read_text()", [1]),
        ("(a / b).read_text(errors='replace')", [1]),
        ("path.write_text(text)", [1]),
        ("path.write_text(text, encoding='utf-8')", []),
        ("path.read_text('utf-8')", []),
        ("read_text(path)", []),  # a function of ours
    ],
)
def test_text_in_the_locales_encoding_is_seen(source: str, lines: list[int]) -> None:
    assert unencoded(source) == lines

"""The documents name only what exists: commands, options, variants, files, checks, markers."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest
from _commands import APP, NIX, NOT_RUN, RUN, blocks, ours, refusal

import build_torchvision
from build_torchvision.cli.main import COMMANDS as SUMMARIES
from build_torchvision.variants import parse

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
COMMANDS = {name for name in APP if not name.startswith("-")}
FOREIGN = {
    "--measure",
    "--preview-features",
    "--list-gpu-arch",
    "--extra-index-url",
    "--index-url",
    "--index",
    "--impure",
}
"""Options of nvcc, pip, uv, nix and the scripts in tools/ that the text names."""


def prose(text: str) -> str:
    """A document without its fenced blocks."""
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def options(text: str) -> set[str]:
    """The long options in a document's code spans."""
    spans = re.findall(r"`([^`\n]+)`", prose(text))
    return {word for span in spans for word in re.findall(r"(?<![\w-])--[a-z][a-z-]+", span)}


def known_options() -> set[str]:
    known = {"--help", "--version", "--install-completion"}
    for name in COMMANDS:
        below = [APP[name][part] for part in APP[name] if not part.startswith("-")]
        for command in (APP[name], *below):
            for argument in command.assemble_argument_collection():
                known |= {word for word in argument.names if word.startswith("--")}
    return known


def names_of_checks() -> set[str]:
    """The names that `verify` gives its checks, read from the code that makes them; `runs: x` counts as `runs`."""
    found: set[str] = set()
    for path in (Path(build_torchvision.__file__).parent / "verify").rglob("*.py"):
        tree = ast.parse(path.read_text())
        assigned = [
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            if [ast.unparse(target) for target in node.targets] == ["name"]
        ]
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "Check",
                "Check.of",
                "Check.not_judged",
                "cls",
            ):
                given = [word.value for word in node.keywords if word.arg == "name"] or node.args[:1]
                for value in [*given, *(assigned if [ast.unparse(one) for one in given] == ["name"] else [])]:
                    found |= {
                        part.value
                        for part in ast.walk(value)
                        if isinstance(part, ast.Constant) and isinstance(part.value, str)
                    }
            if (
                isinstance(node, ast.Call) and ast.unparse(node.func) == "probe"
            ):  # what stands before an operator's name
                found |= {
                    ast.literal_eval(word.value)
                    for word in node.keywords
                    if word.arg == "label" and isinstance(word.value, ast.Constant)
                }
    return {name.partition(":")[0].strip() for name in found} - {"", "name"}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_every_command_of_a_block_is_accepted(path: Path) -> None:
    commands = [arguments for _, text in blocks(path.read_text(encoding="utf-8")) for arguments in ours(text)]
    assert [why for arguments in commands if (why := refusal(arguments))] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_every_block_is_typed_by_a_test_or_says_why_not(path: Path) -> None:
    """What the marks mean stands beside them in _commands; the tests that type are those of the integration tests."""
    for mark, text in blocks(path.read_text(encoding="utf-8")):
        assert mark in (*RUN, NIX) or (mark or "").startswith(NOT_RUN), f"{path.name}: no mark above\n{text}"
        for named in re.findall(r"tests/[\w./]+\.py", mark or ""):
            assert (ROOT / named).exists(), f"{path.name}: {mark}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_every_command_in_the_text_is_accepted(path: Path) -> None:
    """Those in code spans; capital letters stand for what the reader fills in."""
    spans = re.findall(r"`(build-torchvision [a-z][^`\n]*)`", prose(path.read_text(encoding="utf-8")))
    assert [why for span in spans for arguments in ours(span) if (why := refusal(arguments))] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_every_command_and_option_in_the_text_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    gone = options(text.partition("### Removed")[2].partition("\n### ")[0]) if path.stem == "CHANGELOG" else set()
    assert options(text) - known_options() - FOREIGN - gone == set()
    assert set(re.findall(r"`build-torchvision ([a-z]+)[^`]*`", prose(text))) <= COMMANDS


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_every_variant_and_file_that_is_named_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for name in set(re.findall(r"torchvision-python\d+-[a-z0-9_]+(?:-sm\d+)?-[a-z0-9_]+(?![\w*-])", text)):
        if "sm130" not in name:  # RECIPE_TEMPLATE.md's made-up GPU
            assert str(parse(name)) == name
    named = re.findall(r"\]\(([^)#:]+)\)", text)
    named += re.findall(
        r"`((?:tests|nix|src|benchmarks|docs|binary|verify|\.flox|\.github|\.ci)/[\w./-]+)`", prose(text)
    )
    for target in named:
        places = (path.parent, ROOT, ROOT / "src/build_torchvision")
        assert any((place / target).exists() for place in places), target


def test_the_reference_lists_every_command_as_its_help_does() -> None:
    table = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8").partition("## Commands")[2].partition("## ")[0]
    assert re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.MULTILINE) == [
        (name, summary) for name, (_, summary) in SUMMARIES.items()
    ]


def test_pictures_are_small_and_drawn_terminals_load_nothing_and_name_no_folder_of_their_machine() -> None:
    pictures = sorted((ROOT / "docs" / "images").iterdir())
    assert len([path for path in pictures if path.suffix == ".svg"]) == 5
    for path in pictures:
        assert path.stat().st_size < 100_000, path.name
        if path.suffix == ".svg":
            text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
            assert not re.search(r"https?://|/root|/home|/tmp|/work", text), path.name


RETIRED = (
    *("trial", "gather", "gathered", "seal", "sealed", "patient", "contest", "contender", "contenders", "arena"),
    *("screens", "obstacle", "ingredients", "twin", "twins", "put to the proof", "once a platform", "once an SM"),
    *("is told so", "which ran is told", "in vain"),
)
"""Private metaphors and idioms that documents and help texts had; style: subject, verb, object, the field's noun."""


@pytest.mark.parametrize("word", RETIRED)
def test_retired_words_do_not_come_back(word: str) -> None:
    texts = {path.name: path.read_text(encoding="utf-8") for path in DOCUMENTS if path.stem != "CHANGELOG"}
    texts |= {f"{name} --help": help_of(name) for name in COMMANDS}
    used = [name for name, text in texts.items() if re.search(rf"\b{word}\b", text, re.IGNORECASE)]
    assert used == []


def help_of(name: str) -> str:
    """Summary, text and options of a command and those below it."""
    below = [APP[name][part] for part in APP[name] if not part.startswith("-")]
    texts = []
    for command in (APP[name], *below):
        texts.append(str(command.help))
        texts += [str(argument.parameter.help) for argument in command.assemble_argument_collection()]
    return "\n".join(texts)


def test_the_guide_explains_every_check_and_no_other() -> None:
    tables = TEST_GUIDE.partition("### What each check detects")[2].partition("### On which computer")[0]
    explained = {name.partition(":")[0] for name in re.findall(r"^\| `([^`]+)` \|", tables, re.MULTILINE)}
    assert explained == names_of_checks(), "TEST_GUIDE.md has a table with a row for each check"


def test_the_guide_explains_every_marker_and_no_other() -> None:
    markers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["markers"]
    table = TEST_GUIDE.partition("| marker |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == {text.partition(":")[0] for text in markers}, (
        "TEST_GUIDE.md has a table with a row for each marker"
    )


def test_the_maintainers_page_names_every_room_and_no_other() -> None:
    package = Path(build_torchvision.__file__).parent
    rooms = {f"{path.name}/" for path in package.iterdir() if (path / "__init__.py").exists()}
    rooms |= {path.name for path in package.glob("*.py") if not path.name.startswith("_")}
    text = (ROOT / "docs" / "how-it-works.md").read_text(encoding="utf-8")
    named = {name for name in re.findall(r"`([a-z_]+(?:/|\.py))`", text) if name != "setup.py"}
    assert named == rooms


def test_a_command_that_does_not_exist_is_seen() -> None:
    assert refusal(["build", "cpu-avx2", "--fast"])
    assert refusal(["biuld", "cpu-avx2"])
    assert refusal(["build", "cpu-avx2"]) is None
    text = "# a comment\n./bootstrap build-torchvision plan \\\n  x --json | jq .  # so"
    assert ours(text) == [["plan", "x", "--json"]]
    assert options("Type `build --colour blue`, not `ls --all`.") == {"--colour", "--all"}


TEST_GUIDE = (ROOT / "TEST_GUIDE.md").read_text()

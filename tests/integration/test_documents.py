"""The documents, word for word: what they tell a reader to type is typed, in a copy of the checkout."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/unit"))
from _commands import RUN, blocks  # noqa: E402  # the same reader of documents that the unit tests use

pytestmark = pytest.mark.documents
LEFT_BEHIND = ("__pycache__", ".*_cache", ".hypothesis", ".git", ".venv", "dist", "result*", "site")


class Copy:
    """A copy of the checkout, and a shell in it whose `build-torchvision` is the copy's own."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "checkout"
        shutil.copytree(ROOT, self.root, ignore=shutil.ignore_patterns(*LEFT_BEHIND), symlinks=True)
        tool = folder / "bin/build-torchvision"
        tool.parent.mkdir()
        tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m build_torchvision.cli.main "$@"\n')
        tool.chmod(0o755)
        path = f"{tool.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        author = {f"GIT_{who}_{what}": "reader" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        self.env = {**os.environ, "PATH": path, "PYTHONPATH": str(self.root / "src"), **author}
        assert self.type("git init --quiet && git add --all && git commit --quiet --message all").returncode == 0

    def type(self, text: str) -> subprocess.CompletedProcess[str]:
        """Run a shell text, stopping at the first command that fails."""
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text], cwd=self.root, env=self.env, capture_output=True, text=True
        )


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path)


DOCUMENTS = sorted(path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")))
OWN_TESTS = ("RECIPE_TEMPLATE.md", "docs/nix.md")
"""Documents that are typed below by tests which look at more than the exit code."""


def typed(document: str, marks: Sequence[str] = RUN[:1]) -> list[str]:
    """The blocks of a document with one of these marks, in its order."""
    found = [text for mark, text in blocks((ROOT / document).read_text(encoding="utf-8")) if mark in marks]
    assert found, f"{document} has no block that is marked {marks}"
    return found


def marked(mark: str) -> list[str]:
    """The documents that have a block with that mark."""
    found = [name for name in DOCUMENTS if name not in OWN_TESTS]
    return [
        name for name in found if any(mark == each for each, _ in blocks((ROOT / name).read_text(encoding="utf-8")))
    ]


def type_all(copy: Copy, texts: Sequence[str]) -> str:
    """Type `texts` one after the other; what they printed."""
    printed = []
    for text in texts:
        done = copy.type(text)
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        printed.append(done.stdout)
    return "".join(printed)


@pytest.mark.parametrize("document", marked("run"))
def test_what_a_document_shows_is_typed(copy: Copy, document: str) -> None:
    type_all(copy, typed(document))


@pytest.mark.compiler
@pytest.mark.parametrize("document", marked("run: compiler"))
def test_what_a_document_builds_is_typed(copy: Copy, document: str) -> None:
    type_all(copy, typed(document, RUN[:2]))
    assert {path.suffix for path in (copy.root / "dist").iterdir()} == {".whl"}


@pytest.mark.nightly
@pytest.mark.parametrize("document", marked("run: torch"))
def test_what_a_document_does_with_torch_is_typed(copy: Copy, document: str) -> None:
    out = type_all(copy, typed(document, RUN))
    if document == "QUICKSTART.md":
        assert "tensor([0])" in out.splitlines()


def test_adding_to_the_matrix_is_rows_and_one_command(copy: Copy) -> None:
    """RECIPE_TEMPLATE.md to its end: a made-up GPU, ISA, toolkit and release, with no change of code."""
    type_all(copy, typed("RECIPE_TEMPLATE.md"))

    recipes = {path.stem for path in (copy.root / ".flox/pkgs").iterdir()}
    assert len(recipes) == 10 * 7 + 7  # ten GPUs by seven ISAs, and seven ISAs without one
    assert {"torchvision-python313-cuda12_8-sm130-armv9", "torchvision-python313-cpu-avx512fp16"} <= recipes
    assert "13.0" in (copy.root / ".flox/pkgs/torchvision-python313-cuda12_8-sm130-avx512.nix").read_text()
    assert (
        "| `torchvision-python313-cuda12_8-sm130-avx512fp16` | 13.0 MX 130 |"
        in (copy.root / "BUILD_MATRIX.md").read_text()
    )
    assert "avx512fp16" in copy.type("build-torchvision variants --matrix").stdout  # the jobs of the nightly workflow
    assert (
        "torchvision-python313-cuda12_8-sm130-avx512fp16" in (copy.root / ".github/workflows/release.yml").read_text()
    )
    matrix = json.loads((copy.root / "nix/matrix.json").read_text())
    release = matrix["releases"]["0.99.0"]
    assert (release["torch"], release["stableAbi"], release["sha256"][:4]) == ("2.99.0", False, "0123")
    assert "cuda14_0" in matrix["tracks"]
    assert len(list((copy.root.parent / "cuda13/.flox/pkgs").glob("*-cuda13_0-*.nix"))) == 9 * 6

    # What was there before is as it was, and the code is untouched.
    for path in (ROOT / ".flox/pkgs").iterdir():
        assert (copy.root / ".flox/pkgs" / path.name).read_text() == path.read_text()
    for path in (ROOT / "src").rglob("*.py"):
        assert (copy.root / path.relative_to(ROOT)).read_bytes() == path.read_bytes()


def test_other_recipes_than_the_default_are_written_elsewhere(copy: Copy) -> None:
    """docs/nix.md, where PyTorch comes from; each command replaces what the one before it wrote."""
    type_all(copy, typed("docs/nix.md"))
    recipes = list((copy.root.parent / "recipes/.flox/pkgs").iterdir())
    assert {path.name.split("-")[2] for path in recipes} == {"cuda13_0"}


def test_a_removed_row_removes_its_recipes(copy: Copy) -> None:
    table = copy.root / "src/build_torchvision/facts/isas.toml"
    table.write_text(re.sub(r"\[avx512bf16\].*?(?=\[armv8_2\])", "", table.read_text(), flags=re.DOTALL))
    assert copy.type("build-torchvision recipes --check").returncode == 1
    done = copy.type("build-torchvision recipes")
    assert "stale: .flox/pkgs/torchvision-python313-cpu-avx512bf16.nix" in done.stdout
    assert len(list((copy.root / ".flox/pkgs").iterdir())) == 50
    assert copy.type("build-torchvision recipes --check").returncode == 0


def test_a_hand_edited_generated_file_is_caught_and_mended(copy: Copy) -> None:
    edited = (
        ".flox/pkgs/torchvision-python313-cpu-avx2.nix",
        ".github/workflows/release.yml",
        "BUILD_MATRIX.md",
        "RECIPE_TEMPLATE.md",
        "nix/matrix.json",
    )
    before = {path: (copy.root / path).read_text() for path in edited}
    for path, text in before.items():
        (copy.root / path).write_text(text.replace("torchvision-python313", "torchvision-python131", 1))
    done = copy.type("build-torchvision recipes --check")
    assert done.returncode == 1
    assert sorted(re.findall(r"^changed: (.*)$", done.stdout, re.MULTILINE)) == sorted(edited)
    assert "Type `build-torchvision recipes`" in done.stdout
    assert copy.type("build-torchvision recipes").returncode == 0
    assert {path: (copy.root / path).read_text() for path in edited} == before


def test_a_file_of_somebody_else_is_named_and_left_alone(copy: Copy) -> None:
    (copy.root / ".flox/pkgs/lib").mkdir()
    (copy.root / ".flox/pkgs/lib/default.nix").write_text("{ }\n")
    for command in ("build-torchvision recipes", "build-torchvision recipes --check"):
        done = copy.type(command)
        assert done.returncode == 1
        assert "foreign: .flox/pkgs/lib/default.nix" in done.stdout
    assert (copy.root / ".flox/pkgs/lib/default.nix").exists()

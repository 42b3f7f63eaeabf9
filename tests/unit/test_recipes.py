"""Generated files: complete, in step with the tables, and a drift of any kind is seen."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest

from build_torchvision.errors import BadInput
from build_torchvision.facts.evidence import evidence
from build_torchvision.recipes import checkout, docs, tree
from build_torchvision.recipes.docs import status
from build_torchvision.variants import enumerate_variants, parse

ROOT = Path(__file__).parents[2]


def changes(found: dict[str, str]) -> dict[str, str]:
    return {one.path: one.change for one in tree.drift(tree.generate(found), found)}


def test_this_checkout_has_not_drifted() -> None:
    assert changes(checkout.read(ROOT)) == {}


def test_recipes_are_written_to_a_checkout_alone(tmp_path: Path) -> None:
    """They call the builder in the nix/ beside them: anywhere else none of them could be built."""
    assert checkout.named_checkout(ROOT) == ROOT
    with pytest.raises(BadInput, match="it is no checkout of this project") as caught:
        checkout.named_checkout(tmp_path)
    assert f"git worktree add {tmp_path}" in caught.value.hint


def test_the_matrix_lists_every_variant_once() -> None:
    text = tree.generate({})["BUILD_MATRIX.md"]
    assert [text.count(f"`{variant}`") for variant in enumerate_variants()] == [1] * len(enumerate_variants())


def test_each_status_names_a_test_that_exists_and_is_nightly_if_it_says_so() -> None:
    for row in evidence():
        path, name = row.test.split("::")
        tree_ = ast.parse((ROOT / path).read_text())
        (function,) = (node for node in tree_.body if isinstance(node, ast.FunctionDef) and node.name == name)
        marks = " ".join(ast.unparse(mark) for mark in function.decorator_list)
        marks += "".join(
            ast.unparse(node.value)
            for node in tree_.body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"
        )
        assert ("nightly" in marks) == row.nightly, row.test


def test_the_status_says_the_most_that_is_tested_of_each_variant() -> None:
    known = status()
    assert known["recipe"].keys() == set(enumerate_variants())
    assert known["run"][parse("torchvision-python313-cpu-avx2")] == "operators, upstream's tests"
    assert parse("torchvision-python313-cuda12_8-sm90-avx2") not in known["run"]  # no GPU where the tests run


def test_evidence_for_a_variant_that_does_not_exist_names_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    row = replace(evidence()[0], name="made-up", variants=("cpu-avx9",))
    monkeypatch.setattr(docs, "evidence", lambda: (row,))
    with pytest.raises(BadInput, match=r"evidence.toml \[made-up\]"):
        status()


def test_every_kind_of_drift_is_seen() -> None:
    found = tree.generate({})
    assert changes(found) == {}
    found["BUILD_MATRIX.md"] = found["BUILD_MATRIX.md"].replace("Hopper", "Grace")
    found[".flox/pkgs/gone.nix"] = f"# {tree.MARK}\n"
    found[".flox/pkgs/lib/mine.nix"] = "{ }\n"
    assert changes(found) == {
        "BUILD_MATRIX.md": "changed",
        ".flox/pkgs/gone.nix": "stale",
        ".flox/pkgs/lib/mine.nix": "foreign",
    }
    del found["BUILD_MATRIX.md"]
    assert changes(found)["BUILD_MATRIX.md"] == "missing"


def test_a_changed_file_is_shown_with_its_first_differences() -> None:
    found = tree.generate({})
    found["BUILD_MATRIX.md"] = found["BUILD_MATRIX.md"].replace("Hopper", "Grace")
    (one,) = tree.drift(tree.generate(found), found)
    assert "-| sm90 | 9.0 | Grace |" in one.diff
    assert "+| sm90 | 9.0 | Hopper |" in one.diff


def test_a_block_in_a_document_is_filled_and_the_rest_left_alone() -> None:
    text = f"Mine.\n<!-- block isas: {tree.MARK} -->\nold\n<!-- end of isas -->\nMine too.\n"
    filled = tree.generate({"NOTES.md": text})["NOTES.md"]
    assert filled.startswith("Mine.\n")
    assert filled.endswith("<!-- end of isas -->\nMine too.\n")
    assert "| avx512bf16 |" in filled
    assert "\nold\n" not in filled


def test_a_block_that_nothing_generates_is_refused() -> None:
    with pytest.raises(BadInput, match="block isos"):
        tree.generate({"NOTES.md": f"<!-- block isos: {tree.MARK} -->\n<!-- end of isos -->\n"})


def test_writing_removes_what_is_stale_and_leaves_what_is_foreign(tmp_path: Path) -> None:
    pkgs = tmp_path / ".flox/pkgs"
    pkgs.mkdir(parents=True)
    (pkgs / "gone.nix").write_text(f"# {tree.MARK}\n")
    (pkgs / "mine.nix").write_text("{ }\n")
    found = checkout.read(tmp_path)
    checkout.write(tmp_path, tree.drift(tree.generate(found), found))
    assert changes(checkout.read(tmp_path)) == {".flox/pkgs/mine.nix": "foreign"}
    assert not (pkgs / "gone.nix").exists()

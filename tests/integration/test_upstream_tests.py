"""What upstream's tests say of a package is told apart from what they say of themselves. Needs nothing but pytest."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from build_torchvision.verify.target import Place
from build_torchvision.verify.upstream import Stock, Suite, upstream_tests

PASSES = "def test_that_passes(): pass\n"
FAILS = "def test_that_fails(): assert False, 'always'\n"
SKIPPED = "import pytest\npytest.skip('not here', allow_module_level=True)\n"
ONCE = """\
from pathlib import Path
def test_that_fails_once():
    seen = Path(__file__).with_name("seen")
    before = seen.exists()
    seen.touch()
    assert before
"""
CROWDED = """\
import os
def test_that_fails_in_a_crowd():
    assert not os.environ["PYTEST_ADDOPTS"]
"""


@pytest.mark.parametrize(
    ("text", "stock", "ok", "said"),
    [
        (PASSES, True, True, "1 passed, 0 failed"),
        (PASSES + FAILS, True, True, "fails with torchvision 0.26.0 too: test_that_fails (1): AssertionError: always"),
        (PASSES + FAILS, False, False, "test_that_fails failed: AssertionError: always"),
        (PASSES + ONCE, True, True, "failed once, and passed 3 times alone: test_that_fails_once"),
        (PASSES + CROWDED, True, True, "failed once, and passed 3 times alone: test_that_fails_in_a_crowd"),
        (
            "import pytest\npytest.skip('not here', allow_module_level=True)",
            True,
            False,
            "0 tests passed or failed as they do upstream",
        ),
    ],
)
def test_what_fails_is_tried_with_the_stock_package_and_again(
    text: str, stock: bool, ok: bool, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a real pytest, and a torchvision/ that is only a name."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "-v")
    source, over = tmp_path / "source", tmp_path / "over"
    for folder in (source / "test", over / "torchvision"):
        folder.mkdir(parents=True)
    (source / "test" / "test_ops.py").write_text(text)
    (over / "torchvision" / "__init__.py").touch()
    (over / "scipy.py").touch()
    place = Place(python=Path(sys.executable), over=(over,))
    beside = Stock(place=place, version="0.26.0" if stock else None, fetch=False)
    check = upstream_tests(source, place, Suite(files=("test_ops.py",), at_least=1), beside)
    assert check.ok is ok
    assert said in check.detail


def test_a_stock_package_that_cannot_run_the_tests_excuses_no_failure(tmp_path: Path) -> None:
    source, over, broken = tmp_path / "source", tmp_path / "over", tmp_path / "broken"
    for folder in (source / "test", over / "torchvision", broken / "torchvision"):
        folder.mkdir(parents=True)
    (source / "test" / "test_ops.py").write_text("import torchvision.ours\n" + FAILS)
    (over / "torchvision" / "__init__.py").touch()
    (over / "torchvision" / "ours.py").touch()
    (broken / "torchvision" / "__init__.py").write_text("raise ImportError('older than the tests')")
    for folder in (over, broken):
        (folder / "scipy.py").touch()
    stock = Stock(place=Place(python=Path(sys.executable), over=(broken,)), version="0.26.0", fetch=False)
    place = Place(python=Path(sys.executable), over=(over,))
    check = upstream_tests(source, place, Suite(files=("test_ops.py",), at_least=1), stock)
    assert not check.ok
    assert "test_that_fails failed: AssertionError: always" in check.detail
    assert "None ran with torchvision 0.26.0: " in check.detail

"""The command line: what it prints of itself, and what it does not import to do so."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable

import pytest
from cyclopts import App

from build_torchvision import __version__
from build_torchvision.cli.main import COMMANDS, main, overview
from build_torchvision.errors import BadInput

HEAVY = ("cyclopts", "rich", "httpx", "jinja2", "cyclonedx", "capstone", "iced_x86", "elftools", "cryptography")


def command(place: str) -> Callable[..., None]:
    module, _, name = place.partition(":")
    found: Callable[..., None] = getattr(importlib.import_module(f"build_torchvision.cli.{module}"), name)
    return found


@pytest.mark.parametrize(("name", "row"), COMMANDS.items(), ids=list(COMMANDS))
def test_each_commands_summary_is_that_of_its_docstring(name: str, row: tuple[str, str]) -> None:
    found = command(row[0])
    text = found.help if isinstance(found, App) else found.__doc__
    assert row[1] == " ".join(str(text).strip().split("\n\n")[0].split())


def test_the_overview_has_every_command_the_exit_codes_and_examples(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    text = capsys.readouterr().out
    assert text == overview() + "\n"
    assert all(f"\n  {name} " in text for name in COMMANDS)
    assert "6 a file could not be written" in " ".join(text.split())
    main(["--version"])
    assert capsys.readouterr().out == f"{__version__}\n"


def test_the_overview_imports_nothing_large() -> None:
    code = (
        f"import sys; from build_torchvision.cli.main import main; main(['--help']); print({HEAVY!r}, file=sys.stderr)"
    )
    check = f"; print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code + check], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", list(COMMANDS))
def test_each_command_prints_its_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code in (0, None)
    assert f"build-torchvision {name}" in capsys.readouterr().out


def test_a_reader_that_has_seen_enough_gets_no_traceback() -> None:
    command = f"{sys.executable} -m build_torchvision.cli.main variants --all --json | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[", "141"]
    assert done.stderr == ""


def test_an_interruption_says_what_is_kept(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("build_torchvision.cli.detect.detect", interrupted)
    with pytest.raises(SystemExit) as caught:
        main(["detect"])
    assert caught.value.code == 130
    assert "the same command goes on from there" in capsys.readouterr().err


@pytest.mark.parametrize("number", ["0", "-1", "nan", "inf"])
@pytest.mark.parametrize(
    "words",
    [["bench", "x.whl", "--seconds"], ["verify", "x.whl", "--upstream-tests", "--time-box"], ["build", "--jobs"]],
)
def test_a_number_that_is_not_above_zero_is_refused_at_once(
    words: list[str], number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*words, number])
    assert caught.value.code == BadInput.exit_code
    said = capsys.readouterr()
    assert words[-1] in said.out + said.err


@pytest.mark.parametrize("days", ["-1", "nan"])
def test_the_cache_is_pruned_by_a_number_of_days_alone(days: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["cache", "prune", "--days", days])
    assert caught.value.code == BadInput.exit_code
    assert "it is a number of days" in capsys.readouterr().err

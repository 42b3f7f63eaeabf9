"""What a person sees in a terminal, narrow and wide, with and without colour, and in a pipe; and what `--help` says.

detect and doctor have their own tests.
"""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path

import pytest
from _commands import APP, ours, refusal
from _environments import Site
from _sealed import sealed
from _terminal import ESCAPE, in_terminal, piped, seen
from rich.console import RenderableType

from build_torchvision.cli import tables
from build_torchvision.cli.examples import EXAMPLES
from build_torchvision.cli.main import COMMANDS, make_app, overview
from build_torchvision.cli.options import OUT, Output
from build_torchvision.cli.sheet import LEAST_WIDTH, Sheet
from build_torchvision.describe import notes
from build_torchvision.variants import enumerate_variants, every_variant
from build_torchvision.verify.checks import Check, Report
from build_torchvision.verify.static import audit_wheel

WIDTHS = (80, 120)
LONG = "torchvision-python313-cuda12_8-sm90-avx512bf16"
FOR_PROGRAMMERS = re.compile(
    r"\b(docstring|module|function|callable|kwargs|None|True|False|argparse|cyclopts|[a-z]+_[a-z]+\(\))\b"
)


def shown(what: RenderableType, width: int) -> str:
    """`what` as it is printed in a terminal of that width, with colours."""
    file = StringIO()
    Output(file=file, width=width, force_terminal=True, legacy_windows=False).print(what)
    return file.getvalue()


def printed(sheet: Sheet, width: int) -> str:
    """`sheet` in the same terminal."""
    file = StringIO()
    sheet.print(Output(file=file, width=width, force_terminal=True, legacy_windows=False))
    return file.getvalue()


def faults(text: str, width: int | None) -> list[str]:
    """Lines that end in blanks, or are wider than the terminal without being one long word, or were cut off."""
    lines = ESCAPE.sub("", text).split("\n")
    found = [f"ends in blanks: {line!r}" for line in lines if line != line.rstrip()]
    wide = [line for line in lines if width is not None and len(line) > width]
    found += [f"{len(line)} columns: {line!r}" for line in wide if len(line) - len(line.split()[-1]) > LEAST_WIDTH]
    return found + [f"cut off: {line!r}" for line in lines if "…" in line]


@pytest.mark.parametrize("width", WIDTHS)
def test_the_list_of_variants_has_one_line_each(width: int) -> None:
    for variants in (enumerate_variants(), list(every_variant())[::97]):
        text = shown(tables.variants_table(variants, width), width)
        assert faults(text, width) == []
        names = [line.split()[0] for line in ESCAPE.sub("", text).splitlines()[1:]]
        assert names == [str(variant) for variant in variants]


@pytest.mark.parametrize("width", WIDTHS)
def test_sheets_and_reports_fold_what_is_long_and_cut_nothing_off(width: int, tmp_path: Path) -> None:
    for variant in enumerate_variants()[::7]:
        assert faults(printed(tables.variant_sheet(variant, notes(variant)), width), width) == []
    failed = Check(name="exported codec symbols", ok=False, detail=f"torchvision/_C.so: {'jpeg_start ' * 40}")
    for report in (audit_wheel(sealed(tmp_path / "dist")), Report(variant=LONG, checks=(failed,))):
        assert faults(shown(tables.proof_table(report), width), width) == []


def test_columns_are_left_out_by_their_rank_and_only_where_there_is_no_room() -> None:
    fields = [
        tables.Field(head="name"),
        tables.Field(head="why", spare=1),
        tables.Field(head="MB", number=True, spare=2),
    ]
    rows = [["x" * 30, "y" * 20, "1.5"]]
    heads = {width: shown(tables.listing(fields, rows, width), width).split("\n")[0] for width in (60, 55, 40)}
    assert [head in ESCAPE.sub("", heads[width]) for width in (60, 55, 40) for head in ("why", "MB")] == [
        *(True, True),
        *(True, False),
        *(False, False),
    ]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("terminal")
    for isa in ("avx2", "avx512"):
        sealed(folder / "dist", f"torchvision-python313-cpu-{isa}")
    Site(python="3.13", torch="2.6.0+cpu").write(folder / "venv")
    (folder / "cache" / "torch" / "torch-2.6.0-x").mkdir(parents=True)
    return folder


def commands(place: Path) -> list[list[str]]:
    index = ["index", str(place / "dist"), "--out", str(place / "site")]
    install = ["install", "--from", str(place / "site"), "--python", str(place / "venv"), "--dry-run"]
    return [["show", LONG], ["plan", LONG], ["variants", "*-sm121-*"], ["cache"], index, install, ["show", "x"]]


@pytest.mark.parametrize("width", WIDTHS)
def test_commands_fit_the_terminal(width: int, place: Path) -> None:
    env = {"BUILD_TORCHVISION_CACHE": str(place / "cache")}
    for words in commands(place):
        text = in_terminal(words, width, env=env)
        assert len(text.splitlines()) > 2, text
        # The folder that a test works in is longer than a line.
        wide = [fault for fault in faults(seen(text), width) if str(place) not in fault]
        assert wide == [], f"{words}\n{text}"


def test_colour_goes_to_terminals_that_want_it_and_to_nothing_else(place: Path) -> None:
    words = ["variants", "cpu-*"]
    assert "\x1b[" in in_terminal(words, 100)
    plain = in_terminal(words, 100, colour=False)
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", plain)
    out = piped(words)
    assert "\x1b" not in out
    assert faults(out, None) == []
    assert seen(plain).splitlines()[1:] == out.splitlines()[1:] or "platform" in out


def help_of(words: list[str], width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(OUT, "_width", width)
    with pytest.raises(SystemExit):
        make_app()([*words, "--help"])
    return capsys.readouterr().out


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_the_command_does_groups_its_options_and_ends_in_examples(
    name: str, width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = help_of([name], width, capsys, monkeypatch)
    assert faults(text, width) == []
    usage, about, *_ = [" ".join(part.split()) for part in text.strip().split("\n\n")]
    assert usage.startswith(f"Usage: build-torchvision {name}")
    assert about == COMMANDS[name][1]
    assert FOR_PROGRAMMERS.search(text) is None
    assert "─ Parameters ─" not in text or name in ("show", "detect", "doctor")
    examples = [line.strip() for line in text.partition("Examples:")[2].splitlines() if line.strip()]
    assert examples == [f"build-torchvision {example}" for example in EXAMPLES[name]]
    for arguments in ours("\n".join(examples)):
        assert arguments[0] == name
        assert refusal(arguments) is None


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_does(name: str) -> None:
    below = [APP[name][part] for part in APP[name] if not part.startswith("-")]
    for command in (APP[name], *below):
        for argument in command.assemble_argument_collection(parse_docstring=True):
            if not argument.children:  # one that has them stands for its options, and is not shown itself
                assert (argument.parameter.help or "").strip(), f"{name}: {argument.names}"


def test_the_overview_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    for width in WIDTHS:
        monkeypatch.setenv("COLUMNS", str(width))
        assert faults(overview(), width) == []
        assert FOR_PROGRAMMERS.search(overview()) is None

"""How detect and doctor look: at 80 and 120 columns, through a pipe, with colour, and where letters are lacking."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from _environments import CUDA, Site
from _examined import cuda_pair
from _machines import record, sources
from rich.console import Console

from build_torchvision.choose.advice import advise
from build_torchvision.cli import detect, doctor
from build_torchvision.cli.sheet import Sheet
from build_torchvision.doctor.report import examine
from build_torchvision.machine.environment import read_environment
from build_torchvision.machine.report import detect as read_machine


def sheets(root: Path) -> list[Sheet]:
    """What both commands print of an environment with several faults, on a machine with long names."""
    site = cuda_pair("2.10.0+cu128", "12.8", "0.24.1", "sm75", "sm80")
    site.requirement, site.requires = "torch==2.9.1", ("numpy", "pillow")
    source = sources(record("dgx-spark"))
    site.write(root)
    machine = read_machine(source, read_environment(root, {}))
    return [doctor._sheet(examine(root, root, source)), detect._sheet(machine, advise(machine))]


def printed(sheet: Sheet, width: int | None) -> list[str]:
    """The lines on a terminal of `width` columns; None for a pipe."""
    file = io.StringIO()
    sheet.print(Console(file=file, width=width or 160, force_terminal=width is not None, color_system=None))
    return file.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 120, None])
def test_no_line_ends_in_spaces_and_only_commands_are_longer_than_the_terminal(
    width: int | None, tmp_path: Path
) -> None:
    for sheet in sheets(tmp_path / str(width)):
        lines = printed(sheet, width)
        assert len(lines) > 10
        assert [line for line in lines if line != line.rstrip()] == []
        commands = [row.text for block in sheet.blocks for row in block if row.command]
        long = [line for line in lines if width and len(line) > width]
        alone = [line for line in long if line.lstrip().count(" ") == 0]  # one word, such as a path: nothing to break
        assert all(line in alone or any(line.endswith(command) for command in commands) for line in long), long


def test_a_command_is_one_line_that_can_be_copied(tmp_path: Path) -> None:
    for sheet in sheets(tmp_path / "env"):
        commands = [row.text for block in sheet.blocks for row in block if row.command]
        for command in commands:
            assert sum(line.endswith(command) for line in printed(sheet, 80)) >= 1


def test_texts_begin_in_one_column_and_go_on_in_it(tmp_path: Path) -> None:
    for sheet in sheets(tmp_path / "env"):
        rows = [row for block in sheet.blocks for row in block if row.text]
        column = max(len(row.title) for row in rows) + 2
        for line in printed(sheet, 80):
            heading = any(row.title == line for block in sheet.blocks for row in block)
            assert not line or heading or (line[column - 2 : column] == "  " and line[column] != " "), line


def test_a_pipe_gets_a_row_on_one_line_whatever_its_length() -> None:
    sheet = Sheet()
    sheet.row("note", "word " * 100)
    assert len(printed(sheet, None)) == 1
    assert len(printed(sheet, 80)) > 5


@pytest.mark.parametrize("width", [80, None])
def test_a_digest_or_path_is_never_broken(width: int | None) -> None:
    digest = "0123456789abcdef" * 8
    lines = printed(Sheet.of([("source sha256", digest), ("wheel", f"/dist/{digest}.whl")]), width)
    assert [line.split()[-1] for line in lines] == [digest, f"/dist/{digest}.whl"]


def test_colour_is_for_terminals_alone() -> None:
    sheet = Sheet()
    sheet.row("torch damaged", "", title_style="bold red")
    for terminal, coloured in ((True, True), (False, False)):
        file = io.StringIO()
        system = "standard" if terminal else None
        sheet.print(Console(file=file, width=80, force_terminal=terminal, color_system=system))
        assert ("\x1b[" in file.getvalue()) is coloured


def test_control_characters_of_file_names_reach_no_terminal() -> None:
    sheet = Sheet()
    sheet.row("a\x1b[2Jb", "c\x07\udcff", command=True)
    assert printed(sheet, 80) == ["a\\x1b[2Jb  c\\x07\\udcff"]


@pytest.mark.parametrize("command", ["doctor", "detect"])
def test_letters_that_the_output_lacks_are_escaped(command: str, tmp_path: Path) -> None:
    site = Site()
    site.main.needed += list(CUDA)
    root = site.write(tmp_path / "Umgebung für ß")
    words = [sys.executable, "-m", "build_torchvision.cli.main", command, "--python", root]
    done = subprocess.run(words, env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, check=False)
    assert b"Traceback" not in done.stderr
    assert b"f\\xfcr" in done.stdout

"""What a user sees of a wait: a moving line on a terminal, plain lines in a log, nothing when it is short or quiet."""

from __future__ import annotations

import io
import logging
import re
import time
from pathlib import Path

import pytest

from build_torchvision import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SOON", 0.05)
    monkeypatch.setattr(progress, "TERMINAL_EVERY", 0.02)
    monkeypatch.setattr(progress, "LOG_EVERY", 0.1)


def shown(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO) -> io.StringIO:
    monkeypatch.setattr(progress.sys, "stderr", stream)
    return stream


def fetch(folder: Path, seconds: float = 0.3) -> None:
    part = folder / ".x.part"
    with progress.waiting("Fetch x", part, 4_000_000):
        (folder / ".x.part.download").write_bytes(bytes(3_000_000))
        part.mkdir()
        (part / "y").write_bytes(bytes(1_000_000))
        time.sleep(seconds)


def test_a_terminal_has_one_line_that_is_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = shown(monkeypatch, Terminal())
    fetch(tmp_path)
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert text.count(progress.CLEAR) > 3
    assert re.search(r"Fetch x: 4\.0 of 4\.0 MB, [\d.]+ MB/s, 0 s\n$", text)


def test_a_log_has_plain_lines_at_long_intervals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = shown(monkeypatch, io.StringIO())
    fetch(tmp_path)
    lines = stream.getvalue().splitlines()
    assert 2 <= len(lines) <= 5
    assert all(re.fullmatch(r"Fetch x: 4\.0 of 4\.0 MB, [\d.]+ MB/s, 0 s", line) for line in lines)
    assert "\x1b" not in stream.getvalue()


def test_nothing_is_shown_of_what_ends_soon_nor_when_quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = shown(monkeypatch, Terminal())
    monkeypatch.setattr(progress, "SOON", 5)
    fetch(tmp_path, seconds=0)
    monkeypatch.setattr(progress, "SOON", 0.01)
    monkeypatch.setattr(logging.getLogger(), "level", logging.ERROR)
    (tmp_path / "again").mkdir()
    fetch(tmp_path / "again")
    assert stream.getvalue() == ""


def test_an_interruption_clears_the_line_and_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = shown(monkeypatch, Terminal())
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert stream.getvalue().endswith(progress.CLEAR)


def interrupted() -> None:
    with progress.waiting("Install"):
        time.sleep(0.2)
        raise KeyboardInterrupt


def test_of_waits_within_a_wait_the_innermost_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = shown(monkeypatch, io.StringIO())
    with progress.waiting("Assemble"):
        with progress.waiting("Fetch"):
            time.sleep(0.3)
        time.sleep(0.15)
    text = stream.getvalue()
    assert "Assemble" not in text[: text.rindex("Fetch")]
    assert "Assemble" in text[text.rindex("Fetch") :]


def test_what_else_is_printed_takes_the_place_of_a_terminals_line(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = shown(monkeypatch, Terminal())
    progress.clear_line()
    assert stream.getvalue() == "", "nothing is waited for"
    with progress.waiting("Fetch x"):
        progress.clear_line()
    assert stream.getvalue() == progress.CLEAR


def test_states_are_shown_as_they_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = shown(monkeypatch, io.StringIO())
    with progress.following("Compile") as tell:
        tell("12 of 168")
        time.sleep(0.2)
    assert "Compile: 12 of 168, 0 s" in stream.getvalue().splitlines()


def test_small_amounts_are_shown_too_and_nothing_is_called_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = shown(monkeypatch, io.StringIO())
    with progress.waiting("Fetch x", tmp_path / "x"):
        time.sleep(0.15)
        (tmp_path / "x").write_bytes(bytes(8500))
    first, *_, last = stream.getvalue().splitlines()
    assert first == "Fetch x: nothing yet, 0 s"
    assert re.fullmatch(r"Fetch x: 8\.5 kB, [\d.]+ kB/s, 0 s", last)


def test_what_is_done_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = shown(monkeypatch, io.StringIO())
    with progress.counting("Audit", 3) as one_more:
        for _ in range(3):
            one_more()
        time.sleep(0.2)
    assert re.search(r"^Audit: 3 of 3, [\d.]+/s, 0 s$", stream.getvalue(), re.MULTILINE)


def test_a_terminal_that_went_away_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = shown(monkeypatch, Terminal())
    with progress.waiting("Fetch x"):
        stream.close()
        time.sleep(0.2)

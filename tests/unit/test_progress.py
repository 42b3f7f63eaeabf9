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

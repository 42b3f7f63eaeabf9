"""Running commands: each way in which one cannot start gets its own sentence."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from build_torchvision.errors import CannotWrite, MissingInput, ProcessFailed
from build_torchvision.process import run
from build_torchvision.writing import cannot_write, write_whole, writing


def program(path: Path, text: bytes, mode: int = 0o755) -> Path:
    path.write_bytes(text)
    path.chmod(mode)
    return path


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match=r"no-such-program is not on this machine\. Install no-such-program"):
        run(["no-such-program"], action="Try")


def test_a_missing_folder_is_not_taken_for_a_missing_program(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match=r"The folder \S+/gone, in which true was to run, is not there"):
        run(["true"], action="Try", cwd=tmp_path / "gone")
    with pytest.raises(MissingInput, match="in which true was to run"):
        run(["true"], action="Try", cwd=program(tmp_path / "file", b""))


def test_a_program_without_permission_is_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match="may not be executed"):
        run([program(tmp_path / "tool", b"#!/bin/sh\n", 0o644)], action="Try")
    with pytest.raises(MissingInput, match="may not be executed"):
        run([tmp_path], action="Try")


def test_a_file_of_another_machine_is_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match=r"no program that this machine can execute \(Exec format error\)"):
        run([program(tmp_path / "tool", b"\x7fELF\x02\x01\x01" + bytes(60))], action="Try")


def test_a_failure_names_command_code_and_last_lines() -> None:
    with pytest.raises(ProcessFailed, match=r"ended with exit code 3:\nwhy\n"):
        run(["sh", "-c", "echo why >&2; exit 3"], action="Try")
    assert run(["sh", "-c", "printf '\\377'"], action="Try").stdout == "�"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.ENOTDIR, errno.EISDIR, errno.EDQUOT])
def test_what_keeps_a_file_from_being_written_is_said(code: int) -> None:
    error = cannot_write(OSError(code, os.strerror(code), "/out/wheel"), "Write the wheel")
    assert error is not None
    assert os.strerror(code) in error.problem
    assert "/out/wheel" in error.problem


def test_an_error_that_is_not_about_writing_passes(tmp_path: Path) -> None:
    assert cannot_write(OSError(errno.ECONNRESET, "reset"), "Write") is None
    with pytest.raises(ConnectionResetError), writing("Write", tmp_path):
        raise ConnectionResetError(errno.ECONNRESET, "reset")


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = write_whole(tmp_path / "new" / "file", "1", action="Write")
    assert path.read_text(encoding="utf-8") == "1"
    with pytest.raises(CannotWrite, match=r"a file is there|a part of the path is a file"):
        write_whole(path / "below", "2", action="Write")
    path.with_name("folder").mkdir()
    with pytest.raises(CannotWrite, match="a folder is there"):
        write_whole(path.with_name("folder"), "2", action="Write")
    assert sorted(child.name for child in path.parent.iterdir()) == ["file", "folder"]

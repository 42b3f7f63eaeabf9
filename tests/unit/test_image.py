"""The Dockerfile: what it copies is here, its commands pass the linter, and nothing runs as root in the end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def instructions() -> list[tuple[str, str]]:
    """(instruction, its arguments), in order; lines joined."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def test_it_copies_what_is_here() -> None:
    copied = [rest.split() for word, rest in instructions() if word == "COPY" and "--from" not in rest]
    assert copied
    for *sources, _ in copied:
        assert all((ROOT / source).exists() for source in sources)


def test_its_commands_pass_the_linter(tmp_path: Path) -> None:
    script = tmp_path / "run.sh"
    script.write_text("#!/bin/sh\nset -e\n" + "\n".join(rest for word, rest in instructions() if word == "RUN") + "\n")
    done = subprocess.run(
        [Path(sys.executable).with_name("shellcheck"), script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_tool_is_what_runs_and_not_as_root() -> None:
    found = instructions()
    users = [rest for word, rest in found if word == "USER"]
    assert users == ["builder"]
    assert found[-1] == ("ENTRYPOINT", '["build-torchvision"]')
    assert [word for word, _ in found].index("USER") > max(n for n, (word, _) in enumerate(found) if word == "RUN")


@pytest.mark.parametrize("package", ["g++", "gcc", "clang"])
def test_no_compiler_is_in_the_image(package: str) -> None:
    assert not any(package in rest.split() for word, rest in instructions() if word == "RUN")

"""`bootstrap` with a Python and a package manager that only note what they are asked to install."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = """#!/bin/sh
case "$*" in
  "-c "*) exit 0 ;;
  "-m venv .venv"*)
    mkdir -p "$3/bin"
    cp "$0" "$3/bin/python"
    cp "{echo}" "$3/bin/build-torchvision"
    cp "{echo}" "$3/bin/pytest" ;;
  "-m pip install"*) echo "$*" >> installed; sleep 0.5 ;;
  *) echo "not expected: $*" >&2; exit 9 ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    shutil.copy(ROOT / "bootstrap", folder)
    (folder / "pyproject.toml").touch()
    tools = tmp_path / "bin"
    tools.mkdir()
    scripts = {
        "dpkg-query": "#!/bin/sh\necho 'install ok installed'\n",
        "echo-arguments": '#!/bin/sh\necho "ran $*"\n',
        "python3": PYTHON.format(echo=tools / "echo-arguments"),
    }
    for name, text in scripts.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    return folder


def start(checkout: Path, *words: str, venv: str | None = None) -> subprocess.Popen[str]:
    tools = checkout.parent / "bin"
    env = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "PYTHON": str(tools / "python3")}
    env.pop("VENV", None)  # of whoever runs these tests
    env |= {"VENV": venv} if venv else {}
    return subprocess.Popen(
        [checkout / "bootstrap", *words], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out


def installed(checkout: Path) -> list[str]:
    lines = (checkout / "installed").read_text().splitlines()
    return [line.rpartition(" ")[2] for line in lines]


@pytest.mark.skipif(sys.platform != "linux", reason="flock is Linux's")
def test_two_that_start_together_install_once(checkout: Path) -> None:
    both = [start(checkout, "build-torchvision", "detect") for _ in range(4)]
    assert [finish(process) for process in both] == ["ran detect\n"] * 4
    assert installed(checkout) == ["."]


def test_the_tool_is_installed_without_what_only_its_tests_need(checkout: Path) -> None:
    finish(start(checkout, "build-torchvision", "detect"))
    assert installed(checkout) == ["."]
    finish(start(checkout, "pytest", "tests/unit"))
    assert installed(checkout) == [".", ".[dev]"]
    finish(start(checkout, "build-torchvision", "detect"))
    finish(start(checkout, "pytest", "tests/unit"))
    assert len(installed(checkout)) == 2, "installed again, though nothing changed"


def test_changed_requirements_are_installed(checkout: Path) -> None:
    finish(start(checkout, "pytest", "tests/unit"))
    later = (checkout / ".venv/bootstrapped-dev").stat().st_mtime + 10
    os.utime(checkout / "pyproject.toml", (later, later))
    finish(start(checkout, "build-torchvision", "detect"))
    assert installed(checkout) == [".[dev]", "."]


def test_another_environment_stands_beside_the_first(checkout: Path) -> None:
    finish(start(checkout, "pytest", "tests/unit"))
    assert finish(start(checkout, "pytest", "tests/unit", venv=".venv-newest")) == "ran tests/unit\n"
    assert installed(checkout) == [".[dev]", ".[dev]"]
    assert {path.name for path in checkout.glob(".venv*")} == {".venv", ".venv-newest"}

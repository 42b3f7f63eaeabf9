"""Environments for verification: a missing Python is installed, a full disk and a broken network are no verdict."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock
from test_audit import Wheel

from build_torchvision.errors import CannotWrite, FetchFailed, MissingInput, ProcessFailed
from build_torchvision.facts import releases
from build_torchvision.inputs.cache import ENVIRONMENT
from build_torchvision.verify import environments, runtime
from build_torchvision.verify.environments import cause, environment, environments_folder, fill, find_python
from build_torchvision.verify.package import Package
from build_torchvision.verify.target import PythonTarget
from build_torchvision.verify.upstream import Stock

FAKE_UV = """#!/bin/sh
# Stands in for uv: notes each call, and does what the files beside it say.
here="$(dirname "$0")"
echo "$*" >> "$here/calls"
case "$*" in
  "cache dir") echo "$here/cache" ;;
  venv*) [ -f "$here/novenv" ] && { echo "  cause: I/O error" >&2; exit 2; }
    for last; do :; done; mkdir -p "$last/bin" ;;
  "python find"*) cat "$here/found" 2>/dev/null ;;
  "python install"*) [ -f "$here/offline" ] && { echo "  cause: no route to host" >&2; exit 2; }
    printf '#!/bin/sh\\necho 3 99 0\\n' > "$here/python3.99"
    chmod +x "$here/python3.99"
    echo "$here/python3.99" > "$here/found" ;;
  *--reinstall-package*) [ -f "$here/refuses" ] && { echo "error: No solution found" >&2; exit 1; } ; exit 0 ;;
  *--offline*) [ -f "$here/cached" ] || exit 1 ;;
  "pip install"*) [ -f "$here/exit" ] || exit 0
    printf 'error: Request failed after 5 retries\\n  cause: Failed to fetch\\n  cause: Connection reset by peer\\n' >&2
    exit "$(cat "$here/exit")" ;;
esac
"""


@pytest.fixture
def uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a stand-in for uv; the cache is another folder of the test."""
    folder = tmp_path / "uv"
    folder.mkdir()
    (folder / "uv").write_text(FAKE_UV, encoding="utf-8")
    (folder / "uv").chmod(0o755)
    monkeypatch.setattr(environments, "uv_program", lambda: str(folder / "uv"))
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "cache"))
    free(monkeypatch, 100 << 30)
    return folder


def free(monkeypatch: pytest.MonkeyPatch, *amounts: int) -> None:
    """Pretend so many bytes of free space, one after the other."""
    left = list(amounts)

    def usage(path: Path) -> SimpleNamespace:
        return SimpleNamespace(free=left.pop(0) if len(left) > 1 else left[0])

    monkeypatch.setattr(shutil, "disk_usage", usage)


def calls(uv: Path, words: str) -> int:
    return sum(words in line for line in (uv / "calls").read_text(encoding="utf-8").splitlines())


# --- Python -----------------------------------------------------------------------------------------------------------


def test_a_python_that_is_not_there_is_installed(uv: Path) -> None:
    assert find_python("399") == uv / "python3.99"
    assert calls(uv, "python install -q 3.99") == 1
    assert find_python("399") == uv / "python3.99"
    assert calls(uv, "python install") == 1, "the second time it is there"


def test_where_it_cannot_be_installed_the_cause_comes_first(uv: Path) -> None:
    (uv / "offline").touch()
    with pytest.raises(MissingInput, match=r"uv could not install one \(no route to host\)"):
        find_python("399")


# --- torch ------------------------------------------------------------------------------------------------------------


def filled(uv: Path) -> None:
    fill(uv.parent / "cache" / "venv", Path("python"), "torch==2.6.0", action="installing torch")


def test_what_uv_has_already_needs_no_space_and_no_network(uv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (uv / "cached").touch()
    free(monkeypatch, 1 << 20)
    filled(uv)
    assert calls(uv, "pip install") == 1


def test_too_little_space_is_met_before_anything_is_fetched(uv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 2 << 30)
    with pytest.raises(CannotWrite, match=r"no space is left for torch: .* has 2\.0 GiB free, and 6\.0 GiB are needed"):
        filled(uv)
    assert calls(uv, "pip install") == calls(uv, "--offline") == 1


def test_a_disk_that_fills_up_is_named_as_the_cause(uv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (uv / "exit").write_text("2", encoding="utf-8")
    free(monkeypatch, 7 << 30, 7 << 30, 1 << 20)
    with pytest.raises(CannotWrite, match="no space is left"):
        filled(uv)


def test_an_environment_that_cannot_be_made_is_no_verdict(uv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (uv / "novenv").touch()
    with pytest.raises(MissingInput, match=r"no environment can be made in .*: I/O error"):
        filled(uv)
    free(monkeypatch, 1 << 20)
    with pytest.raises(CannotWrite, match="no space is left"):
        filled(uv)


def test_a_download_that_breaks_off_is_tried_again_and_says_why(uv: Path) -> None:
    (uv / "exit").write_text("2", encoding="utf-8")
    with pytest.raises(FetchFailed, match="failed in 3 attempts: Connection reset by peer"):
        filled(uv)
    assert calls(uv, "pip install") - calls(uv, "--offline") == 3


def test_a_torch_that_does_not_exist_is_missing(uv: Path) -> None:
    (uv / "exit").write_text("1", encoding="utf-8")
    with pytest.raises(MissingInput, match="cannot be installed"):
        filled(uv)
    assert calls(uv, "pip install") - calls(uv, "--offline") == 1, "trying again does not mend it"


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("error: a\n  cause: b\n  cause: c (os error 28)\n", "c (os error 28)"),
        ("error: a\n  Caused by: b.\n", "b"),
        ("\nerror: alone\nmore", "error: alone"),
        ("", "no reason given"),
    ],
)
def test_the_innermost_cause_is_shown(text: str, first: str) -> None:
    assert cause(text) == first


# --- no verdict -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "error"), [("2", FetchFailed), ("1", MissingInput)])
def test_no_torch_is_no_verdict_on_the_wheel(code: str, error: type[Exception], uv: Path, tmp_path: Path) -> None:
    (uv / "exit").write_text(code, encoding="utf-8")
    with pytest.raises(error):
        runtime.run_in_venv(
            Package(Wheel().write(tmp_path)), releases()["0.21.0"], torch_requirement="==2.6.0", python="399"
        )


def test_a_wheel_that_cannot_be_installed_beside_torch_is_one(uv: Path, tmp_path: Path) -> None:
    (uv / "refuses").touch()
    package = Package(Wheel().write(tmp_path))
    report = runtime.run_in_venv(package, releases()["0.21.0"], torch_requirement="==2.6.0", python="399")
    assert {check.name: check.ok for check in report.checks} == {"installs": False}
    with pytest.raises(ProcessFailed), environment(package.path, torch_requirement="==2.6.0", python="399"):
        pass


# --- where ------------------------------------------------------------------------------------------------------------


def test_environments_are_in_the_cache_and_gone_afterwards(uv: Path, tmp_path: Path) -> None:
    wheel = Wheel().write(tmp_path)
    with environment(wheel, torch_requirement="==2.6.0", python="399") as venv:
        assert venv.is_relative_to(tmp_path / "cache" / "environments")
        assert venv.is_dir()
    assert not venv.exists()
    assert list((tmp_path / "cache" / "environments").iterdir()) == []


def test_what_a_killed_command_left_is_swept_and_what_another_uses_stays(uv: Path, tmp_path: Path) -> None:
    root = tmp_path / "cache" / "environments"
    for name in ("verify-dead", "verify-used"):
        (root / name / "venv").mkdir(parents=True)
    with FileLock(root / "verify-used" / "in-use.lock"), environments_folder():
        assert (root / "verify-used").is_dir()
        assert not (root / "verify-dead").exists()


def test_an_unusable_cache_folder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "file"))
    with pytest.raises(CannotWrite), environments_folder():
        pass


def test_failures_are_tried_with_the_published_package_where_the_environment_has_none(tmp_path: Path) -> None:
    release, python = releases()["0.21.0"], tmp_path / "bin" / "python"
    for own, listed, version, fetch in (
        ("0.21.0+cu124", release, "0.21.0+cu124", False),
        (None, release, "0.21.0", True),
        (None, replace(release, listed=False), None, True),
    ):
        environment = PythonTarget(python=python, version="312", site=tmp_path, torchvision=own, modules=frozenset())
        stock = Stock.beside(environment, listed)
        assert (stock.version, stock.fetch, stock.place.python) == (version, fetch, python)

"""Every command that writes, where it cannot: a full disk, a read-only one, and a file where a folder should be.

`index` and `install` have theirs in test_index_faults.py.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from _disks import on_full_disk, on_read_only_disk
from _sealed import sealed

from build_torchvision.errors import CannotWrite
from build_torchvision.pipeline import _finish
from build_torchvision.verify.checks import Report
from build_torchvision.verify.static import audit_wheel
from build_torchvision.wheel import archive
from build_torchvision.wheel.assemble import Draft

ROOT = Path(__file__).parents[2]
TOOL = (sys.executable, "-m", "build_torchvision.cli.main")
VARIANT = "torchvision-python313-cpu-avx512"
Runner = Callable[[Path, Sequence[str | Path]], subprocess.CompletedProcess[str]]


def in_place_of_a_folder(folder: Path, command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    """Run `command` with a file where `folder` should be."""
    if folder.is_dir():
        folder.rmdir()
    folder.write_text("mine", encoding="utf-8")
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert folder.read_text(encoding="utf-8") == "mine"
    return done


def read_only(folder: Path, command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    return on_read_only_disk(folder, command)


def full(folder: Path, command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    return on_full_disk(folder, "4k", command)


WHERE = pytest.mark.parametrize("runner", [full, read_only, in_place_of_a_folder])


def is_three_part_error(done: subprocess.CompletedProcess[str]) -> None:
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == CannotWrite.exit_code, done.stderr
    for part in ("action:", "problem:", "hint:"):
        assert part in done.stderr


@WHERE
@pytest.mark.parametrize(
    "words",
    [
        ["build", VARIANT, "--torchvision", "0.21.0", "--launcher", "none"],
        ["prepare", VARIANT, "--torchvision", "0.21.0"],
        ["verify", "WHEEL"],
        ["bench", "WHEEL"],
    ],
    ids=lambda words: words[0],
)
def test_a_cache_that_cannot_be_written_is_named(runner: Runner, words: list[str], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    wheel = sealed(tmp_path / "dist", VARIANT)
    command = [str(wheel) if word == "WHEEL" else word for word in words]
    done = runner(cache, ["env", f"BUILD_TORCHVISION_CACHE={cache}", *TOOL, *command])
    is_three_part_error(done)
    assert "BUILD_TORCHVISION_CACHE" in done.stderr
    assert str(cache) in done.stderr


@WHERE
def test_recipes_are_not_written_where_nothing_can_be(runner: Runner, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "nix").mkdir(parents=True)
    (out / "nix" / "torchvision.nix").write_text("{ }\n", encoding="utf-8")
    (out / ".flox").mkdir()
    done = runner(out / ".flox", [*TOOL, "recipes", "--out", out])
    is_three_part_error(done)


def test_a_wheel_is_never_half_there(tmp_path: Path) -> None:
    path = sealed(tmp_path / "dist", VARIANT)
    draft, report = Draft(name=path.name, files=archive.read(path)), audit_wheel(path)
    assert report.ok
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(CannotWrite, match=r"--out"):
        _finish(draft, report, tmp_path / "file")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"
    wheel = _finish(draft, report, tmp_path / "out")
    before = wheel.read_bytes()
    failed = Report(variant=VARIANT, checks=())
    with pytest.raises(Exception, match=r"set aside as \S+\.rejected"):
        _finish(draft, failed, tmp_path / "out")
    assert wheel.read_bytes() == before  # a wheel that held is not replaced by one that does not
    assert sorted(path.name for path in wheel.parent.iterdir()) == [wheel.name, f"{wheel.name}.rejected"]


def test_a_wheel_on_a_full_disk_leaves_the_old_one(tmp_path: Path) -> None:
    draft = sealed(tmp_path / "dist", VARIANT)
    script = f"""
import sys
from pathlib import Path
sys.path[:0] = {[str(ROOT / "tests" / "unit"), *filter(None, sys.path)]!r}
from build_torchvision.errors import CannotWrite
from build_torchvision.pipeline import _finish
from build_torchvision.verify.static import audit_wheel
from build_torchvision.wheel import archive
from build_torchvision.wheel.assemble import Draft
path, out = Path({str(draft)!r}), Path({str(tmp_path / "out")!r})
(out / path.name).write_bytes(b"old")
try:
    _finish(Draft(name=path.name, files=archive.read(path)), audit_wheel(path), out)
except CannotWrite as error:
    print(error.problem)
print(sorted(path.name for path in out.iterdir()), (out / path.name).read_bytes())
"""
    (tmp_path / "out").mkdir()
    done = on_full_disk(tmp_path / "out", "8k", [sys.executable, "-c", script])
    assert "the disk is full" in done.stdout, done.stderr
    assert done.stdout.strip().endswith(f"['{draft.name}'] b'old'")

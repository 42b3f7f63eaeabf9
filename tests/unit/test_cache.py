"""The cache: what takes space, and what may go."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from build_torchvision.bench import comparison
from build_torchvision.cli.main import make_app
from build_torchvision.errors import BadInput
from build_torchvision.inputs.cache import publish
from build_torchvision.inputs.cache_use import DAY, cache_entries, prune


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BUILD_TORCHVISION_CACHE", str(tmp_path / "cache"))
    for name in ("torch/a", "builds/b", "bench/313-torch-2.14.0"):
        (tmp_path / "cache" / name).mkdir(parents=True)
        (tmp_path / "cache" / name / "file").write_bytes(b"x" * 50_000)
    return tmp_path / "cache"


def made_old(path: Path, days: float) -> None:
    at = time.time() - days * DAY
    for one in (path, path.parent / f".{path.name}.lock", path / ".lock"):
        if one.exists():
            os.utime(one, (at, at))


def test_every_entry_is_listed_with_its_size_on_disk(root: Path) -> None:
    os.link(root / "torch" / "a" / "file", root / "torch" / "a" / "again")
    found = {str(entry.path.relative_to(root)): entry for entry in cache_entries()}
    assert set(found) == {"torch/a", "builds/b", "bench/313-torch-2.14.0"}
    assert {entry.kind for entry in found.values()} == {"torch", "builds", "bench"}
    assert 50_000 <= found["torch/a"].size < 100_000


def test_only_what_was_not_used_goes(root: Path) -> None:
    made_old(root / "torch" / "a", 40)
    made_old(root / "builds" / "b", 20)
    assert [entry.path.name for entry in prune(idle_days=30)] == ["a"]
    assert not (root / "torch" / "a").exists()
    assert (root / "builds" / "b" / "file").exists()


def test_an_entry_that_is_found_again_counts_as_used(root: Path) -> None:
    kept = publish(root / "torch" / "c", lambda part: part.mkdir())
    made_old(kept, 40)
    publish(kept, lambda part: part.mkdir())
    assert prune(idle_days=30) == []


def test_what_a_running_command_holds_stays(root: Path) -> None:
    for path, lock in (("builds/b", "builds/b/.lock"), ("torch/a", "torch/.a.lock")):
        with FileLock(root / lock):
            assert path not in [
                str(entry.path.relative_to(root)) for entry in prune(idle_days=0, kinds=["builds", "torch"])
            ]
            assert (root / path / "file").exists()
        (root / "torch" / "a" / "file").parent.mkdir(exist_ok=True)
        (root / "torch" / "a" / "file").touch()


def test_an_environment_to_time_in_stays_while_it_is_used(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(venv: Path, *_: object, **__: object) -> None:
        (venv / "bin").mkdir(parents=True)
        (venv / "bin" / "python").touch()

    monkeypatch.setattr(comparison, "fill", fill)
    with comparison._environment("2.6.0", python := f"{sys.version_info[0]}{sys.version_info[1]}") as interpreter:
        assert "bench" not in {entry.kind for entry in prune(idle_days=0) if entry.path in interpreter.parents}
        assert interpreter.exists()
    assert interpreter == root / "bench" / f"{python}-torch-2.6.0" / "bin" / "python"
    assert interpreter.parents[1] in [entry.path for entry in prune(idle_days=0)]


def test_a_kind_that_is_not_there_is_refused(root: Path) -> None:
    with pytest.raises(BadInput, match="holds bench, builds, torch"):
        prune(idle_days=0, kinds=["wheels"])


def test_the_command_shows_prunes_and_says_where(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def call(*words: str) -> str:
        with pytest.raises(SystemExit) as ended:
            make_app()(list(words))
        assert ended.value.code == 0
        return capsys.readouterr().out

    assert call("cache", "path").strip() == str(root)
    assert {row["kind"] for row in json.loads(call("cache", "size", "--json"))} >= {"torch", "builds"}
    assert "all" in call("cache", "size")
    assert call("cache", "prune", "--days", "0").endswith("MiB\n")
    assert cache_entries() == []
    assert "0 entries" in call("cache", "prune", "--days", "0")

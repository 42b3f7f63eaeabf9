"""What the integration tests share: the command line as a user calls it, and wheels built once for all of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from _nix import Nix, make, need_nix, unlock
from _schemas import faults, of_command

OWN = f"{sys.version_info.major}{sys.version_info.minor}"  # the Python that is surely here, to run what was built
PYTHONS = tuple(dict.fromkeys(("312", "313", OWN)))
TOOL = (sys.executable, "-m", "build_torchvision.cli.main")


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    words: tuple[str, ...]
    code: int
    out: str
    err: str

    def json(self) -> Any:
        """What the command printed with --json, held to its schema in docs/schemas."""
        assert self.code in (0, 1), self.err
        data = json.loads(self.out)
        name = of_command(self.words)
        assert name is not None, f"no schema for {self.words}"
        assert faults(name, data) == []
        return data


def build_torchvision(
    *arguments: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None, under: tuple[str, ...] = ()
) -> Ran:
    """Run the tool in a process of its own, `under` an emulator if one is named."""
    command = [*under, *TOOL, *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **(env or {})}, cwd=cwd
    )
    return Ran(tuple(map(str, arguments)), done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Build:
    """Wheels of a build by (ISA, Python), and where its objects are."""

    wheels: Mapping[tuple[str, str], Path]
    objects: Path
    said: str


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """avx2 and avx512 for PYTHONS, from one compile of the true source against its true torch."""
    folder = tmp_path_factory.mktemp("built")
    # 0.21.0 is the release whose source every machine can get, from GitHub or the distribution's mirror.
    names = ("cpu-avx2", "cpu-avx512", "--torchvision", "0.21.0", "--python", ",".join(PYTHONS), "--json")
    ran = build_torchvision("build", *names, "--out", folder / "dist", "--build-dir", folder / "objects")
    assert ran.code == 0, ran.err
    rows = ran.json()
    assert all(row["proof"]["ok"] for row in rows)
    wheels = {}
    for row in rows:
        _, python, _, isa = row["variant"].split("-")
        wheels[isa, python.removeprefix("python")] = Path(row["wheel"])
    return Build(wheels, folder / "objects", ran.err)


@pytest.fixture
def terminals() -> None:
    """Nix gives each build a pseudoterminal for its log."""
    try:
        for end in os.openpty():
            os.close(end)
    except OSError as error:
        pytest.skip(f"Nix cannot build where there are no pseudoterminals ({error}): mount devpts on /dev/pts")


@pytest.fixture(scope="session")
def nix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nix]:
    """A tree and a store for evaluations and small builds; nothing is planted in this one."""
    need_nix()
    folder = tmp_path_factory.mktemp("nix")
    yield make(folder / "tree", folder / "state")
    unlock(folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("venv") / "made"
    venv.create(folder, with_pip=True, symlinks=True)
    return folder


@pytest.fixture
def env(made: Path, tmp_path: Path) -> Path:
    """An environment of its own with pip and nothing else; its python."""
    folder = tmp_path / "env"
    venv.create(folder, with_pip=False, symlinks=True)
    for source in made.glob("lib/python3*/site-packages"):
        shutil.copytree(source, folder / source.relative_to(made), dirs_exist_ok=True)
    return folder / "bin" / "python"

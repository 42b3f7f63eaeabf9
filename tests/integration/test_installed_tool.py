"""The tool installed from its own wheel, as its users have it: how large it is, how fast, and what it does."""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from _sealed import sealed
from uv import find_uv_bin

from build_torchvision.errors import BuildTorchvisionError
from build_torchvision.verify.environments import find_python

ROOT = Path(__file__).parents[2]
LARGEST = 120_000_000  # bytes of an environment with the tool, installer and bytecode included
HELP_SECONDS = 0.25
WHEEL_IN_STEPS = """
import sys
from hatchling.build import build_sdist, build_wheel
print((build_sdist if sys.argv[1] == "sdist" else build_wheel)(sys.argv[2]))
"""


def built(kind: str, source: Path, folder: Path) -> Path:
    """An sdist or a wheel of the tree `source`, by the build backend."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", WHEEL_IN_STEPS, kind, folder], cwd=source, capture_output=True, text=True, check=True
    )
    return folder / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("wheel", ROOT, tmp_path_factory.mktemp("tool"))


# --- what is published ------------------------------------------------------------------------------------------------


def test_the_sdist_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    sdist = built("sdist", ROOT, tmp_path / "sdist")
    shutil.unpack_archive(sdist, tmp_path / "tree")
    (tree,) = (tmp_path / "tree").iterdir()
    assert (tree / "pyproject.toml").is_file()
    again = built("wheel", tree, tmp_path / "wheel")
    assert again.name == wheel.name
    assert again.read_bytes() == wheel.read_bytes()
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    package = ROOT / "src/build_torchvision"
    files = {str(path.relative_to(ROOT / "src")) for path in package.rglob("*") if path.is_file()}
    assert {name for name in files if "__pycache__" not in name} <= names


@pytest.mark.nightly
def test_the_index_would_take_what_is_published(wheel: Path, tmp_path: Path) -> None:
    """twine's and pyroma's checks. pyroma's two complaints are of an address and a home page, which nobody named."""
    sdist = built("sdist", ROOT, tmp_path)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    python = tmp_path / "env/bin/python"
    workflow = (ROOT / ".github/workflows/tool.yml").read_text(encoding="utf-8")
    twine = next(word for word in workflow.split() if word.startswith("twine=="))  # the one that checks a release
    subprocess.run([python, "-m", "pip", "install", "--quiet", twine, "pyroma>=5"], check=True)
    done = subprocess.run(
        [python, "-m", "twine", "check", "--strict", sdist, wheel], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    done = subprocess.run([python, "-m", "pyroma", sdist], capture_output=True, text=True, check=False)
    complaints = [line for line in done.stdout.splitlines() if line.startswith(("Your ", "The ", "You "))]
    assert [line.partition("'url'")[0].partition("author-email")[0] for line in complaints] == [
        "Your package does not have ",
        "Your package should have a ",
    ], done.stdout + done.stderr


# --- what is installed ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tool:
    """An environment with the tool, and nothing of this checkout."""

    folder: Path
    cache: Path

    def __call__(self, *arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [self.folder / "bin/build-torchvision", *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env=self.environ,
        )
        assert done.returncode == code, f"{arguments}: {done.stdout}{done.stderr}"
        return done

    @property
    def environ(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        return {**kept, "BUILD_TORCHVISION_CACHE": str(self.cache), "NO_COLOR": "1"}


def size(folder: Path) -> int:
    """Bytes of the files of `folder`, as they are on a disk with blocks of 4 KiB; links count nothing."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in files)


@pytest.fixture(scope="module", params=("311", "312", "313", "314"))
def tool(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tool]:
    """The wheel, installed by pip for each Python that is to be had, bytecode and all."""
    try:
        python = find_python(request.param, install=True)
    except BuildTorchvisionError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp(f"python{request.param}")
    subprocess.run([python, "-m", "venv", folder / "env"], check=True)
    subprocess.run([folder / "env/bin/python", "-m", "pip", "install", "--quiet", wheel], check=True)
    yield Tool(folder / "env", folder / "cache")
    shutil.rmtree(folder)


@pytest.mark.nightly
def test_pip_installs_at_most_120_mb(tool: Tool) -> None:
    assert not list(tool.folder.glob("lib/python3*/site-packages/ziglang"))
    found = size(tool.folder)
    print(f"{tool.folder.parent.name}: {found / 1e6:.1f} MB")
    assert found <= LARGEST


@pytest.mark.nightly
def test_uv_installs_at_most_120_mb(wheel: Path, tmp_path: Path) -> None:
    uv = find_uv_bin()
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, tmp_path / "env"], check=True)
    subprocess.run([uv, "pip", "install", "-q", "--python", tmp_path / "env/bin/python", wheel], check=True)
    found = size(tmp_path / "env")
    print(f"uv: {found / 1e6:.1f} MB")
    assert found <= LARGEST


@pytest.mark.nightly
def test_help_takes_a_quarter_of_a_second(tool: Tool) -> None:
    seconds = []
    for _ in range(15):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        tool("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    print(f"{tool.folder.parent.name}: {statistics.median(seconds):.3f} s of processor time")
    assert statistics.median(seconds) <= HELP_SECONDS


@pytest.mark.nightly
def test_every_command_works_without_a_checkout(tool: Tool, tmp_path: Path) -> None:
    """All but `bench` and the compiling half of `build`, which test_action.py runs from an installed tool."""
    assert tool("--version").stdout.strip()
    assert json.loads(tool("detect", "--json").stdout)["machine"]["cpu"]
    assert "no torchvision" in tool("doctor", code=1).stdout
    assert "torchvision-python313-cpu-avx2" in tool("variants", "cpu-*").stdout
    assert "sm_121" in tool("show", "torchvision-python313-cuda12_8-sm121-armv9").stdout
    assert "0.21.0" in tool("plan", "torchvision-python313-cpu-avx2", "--torchvision", "0.21.0").stdout
    (library,) = tool.folder.glob("lib/python3.*")
    variant = f"torchvision-{library.name.replace('.', '')}-cpu-avx2"
    made = sealed(tmp_path / "dist", variant)
    assert json.loads(tool("verify", "--static", made, "--json").stdout)[0]["ok"]
    tool("index", tmp_path / "dist", "--out", tmp_path / "site")
    planned = tool("install", variant, "--from", tmp_path / "site", "--dry-run", "--python", tool.folder)
    assert "would install torchvision 0.21.0" in planned.stdout
    assert str(tool.cache) in tool("cache").stdout
    assert "is not in a checkout" in tool("recipes", code=2).stderr


@pytest.mark.nightly
def test_what_reads_arm_code_is_fetched_when_it_is_first_needed(tool: Tool) -> None:
    code = (
        "from build_torchvision.verify.decoding import fetch_decoder; fetch_decoder('aarch64'); import capstone; "
        "print(capstone.__file__, capstone.__version__)"
    )
    done = subprocess.run(
        [tool.folder / "bin/python", "-c", code], capture_output=True, text=True, check=True, env=tool.environ
    )
    assert done.stdout.startswith(str(tool.cache)), done.stdout

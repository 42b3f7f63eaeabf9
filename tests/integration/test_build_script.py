"""test-build.sh on results as Nix lays them out: a real wheel's files in a store path, with torch in another."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import Build

from build_torchvision.inputs.torch_sdk import torch_sdk
from build_torchvision.process import run
from build_torchvision.releases import release_named
from build_torchvision.verify.environments import environment

SCRIPT = Path(__file__).parents[2] / "test-build.sh"
NAME = "torchvision-python313-cpu-avx512"
SITE = "lib/python3.13/site-packages"
BIN = Path(sys.executable).parent


def check(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the script in `folder`, with our command line on PATH."""
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    return subprocess.run([SCRIPT, *map(str, arguments)], cwd=folder, env=env, capture_output=True, text=True)


def lay_out(store: Path, wheel: Path, torch: Path) -> Path:
    """A store path that holds the files of `wheel` and propagates `torch`, a folder with SITE/torch."""
    beside = store / f"{'1' * 32}-python3.13-torch-2.6.0"
    store.mkdir()
    beside.symlink_to(torch)
    made = store / f"{'0' * 32}-{NAME}-0.21.0"
    with zipfile.ZipFile(wheel) as files:
        files.extractall(made / SITE)
    for extension in (made / SITE / "torchvision").glob("*.so"):
        run([BIN / "patchelf", "--add-rpath", beside / SITE / "torch/lib", extension], action="laying out a result")
    (made / "nix-support").mkdir()
    (made / "nix-support/propagated-build-inputs").write_text(f"{beside}\n")
    return made


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "Type ./test-build.sh VARIANT"),
        ((NAME, "a", "b"), 2, "Type ./test-build.sh VARIANT"),
        (("torchvision-python313-cpu-avx51",), 2, "Did you mean torchvision-python313-cpu-avx512"),
        ((NAME,), 3, f"result-{NAME}\nobstacle: it is not there.\nnext:     Build it: flox build {NAME}"),
        ((NAME, "gone"), 3, "it leads to /nowhere, which is gone."),
        ((NAME, "file.whl"), 2, "build-torchvision verify file.whl"),
        ((NAME, "empty"), 2, "0 folders lib/python3.*/site-packages/torchvision"),
    ],
)
def test_what_cannot_be_checked_is_refused_with_the_next_step(
    tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    (tmp_path / "gone").symlink_to("/nowhere")
    (tmp_path / "file.whl").touch()
    (tmp_path / "empty").mkdir()
    done = check(tmp_path, *arguments)
    assert (done.returncode, words in done.stderr) == (code, True), done.stderr


@pytest.mark.compiler
def test_a_result_is_proved_and_a_result_under_anothers_name_is_not(built: Build, tmp_path: Path) -> None:
    sdk = torch_sdk(None, release_named("0.21.0"), "313", "x86_64", cuda=False)
    torch = tmp_path / "torch"
    (torch / SITE).mkdir(parents=True)
    (torch / SITE / "torch").symlink_to(sdk.root / "torch")
    (tmp_path / f"result-{NAME}").symlink_to(lay_out(tmp_path / "store", built.wheels["avx512", "313"], torch))
    done = check(tmp_path, NAME)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing was run, since the result propagates no Python" in done.stdout

    done = check(tmp_path, "torchvision-python313-cpu-avx2", f"result-{NAME}")
    assert done.returncode == 1
    assert "beyond avx2" in done.stdout


@pytest.mark.nightly
def test_a_result_that_brings_its_python_is_run(built: Build, tmp_path: Path) -> None:
    wheel = built.wheels["avx512", "313"]
    with environment(wheel, torch_requirement="==2.6.0", python="313") as venv:
        made = lay_out(tmp_path / "store", wheel, venv)
        done = check(tmp_path, NAME, made)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nms is right" in done.stdout

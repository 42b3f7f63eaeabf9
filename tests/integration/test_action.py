"""The reusable action's steps, run here word for word as a runner would run them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml

pytestmark = [pytest.mark.compiler, pytest.mark.nightly]
ROOT = Path(__file__).parents[2]
INPUTS = {"VARIANTS": "cpu-avx2", "TORCHVISION": "0.21.0", "PYTHONS": "312"}


def test_the_actions_steps_build_and_verify_a_wheel(tmp_path: Path) -> None:
    steps = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))["runs"]["steps"]
    output = tmp_path / "output"
    output.touch()
    runner = {"RUNNER_TEMP": str(tmp_path), "GITHUB_ACTION_PATH": str(ROOT), "GITHUB_OUTPUT": str(output)}
    for step in steps:
        if "run" in step:
            env = {**os.environ, **runner, **{name: INPUTS[name] for name in step.get("env", {})}}
            done = subprocess.run(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
                capture_output=True,
                text=True,
                env=env,
                cwd=tmp_path,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
    folder = Path(output.read_text().partition("=")[2].strip())
    assert len(list(folder.glob("torchvision-*.whl"))) == 1

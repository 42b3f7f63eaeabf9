"""The benchmark, for real: a variant built here, timed beside the stock wheel."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from _schemas import faults

from build_torchvision.process import run


@pytest.mark.nightly
@pytest.mark.torch
@pytest.mark.compiler
def test_a_variant_is_timed_beside_the_stock_wheel_and_gives_its_results(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build_torchvision.cli.main"]
    run([*command, "build", "cpu-avx2", "--out", tmp_path], action="building a variant", timeout=3600)
    (wheel,) = tmp_path.glob("*.whl")
    options = ["--seconds", "0.1", "--only", "small", "--threads", "1", "--json", "--quiet"]
    done = run([*command, "bench", wheel, *options], action="timing it", timeout=3600)
    result = json.loads(done.stdout)
    assert faults("bench", result) == []
    operators = [case for case in result["cases"] if case["group"] == "op"]
    assert {case["direction"] for case in operators} == {"forward", "backward"}
    assert [case["name"] for case in operators if not case["agrees"]] == []
    assert all(case["ratio"]["low"] <= case["ratio"]["value"] <= case["ratio"]["high"] for case in result["cases"])
    assert result["bytes"]["cpu.avx2"]["wheel"] < result["bytes"]["stock"]["wheel"]

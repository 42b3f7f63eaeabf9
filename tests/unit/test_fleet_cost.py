"""docs/fleet.md: its tables are what the tables of facts and the measured costs come to."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from _commands import ours, refusal

from build_torchvision.variants import enumerate_variants, select

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fleet_cost", ROOT / "tools" / "fleet_cost.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fleet_cost"] = module
    spec.loader.exec_module(module)
    return module


def test_the_document_is_what_the_costs_give_and_a_drift_is_seen(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["fleet_cost.py", "--check"])
    assert tool.main() == 0
    costs = json.loads(tool.COSTS.read_text(encoding="utf-8"))
    costs["steps"]["sm"]["cpu_seconds"] *= 2
    changed = tmp_path / "costs.json"
    changed.write_text(json.dumps(costs), encoding="utf-8")
    monkeypatch.setattr(tool, "COSTS", changed)
    assert tool.main() == 1


def test_a_job_costs_what_the_builds_that_were_measured_did(tool: ModuleType) -> None:
    """The numbers of benchmarks/NOTES.md: one, nine and 36 wheels of CUDA 13.0; one and four of the CPU."""
    costs = tool.Costs.read(tool.COSTS)
    notes = (ROOT / "benchmarks" / "NOTES.md").read_text(encoding="utf-8")

    def cost(track: str, isas: int, sms: int) -> float:
        job = tool.Job(
            torchvision="0.21.0",
            track=track,
            platform="x86_64",
            isas=isas,
            sms=sms,
            units=sms,
            wheels=isas * max(sms, 1),
        )
        return float(job.cpu_seconds(costs))

    for track, isas, sms, seconds in (
        ("cpu", 1, 0, "59.7"),
        ("cpu", 4, 0, "100.9"),
        ("cuda13_0", 1, 1, "85.5"),
        ("cuda13_0", 1, 9, "200.3"),
        ("cuda13_0", 4, 9, "332.9"),
    ):
        assert seconds in notes
        assert cost(track, isas, sms) == pytest.approx(float(seconds), rel=0.01)


def test_jobs_are_counted_once_per_release_track_and_platform(tool: ModuleType) -> None:
    variants = select(["cuda12_8-sm{100,103,120}-avx{2,512}"], enumerate_variants("312", ["cuda12_8"]))
    jobs = {job.torchvision: job for job in tool.jobs(variants)}
    job = jobs["0.25.0"]
    assert (job.isas, job.sms, job.units, job.wheels) == (2, 3, 2, 6)  # sm103 takes sm100's cubin
    assert "0.21.0" not in jobs, "its torch is of CUDA 12.4"


def test_the_workflow_of_the_document_is_one_and_its_commands_exist() -> None:
    text = (ROOT / "docs" / "fleet.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    jobs = yaml.safe_load(block)["jobs"]
    assert jobs["build"]["needs"] == "plan"
    runs = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    filled = [run.replace("${{ matrix.command }}", "build-torchvision build cpu-avx2") for run in runs]
    inner = [re.sub(r'.*"matrix=\$\((.*)\)".*', r"\1", run) for run in filled]  # of $(...), whose output is kept
    commands = [arguments for run in inner for arguments in ours(run)]
    assert [arguments[0] for arguments in commands] == ["variants", "build"]
    assert [refusal(arguments) for arguments in commands] == [None, None]

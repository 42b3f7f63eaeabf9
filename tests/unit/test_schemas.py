"""What commands print with --json, and the files they write, are as docs/schemas has them.

Here is what needs no compiler and no network; `Ran.json` of the integration tests holds the rest to the same schemas.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from _environments import Site
from _machines import NAMES as MACHINES
from _machines import record, sources
from _schemas import NAMES, OF_COMMAND, faults, of_command, planted, schema
from _sealed import sealed
from jsonschema import Draft202012Validator

from build_torchvision.choose.advice import advice_json, advise
from build_torchvision.cli.main import COMMANDS, make_app
from build_torchvision.doctor.report import examination_json, examine
from build_torchvision.inputs.cache import sha256_of
from build_torchvision.machine.environment import read_environment
from build_torchvision.machine.report import detect, machine_json
from build_torchvision.publish.run_report import save_run
from build_torchvision.verify.checks import Check, Report
from build_torchvision.verify.static import audit_wheel

ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "benchmarks" / "results").rglob("bench*.json"))
VARIANT = "torchvision-python313-cpu-avx512"
Printed = Callable[..., Any]


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Printed:
    """Run a command in this process; what it prints, parsed, and held to its schema."""

    def call(*words: str | Path) -> Any:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            make_app()([str(word) for word in words])
        assert ended.value.code in (0, 1)
        data = json.loads(capsys.readouterr().out)
        name = of_command([str(word) for word in words])
        assert name is not None
        assert faults(name, data) == []
        for what, wrong in planted(name, data):
            assert faults(name, wrong), f"{name}: {what} is not seen"
        return data

    return call


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two wheels, one with the report of a run and a benchmark beside it."""
    folder = tmp_path_factory.mktemp("schemas") / "dist"
    ran, _ = sealed(folder), sealed(folder, "torchvision-python313-cpu-avx2")
    check = Check(name="runs: nms", ok=True, detail="as the reference", part="cpu")
    save_run(ran, Report(variant=VARIANT, checks=(check,)))
    ratio = {"value": 1.4, "low": 1.3, "high": 1.5}
    bench = {
        "about": {"torchvision": "0.21.0", "machine": "a CPU"},
        "means": {"cpu.avx512": {"1": {"all": ratio}}},
        "sha256": {"cpu.avx512": sha256_of(ran)},
    }
    (folder / "bench.json").write_text(json.dumps(bench), encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_each_schema_is_valid_and_leaves_no_object_open(name: str) -> None:
    """Every object lists its fields, all of them required but where it says so, or has free keys of one shape."""
    Draft202012Validator.check_schema(schema(name))

    def objects(where: object) -> Iterator[dict[str, Any]]:
        if isinstance(where, dict):
            if where.get("type") == "object":
                yield where
            for value in where.values():
                yield from objects(value)
        elif isinstance(where, list):
            for value in where:
                yield from objects(value)

    for each in objects(schema(name)):
        assert each["additionalProperties"] is False or isinstance(each["additionalProperties"], dict)
        assert "properties" not in each or set(each["required"]) <= set(each["properties"])


def test_every_command_that_prints_json_has_a_schema() -> None:
    app = make_app()
    with_json = {
        name
        for name in COMMANDS
        for command in [app[name], *(app[name][part] for part in app[name] if not part.startswith("-"))]
        if any("--json" in argument.names for argument in command.assemble_argument_collection())
    }
    assert with_json == set(OF_COMMAND)
    assert set(OF_COMMAND.values()) <= set(NAMES)


def test_the_reference_links_every_schema_and_no_other() -> None:
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\(schemas/([a-z.-]+?)\.schema\.json\)", text)) == set(NAMES)


def test_variants_and_show(printed: Printed) -> None:
    assert len(printed("variants", "--json")) == 60
    assert printed("variants", "*-sm90-*", "--all", "--json")
    assert printed("variants", "--track", "cuda13_0", "--track", "cpu", "--matrix")["include"]
    for name in ("cpu-armv9", "cuda12_8-sm121-armv9", "cuda12_8-sm110-armv9"):
        printed("show", f"torchvision-python313-{name}", "--json")


def test_plan(printed: Printed) -> None:
    assert len(printed("plan", "cuda13_0-*-armv9", "cpu-*", "--json")) > 6


def test_detect_and_doctor_here(printed: Printed, tmp_path: Path) -> None:
    printed("detect", "--python", "3.12", "--json")
    site = Site().write(tmp_path / "venv")
    printed("doctor", "--python", site, "--json")


@pytest.mark.parametrize("machine", MACHINES)
def test_detect_on_every_recorded_machine(machine: str, tmp_path: Path) -> None:
    environment = read_environment(Site().write(tmp_path / "venv"))
    seen = detect(sources(record(machine)), environment)
    advice = advise(seen, "312")
    data = {**machine_json(seen), **advice_json(advice), "notes": [*seen.notes, *advice.notes]}
    assert faults("detect", json.loads(json.dumps(data))) == []


@pytest.mark.parametrize("machine", ["h100", "haswell", "several-gpus"])
def test_doctor_on_what_is_broken(machine: str, tmp_path: Path) -> None:
    site = Site(requirement="torch==2.6.0", torchvision="0.21.0", torch_cuda="12.8").write(tmp_path / "venv")
    found = examination_json(examine(site, tmp_path, sources(record(machine))))
    assert found["diagnoses"]
    assert faults("doctor", json.loads(json.dumps(found))) == []


def test_cache(printed: Printed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUILD_TORCHVISION_CACHE", str(tmp_path))
    (tmp_path / "torch" / "torch-2.6.0-x").mkdir(parents=True)
    (tmp_path / "torch" / "torch-2.6.0-x" / "file").write_bytes(b"x" * 5000)
    assert printed("cache", "--json")
    assert printed("cache", "size", "--json")
    assert printed("cache", "prune", "--days", "0", "--json")


def test_a_wheels_own_files(dist: Path) -> None:
    (wheel,) = dist.glob("*avx512*.whl")
    with zipfile.ZipFile(wheel) as opened:
        inside = {name.rpartition("/")[2]: opened.read(name) for name in opened.namelist()}
    for name, schema_name in (("build_torchvision.json", "descriptor"), ("build_torchvision.proof.json", "proof")):
        data = json.loads(inside[name])
        assert faults(schema_name, data) == []
        for what, wrong in planted(schema_name, data):
            assert faults(schema_name, wrong), what
    assert faults("report", json.loads(audit_wheel(wheel).dumps())) == []
    assert faults("verify", [audit_wheel(wheel).to_json()]) == []
    (saved,) = dist.glob("*.whl.proof.json")
    assert faults("run-proof", json.loads(saved.read_text(encoding="utf-8"))) == []


def test_an_index_and_what_install_chooses_from_it(
    printed: Printed, dist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    rows = printed("index", dist, "--out", site, "--quiet", "--json")
    assert {row["run_checks"] for row in rows} == {1, None}
    assert [row["benchmark"] for row in rows if row["benchmark"]] != []
    files = {
        "index.json": "index.json",
        "simple/index.json": "simple-root",
        "simple/torchvision/index.json": "simple-project",
        "cpu-avx512/simple/torchvision/index.json": "simple-project",
        **{path.relative_to(site).as_posix(): "provenance" for path in site.glob("files/*.intoto.json")},
    }
    assert sum(name == "provenance" for name in files.values()) == 2
    for file, name in files.items():
        data = json.loads((site / file).read_text(encoding="utf-8"))
        assert faults(name, data) == [], file
        for what, wrong in planted(name, data):
            assert faults(name, wrong), f"{file}: {what}"
    env = Site(python="3.13", torch="2.6.0+cpu").write(tmp_path / "venv")
    monkeypatch.setattr("build_torchvision.cli.install.this_machine", lambda: sources(record("h100")))
    printed("install", "--from", site, "--python", env, "--dry-run", "--json")


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_committed_benchmarks(path: Path) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    data = data.get("bench", data)
    assert faults("bench", data) == []
    few = {**data, "cases": data["cases"][:1]}
    for what, wrong in planted("bench", few):
        assert faults("bench", wrong), what

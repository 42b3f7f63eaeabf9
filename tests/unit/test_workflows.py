"""The workflows: pinned, least permitted, valid, and made of commands that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from _commands import ours, refusal, steps

from build_torchvision.facts.actions import actions
from build_torchvision.recipes import tree

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".github/workflows"
WORKFLOWS = sorted(FOLDER.glob("*.yml"))
BIN = Path(sys.executable).parent
MAY_WRITE = {
    ("tool", "publish"): {"id-token", "attestations"},
    ("release", "index"): {"id-token", "attestations"},
    ("release", "publish"): {"contents"},
    ("facts", "update"): {"contents", "pull-requests"},
}


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)


def audit(path: Path) -> subprocess.CompletedProcess[str]:
    """zizmor: permissions, pins, credentials left behind, text that is expanded into a shell."""
    return run(BIN / "zizmor", "--offline", "--no-progress", "--persona", "auditor", path)


def schema(*paths: Path) -> subprocess.CompletedProcess[str]:
    return run(BIN / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", *paths)


def lint(tmp_path: Path, text: str) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "step.sh"
    script.write_text(re.sub(r"\$\{\{.*?\}\}", "EXPRESSION", text))
    return run(BIN / "shellcheck", "--shell=bash", script)


def test_the_workflows_are_there() -> None:
    assert [path.stem for path in WORKFLOWS] == ["facts", "nightly", "pull-request", "release", "tool"]


def test_every_action_is_pinned_as_the_table_says_and_the_table_has_no_other() -> None:
    used = re.findall(r"uses: (\S+)@(\S+) # (\S+)\n", "".join(path.read_text() for path in WORKFLOWS))
    assert len(used) == sum(path.read_text().count("uses:") for path in WORKFLOWS)
    assert set(used) == {(action.name, action.commit, action.version) for action in actions().values()}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_nothing_is_permitted_but_what_a_job_asks_for(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {}
    for name, job in workflow["jobs"].items():
        written = {what for what, level in job["permissions"].items() if level == "write"}
        assert written == MAY_WRITE.get((path.stem, name), set())
        assert job["timeout-minutes"] > 0


def test_the_workflows_pass_the_audit() -> None:
    done = audit(FOLDER)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        (actions()["actions/checkout"].commit, "v6", "unpinned-uses"),
        ("permissions: {}\n", "permissions: write-all\n", "excessive-permissions"),
        ("persist-credentials: false", "persist-credentials: true", "artipacked"),
        ("bootstrap mypy", 'bootstrap mypy "${{ github.head_ref }}"', "template-injection"),
    ],
)
def test_the_audit_sees_a_planted_fault(tmp_path: Path, old: str, new: str, finding: str) -> None:
    broken = tmp_path / ".github/workflows/pull-request.yml"
    broken.parent.mkdir(parents=True)
    text = (FOLDER / "pull-request.yml").read_text()
    assert old in text
    broken.write_text(text.replace(old, new, 1))
    done = audit(tmp_path)
    assert done.returncode != 0
    assert finding in done.stdout


def test_the_workflows_hold_to_their_schema_and_a_planted_fault_does_not(tmp_path: Path) -> None:
    done = schema(*WORKFLOWS)
    assert done.returncode == 0, done.stdout
    broken = tmp_path / "broken.yml"
    broken.write_text((FOLDER / "nightly.yml").read_text().replace("runs-on:", "run-on:", 1))
    assert schema(broken).returncode != 0


def test_shell_steps_and_scripts_pass_shellcheck(tmp_path: Path) -> None:
    for path in WORKFLOWS:
        done = lint(tmp_path, "\n".join(steps(path)))
        assert done.returncode == 0, done.stdout
    assert lint(tmp_path, "rm $1\n").returncode != 0
    scripts = [path for path in (ROOT / "bootstrap", ROOT / ".ci/run", *ROOT.glob("*.sh")) if path.exists()]
    done = run(BIN / "shellcheck", *scripts)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_command_and_option_exists(path: Path) -> None:
    commands = [arguments for text in steps(path) for arguments in ours(text)]
    assert commands
    assert [why for arguments in commands if (why := refusal(arguments))] == []


@pytest.mark.parametrize("name", ["nightly", "release"])
def test_the_jobs_that_build_are_those_of_the_fleet(name: str) -> None:
    """The matrix is what `variants --matrix` prints when the workflow runs; each job builds its pattern of it."""
    jobs = yaml.safe_load((FOLDER / f"{name}.yml").read_text(encoding="utf-8"))["jobs"]
    assert jobs["build"]["strategy"]["matrix"] == "${{ fromJSON(needs.plan.outputs.matrix) }}"
    assert any("variants --matrix" in step.get("run", "") for step in jobs["plan"]["steps"])
    (step,) = [step for step in jobs["build"]["steps"] if "PATTERN" in step.get("env", {})]
    assert step["env"]["PATTERN"] == "${{ matrix.pattern }}"
    assert '"$PATTERN" --torchvision "$RELEASE"' in step["run"]
    assert "--allow-unpaired" not in (FOLDER / f"{name}.yml").read_text(encoding="utf-8")


def test_the_set_up_and_test_commands_are_those_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for command in ("./bootstrap build-torchvision build --auto --verify", "./bootstrap pytest"):
        assert any(line.split("  #")[0].strip() == command for line in readme.splitlines())
        assert command in steps(FOLDER / "nightly.yml")


def test_a_hand_edited_workflow_is_drift(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / ".github/workflows")
    found = {path.relative_to(ROOT).as_posix(): path.read_text() for path in WORKFLOWS}
    found[".github/workflows/nightly.yml"] += "\n"
    changed = [one.path for one in tree.drift(tree.generate(found), found) if one.change == "changed"]
    assert changed == [".github/workflows/nightly.yml"]


# --- the reusable action ----------------------------------------------------------------------------------------------

ACTION = ROOT / "action.yml"


def action_steps() -> list[dict[str, str]]:
    found: list[dict[str, str]] = yaml.safe_load(ACTION.read_text(encoding="utf-8"))["runs"]["steps"]
    return found


def test_the_action_holds_to_its_schema_and_passes_the_linters(tmp_path: Path) -> None:
    command = [BIN / "check-jsonschema", "--builtin-schema", "vendor.github-actions"]
    done = run(*command, ACTION)
    assert done.returncode == 0, done.stdout
    (tmp_path / "action.yml").write_text(ACTION.read_text().replace("using: composite", "using: magic"))
    assert run(*command, tmp_path / "action.yml").returncode != 0
    done = audit(ACTION)
    assert done.returncode == 0, done.stdout
    done = lint(tmp_path, "\n".join(step["run"] for step in action_steps() if "run" in step))
    assert done.returncode == 0, done.stdout


def test_the_actions_commands_and_options_exist() -> None:
    texts = [step["run"] for step in action_steps() if "run" in step]
    commands = [arguments for text in texts for arguments in ours(text)]
    assert [arguments[0] for arguments in commands] == ["build", "verify"]
    for options in (["--torchvision", "0.21.0"], ["--python", "313"]):
        assert refusal(["build", "cpu-avx2", *options, "--out", "x"]) is None


def test_what_the_action_uses_is_pinned_as_the_table_says() -> None:
    (used,) = re.findall(r"uses: (\S+)@(\S+) # (\S+)\n", ACTION.read_text())
    assert used[1:] == (actions()[used[0]].commit, actions()[used[0]].version)

"""`doctor`: why TorchVision fails in an environment, and the command that mends it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rich.table import Table
from rich.text import Text

from build_torchvision.cli.options import OUT, Json
from build_torchvision.doctor.causes.diagnosis import Diagnosis
from build_torchvision.doctor.diagnose import Running, diagnose, running
from build_torchvision.doctor.installation import InstallationState, inspect_installation
from build_torchvision.errors import VerificationFailed
from build_torchvision.machine.environment import current_environment, read_environment
from build_torchvision.machine.report import detect
from build_torchvision.machine.sources import this_machine


def doctor(*, python: Path | None = None, as_json: Json = False) -> None:
    """Say why TorchVision does not work in a Python environment, from its files alone, and what mends it.

    Ends with exit code 1 when something is wrong.

    Parameters
    ----------
    python
        The environment: its python, its folder or its site-packages. Default: the one that is active.
    """
    environment = read_environment(python.expanduser()) if python else current_environment()
    machine = detect(this_machine(), environment)
    patient = inspect_installation(environment, Path.cwd())
    found, state = diagnose(patient, machine), running(patient, machine)
    if as_json:
        print(json.dumps(_json(patient, found, state), indent=2))
    else:
        OUT.print(_sheet(patient, found, state))
    if found:
        sys.exit(VerificationFailed.exit_code)


def _json(patient: InstallationState, found: tuple[Diagnosis, ...], state: Running | None) -> dict[str, object]:
    environment = patient.environment
    return {
        "python": environment.python,
        "executable": str(environment.executable),
        "healthy": not found,
        "running": state
        and {
            "torchvision": state.torchvision,
            "torch": state.torch,
            "variant": state.variant,
            "cuda": state.cuda,
            "isa": state.isa,
            "device_code": list(state.device),
            "gpus": [{"gpu": gpu, "kind": kind} for gpu, kind in state.kinds],
        },
        "diagnoses": [{"name": one.name, "symptom": one.symptom, "cause": one.cause, "mend": one.fix} for one in found],
    }


def _sheet(patient: InstallationState, found: tuple[Diagnosis, ...], state: Running | None) -> Table:
    environment = patient.environment
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row("Python", Text(f"{environment.python[0]}.{environment.python[1:]}, {environment.executable}"))
    if state is not None:
        name = state.variant or "not built by build-torchvision"
        table.add_row("torchvision", Text(f"{state.torchvision} ({name}), beside torch {state.torch or 'none'}"))
        table.add_row("CPU code", Text(state.isa))
        if state.device:
            table.add_row("GPU code", Text(f"CUDA {state.cuda}: {', '.join(state.device)}"))
        for gpu, kind in state.kinds:
            table.add_row("", Text(f"on {gpu}: {kind or 'does not run'}"))
    for one in found:
        table.add_section()
        table.add_row(f"[bold red]{one.name}[/]", Text(one.cause))
        table.add_row("seen as", Text(one.symptom))
        table.add_row("[bold]mend[/]", Text(one.fix, style="bold"))
    if not found:
        table.add_row("[bold green]healthy[/]", "nothing is wrong")
    return table

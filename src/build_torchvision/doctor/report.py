"""Examine one environment on this machine, and put what was found into the shape that `doctor --json` prints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from build_torchvision.doctor.causes.diagnosis import Diagnosis
from build_torchvision.doctor.diagnose import Running, diagnose, notes, running
from build_torchvision.doctor.installation import inspect_installation
from build_torchvision.machine.environment import PythonEnvironment, current_environment, read_environment
from build_torchvision.machine.report import detect
from build_torchvision.machine.sources import Sources, this_machine


@dataclass(frozen=True, kw_only=True)
class Examination:
    """What `doctor` found in an environment."""

    environment: PythonEnvironment
    diagnoses: tuple[Diagnosis, ...]
    notes: tuple[str, ...]
    running: Running | None


def examine(python: Path | None, cwd: Path, sources: Sources | None = None) -> Examination:
    """Examine the environment of `python` (None: the active one) as seen from the folder `cwd`.

    `sources` describe the machine, by default this one. Raises BadInput where `python` names no environment.
    """
    environment = read_environment(python) if python else current_environment()
    machine = detect(sources or this_machine(), environment)
    state = inspect_installation(environment, cwd)
    return Examination(
        environment=environment,
        diagnoses=diagnose(state, machine),
        notes=notes(state, machine),
        running=running(state, machine),
    )


def examination_json(found: Examination) -> dict[str, object]:
    """The documented, stable shape. `mend` is null where no command helps; `note` then says why."""
    state = found.running
    return {
        "python": found.environment.python,
        "executable": str(found.environment.executable),
        "healthy": not found.diagnoses,
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
        "diagnoses": [
            {
                "name": one.name,
                "symptom": one.symptom,
                "cause": one.cause,
                "mend": one.fix,
                "note": one.remedy.note,
            }
            for one in found.diagnoses
        ],
        "notes": list(found.notes),
    }

"""`detect`: what this machine is, and which variant fits it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from build_torchvision.choose.advice import Advice, Offer, advise
from build_torchvision.choose.ranking import Choice
from build_torchvision.cli.options import OUT, Json
from build_torchvision.errors import BadInput
from build_torchvision.machine.environment import PythonEnvironment, environment_with_torch, read_environment
from build_torchvision.machine.report import Machine
from build_torchvision.machine.report import detect as read_machine
from build_torchvision.machine.sources import this_machine
from build_torchvision.variants import PYTHONS

SHOWN = 6  # runners-up on the screen; --json has all


def detect(*, python: str | None = None, as_json: Json = False) -> None:
    """Describe this machine, which variant fits it best and why, and the commands to build it.

    Parameters
    ----------
    python
        The environment it is for, by its python or its folder: its Python and its torch then decide too. Or only a
        Python, such as 3.12. Default: the active environment if torch is installed there, else Python 3.13.
    """
    version, environment = environment_of(python)
    machine = read_machine(this_machine(), environment)
    advice = advise(machine, version)
    if as_json:
        notes = [*machine.notes, *advice.notes]
        print(json.dumps({**machine_json(machine), **advice_json(advice), "notes": notes}, indent=2))
    else:
        OUT.print(_sheet(machine, advice))


def environment_of(python: str | None) -> tuple[str | None, PythonEnvironment | None]:
    """(Python of the matrix, environment) that --python means. Raises BadInput for what is neither."""
    if python is None:
        return None, environment_with_torch()
    if python.replace(".", "") in PYTHONS:
        return python.replace(".", ""), None
    if re.fullmatch(r"\d+(\.\d+)*", python) and not Path(python).exists():
        raise BadInput(
            f"--python {python}", "is no Python of the matrix.", f"Choose from {', '.join(PYTHONS)}, or a path."
        )
    return None, read_environment(Path(python).expanduser())


def machine_json(machine: Machine) -> dict[str, Any]:
    """The machine's part of the documented shape."""
    environment = machine.environment
    return {
        "machine": {
            "platform": machine.platform,
            "cpu": {
                "model": machine.cpu.model,
                "microarchitecture": machine.cpu.microarchitecture,
                "isa": machine.cpu.isa,
                "emulated": machine.cpu.emulated,
                "cpus": machine.cpus,
                "limit": machine.cpu_limit,
            },
            "gpus": [
                {
                    "name": gpu.name,
                    "capability": gpu.capability,
                    "sm": gpu.sm,
                    "memory_mib": gpu.memory_mib,
                    "mig": list(gpu.mig),
                }
                for gpu in machine.gpus
            ],
            "driver": {"version": machine.driver, "cuda": machine.driver_cuda} if machine.driver else None,
            "container": machine.container,
            "wsl": machine.wsl,
            "glibc": machine.glibc,
        },
        "environment": environment
        and {
            "python": environment.python,
            "executable": str(environment.executable),
            "torch": environment.torch and {"version": environment.torch.version, "cuda": environment.torch.cuda},
            "torchvision": environment.torchvision
            and {"version": environment.torchvision.version, "variant": environment.torchvision.variant},
        },
    }


def advice_json(advice: Advice) -> dict[str, Any]:
    """The advice's part of the documented shape."""
    return {
        "python": advice.python,
        "best": _offer_json(advice.best),
        "seed": _offer_json(advice.seed),
        "called_for": _offer_json(advice.called_for),
        "per_gpu": [
            {"gpu": gpu.name, "capability": gpu.capability, "variant": choice and str(choice.variant)}
            for gpu, choice in advice.per_gpu
        ],
        "runners_up": [_choice_json(choice) for choice in advice.runners_up],
    }


def _offer_json(offer: Offer | None) -> dict[str, Any] | None:
    if offer is None:
        return None
    return {
        **_choice_json(offer.choice),
        "torchvision": offer.release and offer.release.torchvision,
        "torch": offer.release and offer.release.torch,
        "build": offer.build,
        "install": offer.install,
        "needs": offer.needs,
    }


def _choice_json(choice: Choice) -> dict[str, Any]:
    return {"variant": str(choice.variant), "kind": choice.kind, "why": choice.why}


def _sheet(machine: Machine, advice: Advice) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)

    def row(title: str, text: str) -> None:
        table.add_row(title, Text(text))

    limit = f", limited to {machine.cpu_limit:g}" if machine.cpu_limit is not None else ""
    isa = machine.cpu.isa or "no ISA of the matrix"
    row("CPU", f"{machine.cpu.model} ({machine.cpu.microarchitecture}, {machine.platform}), {machine.cpus} CPUs{limit}")
    row("CPU ISA", isa)
    for gpu in machine.gpus:
        memory = f", {gpu.memory_mib} MiB" if gpu.memory_mib else ""
        row("GPU", f"{gpu.name}, {gpu.capability}{memory}")
    if not machine.gpus:
        row("GPU", "none from NVIDIA")
    if machine.driver:
        row("driver", machine.driver + (f", CUDA {machine.driver_cuda}" if machine.driver_cuda else ""))
    where = [machine.container and f"in {machine.container}", machine.wsl and "WSL2", f"glibc {machine.glibc}"]
    row("system", ", ".join(part for part in where if part))
    environment = machine.environment
    if environment is not None:
        row("Python", f"{environment.python[0]}.{environment.python[1:]}, {environment.executable}")
        for name, found in (("torch", environment.torch), ("torchvision", environment.torchvision)):
            row(name, found.version if found else "not installed")
    for note in machine.notes:
        row("note", note)
    offers = (("best", advice.best), ("default track", advice.seed), ("called for", advice.called_for))
    shown: set[str] = set()
    for title, offer in offers:
        if offer is None or str(offer.choice.variant) in shown:
            continue
        shown.add(str(offer.choice.variant))
        table.add_section()
        table.add_row(f"[bold]{title}[/]", Text(str(offer.choice.variant), style="bold"))
        row("", offer.choice.why)
        if offer.needs:
            row("first", offer.needs)
        row("build", offer.build)
        row("install", offer.install)
    table.add_section()
    for choice in [choice for choice in advice.runners_up if str(choice.variant) not in shown][:SHOWN]:
        row("behind", f"{choice.variant}: {choice.why}")
    for note in advice.notes:
        row("note", note)
    return table

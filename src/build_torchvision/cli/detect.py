"""`detect`: what this machine is, and which variant fits it."""

from __future__ import annotations

import json

from build_torchvision.choose.advice import Advice, advice_json, advise
from build_torchvision.cli.options import OUT, Json
from build_torchvision.cli.sheet import Sheet
from build_torchvision.machine.environment import environment_named
from build_torchvision.machine.report import Machine, machine_json
from build_torchvision.machine.report import detect as read_machine
from build_torchvision.machine.sources import this_machine

SHOWN = 6  # runners-up on the screen; --json has all


def detect(*, python: str | None = None, as_json: Json = False) -> None:
    """Describe this machine, which variant fits it best and why, and the commands to build it.

    Parameters
    ----------
    python
        The environment it is for, by its python or its folder: its Python and its torch then decide too. Or only a
        Python, such as 3.12. Default: the active environment if torch is installed there, else Python 3.13.
    """
    version, environment = environment_named(python)
    machine = read_machine(this_machine(), environment)
    advice = advise(machine, version)
    if as_json:
        notes = [*machine.notes, *advice.notes]
        print(json.dumps({**machine_json(machine), **advice_json(advice), "notes": notes}, indent=2))
    else:
        _sheet(machine, advice).print(OUT)


def _sheet(machine: Machine, advice: Advice) -> Sheet:
    sheet = Sheet()
    row = sheet.row
    limit = f", limited to {machine.cpu_limit:g}" if machine.cpu_limit is not None else ""
    row("CPU", f"{machine.cpu.model} ({machine.cpu.microarchitecture}, {machine.platform}), {machine.cpus} CPUs{limit}")
    row("CPU ISA", machine.cpu.isa or "no ISA of the matrix")
    for gpu in machine.gpus:
        memory = f", {gpu.memory_mib} MiB" if gpu.memory_mib else ""
        row("GPU", f"{gpu.name}, {gpu.capability}{memory}")
    if not machine.gpus:
        row("GPU", "none from NVIDIA")
    if machine.driver:
        row("driver", machine.driver + (f", CUDA {machine.driver_cuda}" if machine.driver_cuda else ""))
    libc = f"glibc {machine.glibc}" if machine.glibc else "no glibc"
    where = [machine.container and f"in {machine.container}", machine.wsl and "WSL2", libc]
    row("system", ", ".join(part for part in where if part))
    environment = machine.environment
    if environment is not None:
        row("Python", f"{environment.python_version}, {environment.executable}")
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
        sheet.gap()
        row(title, str(offer.choice.variant), style="bold", title_style="bold")
        row("", offer.choice.why)
        if offer.needs:
            row("first" if offer.build else "no build", offer.needs)
        if offer.build:
            row("build", offer.build, command=True)
        if offer.install:
            row("install", offer.install, command=True)
    sheet.gap()
    for choice in [choice for choice in advice.runners_up if str(choice.variant) not in shown][:SHOWN]:
        row("behind", f"{choice.variant}: {choice.why}")
    for note in advice.notes:
        row("note", note)
    return sheet

"""`doctor`: why TorchVision fails in an environment, and the command that mends it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rich.table import Table
from rich.text import Text

from build_torchvision.cli.options import OUT, Json
from build_torchvision.doctor.report import Examination, examination_json, examine
from build_torchvision.errors import VerificationFailed
from build_torchvision.reading import printable


def doctor(*, python: Path | None = None, as_json: Json = False) -> None:
    """Find out why TorchVision does not work in a Python environment, from its files alone, and what mends it.

    Ends with exit code 1 when something is wrong.

    Parameters
    ----------
    python
        The environment: its python, its folder or its site-packages. Default: the one that is active.
    """
    found = examine(python.expanduser() if python else None, Path.cwd())
    if as_json:
        print(json.dumps(examination_json(found), indent=2))
    else:
        OUT.print(_sheet(found))
    if found.diagnoses:
        sys.exit(VerificationFailed.exit_code)


def _sheet(found: Examination) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)

    def row(title: str, text: str, style: str = "") -> None:
        table.add_row(title, Text(printable(text), style=style))

    environment, running = found.environment, found.running
    row("Python", f"{environment.python_version}, {environment.executable}")
    if running is not None:
        name = running.variant or "not built by build-torchvision"
        row("torchvision", f"{running.torchvision} ({name}), beside torch {running.torch or 'none'}")
        row("CPU code", running.isa)
        if running.device:
            row("GPU code", f"CUDA {running.cuda or '?'}: {', '.join(running.device)}")
        for gpu, kind in running.kinds:
            row("", f"on {gpu}: {kind or 'does not run'}")
    for one in found.diagnoses:
        table.add_section()
        row(f"[bold red]{one.name}[/]", one.cause)
        row("seen as", one.symptom)
        if one.fix is not None:
            row("[bold]mend[/]", one.fix, "bold")
        if one.fix is None or one.remedy.note:
            row("" if one.fix else "[bold]mend[/]", one.remedy.note or "no command helps")
    if not found.diagnoses:
        row("[bold green]healthy[/]", "nothing is wrong")
    for note in found.notes:
        row("note", note)
    return table

"""`doctor`: why TorchVision fails in an environment, and the command that mends it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from build_torchvision.cli.options import OUT, Json
from build_torchvision.cli.sheet import Sheet
from build_torchvision.doctor.report import Examination, examination_json, examine
from build_torchvision.errors import VerificationFailed
from build_torchvision.reading import home_expanded, working_folder


def doctor(*, python: Path | None = None, as_json: Json = False) -> None:
    """Find out why TorchVision does not work in a Python environment, from its files alone, and what fixes it.

    Ends with exit code 1 when something is wrong.

    Parameters
    ----------
    python
        The environment: its python, its folder or its site-packages. Default: the one that is active.
    """
    found = examine(home_expanded(python) if python else None, working_folder())
    if as_json:
        print(json.dumps(examination_json(found), indent=2))
    else:
        _sheet(found).print(OUT)
    if found.diagnoses:
        sys.exit(VerificationFailed.exit_code)


def _sheet(found: Examination) -> Sheet:
    sheet = Sheet()
    environment, running = found.environment, found.running
    sheet.row("Python", f"{environment.python_version}, {environment.executable}")
    if running is not None:
        name = running.variant or "not built by build-torchvision"
        sheet.row("torchvision", f"{running.torchvision} ({name}), beside torch {running.torch or 'none'}")
        sheet.row("CPU code", running.isa)
        if running.device:
            sheet.row("GPU code", f"CUDA {running.cuda or '?'}: {', '.join(running.device)}")
        for gpu, kind in running.kinds:
            sheet.row("", f"on {gpu}: {kind or 'does not run'}")
    for one in found.diagnoses:
        sheet.gap()
        sheet.row(one.name, "", title_style="bold red")
        sheet.row("cause", one.cause)
        sheet.row("seen as", one.symptom)
        if one.fix is not None:
            sheet.row("fix", one.fix, style="bold", command=True)
        if one.fix is None or one.remedy.note:
            sheet.row("" if one.fix else "fix", one.remedy.note or "no command helps")
    sheet.gap()
    if not found.diagnoses:
        sheet.row("healthy", "nothing is wrong", title_style="bold green")
    for note in found.notes:
        sheet.row("note", note)
    return sheet

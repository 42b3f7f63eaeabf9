"""`prepare`: fetch and check everything that variants need, before it is used."""

from __future__ import annotations

import json

from build_torchvision import prefetch
from build_torchvision.cli.options import OUT, Json, Names, Quiet, Verbose, log_to_stderr
from build_torchvision.cli.sheet import Sheet
from build_torchvision.cli.wheel_options import WHEEL, Wheel
from build_torchvision.inputs.source import SourceAvailability
from build_torchvision.requests import pip_lists


def prepare(
    *names: Names, wheel: Wheel = WHEEL, as_json: Json = False, quiet: Quiet = False, verbose: Verbose = False
) -> None:
    """Fetch and check all that building and verifying variants NAMES needs; nothing is compiled.

    For another platform that includes a cross compiler, its torch, and a root to emulate. What you must install
    yourself is printed with the command that does it.
    """
    log_to_stderr(quiet=quiet, verbose=verbose)
    chosen = wheel.requests("prepare", names, SourceAvailability(), lists=pip_lists)
    found = [row for request in chosen.requests for row in prefetch.prepare(request)]
    if as_json:
        print(json.dumps(dict(found), indent=2))
        return
    Sheet.of(found).print(OUT)

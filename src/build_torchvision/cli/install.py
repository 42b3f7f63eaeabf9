"""`install`: choose this machine's wheel from an index and install it."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from build_torchvision.cli.options import OUT, RESULT, WHAT, Json, Quiet, Release, Verbose, flag, log_to_stderr
from build_torchvision.cli.sheet import Sheet
from build_torchvision.errors import BadInput
from build_torchvision.install.installer import install as install_wheel
from build_torchvision.install.remote import remote
from build_torchvision.install.select import best
from build_torchvision.machine.environment import read_environment
from build_torchvision.machine.report import detect
from build_torchvision.machine.sources import this_machine
from build_torchvision.publish import catalogue
from build_torchvision.requests import named_variants

SHOWN = 4  # wheels behind the best, on the screen; --json has all
log = logging.getLogger(__name__)


def install(
    *names: Annotated[str, Parameter(help="Variants or patterns to choose from. Default: all that the index has.")],
    from_: Annotated[str, Parameter(name="--from", group=WHAT)],
    python: Annotated[Path | None, Parameter(group=RESULT)] = None,
    torchvision: Release = None,
    trust: Annotated[Path | None, Parameter(group=WHAT)] = None,
    deps: Annotated[bool, Parameter(group=RESULT)] = True,
    dry_run: Annotated[bool, flag(RESULT, "Choose and print why; install nothing.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Install the wheel of an index that fits this machine best, or the best of variants NAMES, and print why.

    The wheel's hash, its report and its bytes are checked before anything is installed.

    Parameters
    ----------
    from_
        The address of an index that `index` made, or its folder.
    python
        The environment to install into, by its python or its folder. Default: the one that is active.
    trust
        A public key (PEM): take only wheels whose provenance is signed with it.
    deps
        Also install what the wheel requires and is missing: torch, numpy and Pillow.
    """
    log_to_stderr(quiet=quiet, verbose=verbose)
    active = os.environ.get("VIRTUAL_ENV")
    if python is None and not active:
        raise BadInput(
            "install", "no environment is active, and none was named.", "Type `--python .venv`, or activate one."
        )
    environment = read_environment(python if python is not None else Path(str(active)))
    site = remote(from_)
    if site.open_to_others and trust is None:
        log.warning("%s is plain http: whoever is on the way could change it. Use https, or --trust KEY.", site.base)
    records = catalogue.fetch(site)
    wanted = {variant.short for variants in named_variants(names) for variant in variants} if names else None
    records = [
        row
        for row in records
        if (wanted is None or row.parsed.short in wanted) and torchvision in (None, row.torchvision)
    ]
    judged = best(detect(this_machine(), environment), records, site.base)
    chosen = judged[0]
    if not dry_run:
        install_wheel(site, chosen.record, environment, trust=trust, deps=deps)
    if as_json:
        rows = [{**asdict(found.record), "fits": found.fits, "why": found.why} for found in judged]
        print(json.dumps({"installed": not dry_run, "python": str(environment.executable), "wheels": rows}, indent=2))
        return
    word = "would install" if dry_run else "installed"
    did = f"{word} torchvision {chosen.record.version} into {environment.executable}"
    OUT.print(Text(did, style="bold"), soft_wrap=True)
    behind = judged[1 : SHOWN + 1]
    others = [("next best" if one.fits else "unfit", f"{one.record.variant}: {one.why}") for one in behind]
    Sheet.of([("why", chosen.why), *others]).print(OUT)

"""`prepare`: everything that variants need, fetched and checked before the day it is used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from build_torchvision import prefetch
from build_torchvision.cli import tables
from build_torchvision.cli.options import (
    OUT,
    Json,
    Quiet,
    Release,
    Torch,
    TorchIndex,
    Verbose,
    Without,
    log_to_stderr,
    show_left_out,
)
from build_torchvision.requests import Wanted, named_variants, pip_lists, requests_for


def prepare(
    *names: str,
    torchvision: Release = None,
    torch: Torch = None,
    torch_index: TorchIndex = None,
    source: Path | None = None,
    without: Without = (),
    compiler: str = "auto",
    cc_prefix: str | None = None,
    allow_unpaired: Annotated[bool, Parameter(negative=())] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Fetch and check all that building and verifying variants NAMES needs; nothing is compiled.

    For another platform that is a cross compiler, the codecs' packages, its torch, and a root to emulate. What must be
    installed is named with the one command that does it.
    """
    log_to_stderr(quiet=quiet, verbose=verbose)
    exact, matched = named_variants(names)
    wanted = Wanted(
        exact=exact,
        matched=matched,
        torchvision=torchvision,
        torch=torch,
        torch_index=torch_index,
        source=source,
        allow_unpaired=allow_unpaired,
        options={"without": frozenset(without), "compiler": compiler, "cc_prefix": cc_prefix},
    )
    chosen = requests_for(wanted, lists=pip_lists)
    show_left_out(chosen)
    found = [row for request in chosen.requests for row in prefetch.prepare(request)]
    if as_json:
        print(json.dumps(dict(found), indent=2))
        return
    OUT.print(tables.sheet(found))

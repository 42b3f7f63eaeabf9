"""`prepare`: fetch and check everything that variants need, before it is used."""

from __future__ import annotations

import json

from build_torchvision import prefetch
from build_torchvision.cli.options import (
    OUT,
    AllowUnpaired,
    CcPrefix,
    Compiler,
    Json,
    Names,
    Quiet,
    Release,
    Source,
    Torch,
    TorchIndex,
    Verbose,
    Without,
    log_to_stderr,
    show_left_out,
)
from build_torchvision.cli.sheet import Sheet
from build_torchvision.requests import Wanted, named_variants, pip_lists, requests_for


def prepare(
    *names: Names,
    torchvision: Release = None,
    torch: Torch = None,
    torch_index: TorchIndex = None,
    source: Source = None,
    without: Without = (),
    compiler: Compiler = "auto",
    cc_prefix: CcPrefix = None,
    allow_unpaired: AllowUnpaired = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Fetch and check all that building and verifying variants NAMES needs; nothing is compiled.

    For another platform that includes a cross compiler, its torch, and a root to emulate. What you must install
    yourself is printed with the command that does it.
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
    Sheet.of(found).print(OUT)

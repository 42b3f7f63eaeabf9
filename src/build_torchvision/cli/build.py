"""`plan` and `build`: from names to verified wheels."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from build_torchvision import pipeline
from build_torchvision.cli import tables
from build_torchvision.cli.options import (
    COMPILING,
    ERR,
    OUT,
    RESULT,
    Json,
    Names,
    Output,
    Quiet,
    Verbose,
    above_zero,
    log_to_stderr,
)
from build_torchvision.cli.sheet import Sheet
from build_torchvision.cli.wheel_options import WHEEL, Wheel
from build_torchvision.errors import VerificationFailed
from build_torchvision.execute.launcher import LauncherChoice
from build_torchvision.inputs.source import SourceAvailability
from build_torchvision.plan_report import describe_plan
from build_torchvision.requests import pip_lists
from build_torchvision.verify.session import VerifyOptions, verify_all


def plan(*names: Names, wheel: Wheel = WHEEL, as_json: Json = False) -> None:
    """Print what `build` would do with variants NAMES: inputs, flags, the wheel's name. Nothing is fetched or run."""
    found = wheel.requests("plan", names, available=lambda release: True)
    plans = [describe_plan(request, variant) for request in found.requests for variant in request.variants]
    if as_json:
        print(json.dumps(plans, indent=2))
        return
    for number, row in enumerate(plans):
        if number:
            OUT.print()
        known = {key.replace("_", " "): value for key, value in row.items() if value is not None and value != []}
        texts = [(key, " ".join(value) if isinstance(value, list) else str(value)) for key, value in known.items()]
        Sheet.of(texts).print(OUT)


def build(
    *names: Names,
    wheel: Wheel = WHEEL,
    jobs: Annotated[int | None, Parameter(group=COMPILING, validator=above_zero)] = None,
    launcher: Annotated[LauncherChoice, Parameter(group=COMPILING)] = "auto",
    out_dir: Annotated[Path, Parameter(name="--out", group=RESULT)] = Path("dist"),
    build_dir: Annotated[Path | None, Parameter(group=COMPILING)] = None,
    verify_: Annotated[bool, Parameter(name="--verify", negative=(), group=RESULT)] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Build variants NAMES (or patterns), audit each wheel, and put those that hold into --out.

    Parameters
    ----------
    launcher
        A compiler cache. auto takes ccache, else sccache, where one is on PATH. Its own environment variables name a
        remote cache, such as CCACHE_REMOTE_STORAGE.
    jobs
        How many compilers run at once. Default: from the cores and the memory.
    build_dir
        Where objects are kept. Default: in the cache.
    out_dir
        The folder for wheels.
    verify_
        Then run each wheel next to torch, as `verify` does; another platform's under emulation.
    """
    log_to_stderr(quiet=quiet, verbose=verbose)
    found = wheel.requests(
        "build", names, SourceAvailability(), lists=pip_lists, jobs=jobs, launcher=launcher, out=out_dir
    )
    console = Output(stderr=True, quiet=quiet, width=None if ERR.is_terminal else ERR.width)
    result = pipeline.build_all(found.requests, console, folder=build_dir, verbose=verbose)
    for outcome in result.outcomes:
        console.print(
            f"{outcome.ran} actions, {outcome.cpu_seconds:.0f} CPU seconds, largest process {outcome.peak_mib:.0f} MiB"
            f"; objects and logs in {outcome.folder}",
            highlight=False,
        )
    proofs = [built.report for built in result.wheels]
    if verify_ and result.wheels:
        options = VerifyOptions(torch=wheel.torch, source=wheel.source, emulate=True)
        proofs = list(verify_all([(built.wheel, built.variant) for built in result.wheels], options))
    if as_json:
        rows = [
            {"variant": str(built.variant), "wheel": str(built.wheel), "proof": proof.to_json()}
            for built, proof in zip(result.wheels, proofs, strict=True)
        ]
        print(json.dumps(rows, indent=2))
    else:
        for built, proof in zip(result.wheels, proofs, strict=True):
            if verify_:
                OUT.print(tables.proof_table(proof))
            print(built.wheel)
    for variant, error in result.failed:
        ERR.print(f"failed: {variant}: {error.problem} {error.hint}", markup=False, highlight=False, soft_wrap=True)
    if result.failed:
        ERR.print(f"{len(result.failed)} of {len(result.failed) + len(result.wheels)} wheels failed", highlight=False)
    if result.failed or not all(proof.ok for proof in proofs):
        sys.exit(VerificationFailed.exit_code)

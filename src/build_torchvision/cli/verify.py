"""`verify`: whether packages are what their names say."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from build_torchvision.cli import tables
from build_torchvision.cli.options import (
    INPUTS,
    OUT,
    OUTPUT,
    RUN,
    WHAT,
    Json,
    Quiet,
    Torch,
    Verbose,
    above_zero,
    flag,
    log_to_stderr,
)
from build_torchvision.errors import BadInput, VerificationFailed
from build_torchvision.machine.report import detect
from build_torchvision.machine.sources import this_machine
from build_torchvision.publish.run_report import save_run
from build_torchvision.variants import parse
from build_torchvision.verify.checks import Report
from build_torchvision.verify.gpu import GpuHost, VisibleGpu
from build_torchvision.verify.session import VerifyOptions, verify_all


def verify(
    *wheels: Annotated[Path, Parameter(help="Wheels, or folders that Nix or Flox built.")],
    variant: Annotated[str | None, Parameter(group=WHAT)] = None,
    torch: Torch = None,
    static: Annotated[bool, flag(RUN, "Only read the files; install and run nothing.")] = False,
    upstream_tests: Annotated[bool, Parameter(negative=(), group=RUN)] = False,
    device: Annotated[bool, Parameter(negative=(), group=RUN)] = False,
    python: Annotated[Path | None, Parameter(group=INPUTS)] = None,
    source: Annotated[Path | None, Parameter(group=INPUTS)] = None,
    time_box: Annotated[float | None, Parameter(group=RUN, validator=above_zero)] = None,
    emulate: Annotated[bool, Parameter(negative=(), group=RUN)] = False,
    for_cpu: Annotated[str | None, Parameter(group=WHAT)] = None,
    save: Annotated[bool, flag(OUTPUT, "Keep each report next to its wheel, for `index`: WHEEL.proof.json.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Check that WHEELS are what their names say: decode every instruction, then run them next to their torch.

    Parameters
    ----------
    variant
        The variant that it should be, where the file name does not tell.
    upstream_tests
        Also run upstream's own tests of operators and images; with --device those for CUDA.
    device
        Also run every CUDA operator on this machine's GPU. A wheel that it cannot run is refused before any launch.
    python
        An environment that has torch, by its interpreter or its folder. It is used and not changed. Default: a new
        environment with torch, removed afterwards.
    source
        A folder or archive of TorchVision's source, whose tests are run, in place of the download.
    time_box
        Stop starting new tests after this many minutes; the report lists the tests that ran.
    emulate
        Run another platform's wheels under qemu: armv8_2 as a Neoverse N1, armv9 with vectors of 128 and of 512 bits,
        which must give the same results.
    for_cpu
        Check, by reading alone, that it runs on this processor: graviton2, graviton3, graviton4, grace, or a name of
        archspec's.
    """
    log_to_stderr(quiet=quiet, verbose=verbose)
    if not wheels:
        raise BadInput("verify", "no wheel was named.", "Try `build-torchvision verify dist/*.whl`.")
    if static and (device or python):
        raise BadInput("verify --static", "it runs nothing, and --device or --python was given too.", "Give one.")
    if save and (static or any(wheel.is_dir() for wheel in wheels)):
        raise BadInput("verify --save", "only the report of a wheel's run is kept.", "Leave out --static and folders.")
    if time_box is not None and not upstream_tests:
        raise BadInput(f"--time-box {time_box}", "it limits --upstream-tests, in minutes.", "Add --upstream-tests.")
    chosen = parse(variant) if variant else None
    options = VerifyOptions(
        torch=torch,
        static_only=static,
        upstream_tests=upstream_tests,
        time_box=time_box * 60 if time_box is not None else None,
        emulate=emulate,
        processor=for_cpu,
        python=python,
        gpus=present() if device else None,
        source=source,
    )
    reports: list[Report] = []
    for report in verify_all([(wheel, chosen) for wheel in wheels], options):
        if save and report.ok:
            save_run(wheels[len(reports)], report)
        reports.append(report)
        if not as_json:
            OUT.print(tables.proof_table(report))
    if as_json:
        print(json.dumps([report.to_json() for report in reports], indent=2))
    if not all(report.ok for report in reports):
        sys.exit(VerificationFailed.exit_code)


def present() -> GpuHost:
    """The GPUs that a process started here would see, and why where there is none."""
    sources = this_machine()
    machine = detect(sources)
    found = tuple(
        VisibleGpu(index=index, name=gpu.name, capability=gpu.capability) for index, gpu in enumerate(machine.gpus)
    )
    return GpuHost(gpus=found, driver=machine.driver, trouble=sources.nvml().trouble).visible(os.environ)

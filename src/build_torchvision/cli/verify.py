"""`verify`: whether packages are what their names say."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from build_torchvision.cli import tables
from build_torchvision.cli.options import OUT, Json, Quiet, Torch, Verbose, log_to_stderr
from build_torchvision.errors import BadInput, VerificationFailed
from build_torchvision.machine.report import detect
from build_torchvision.machine.sources import this_machine
from build_torchvision.publish.run_report import save_run
from build_torchvision.variants import parse
from build_torchvision.verify.checks import Report
from build_torchvision.verify.gpu import GpuHost, VisibleGpu
from build_torchvision.verify.session import VerifyOptions, verify_all


def verify(
    *wheels: Path,
    variant: str | None = None,
    torch: Torch = None,
    static: Annotated[bool, Parameter(negative=())] = False,
    upstream_tests: Annotated[bool, Parameter(negative=())] = False,
    device: Annotated[bool, Parameter(negative=())] = False,
    python: Path | None = None,
    source: Path | None = None,
    time_box: float | None = None,
    emulate: Annotated[bool, Parameter(negative=())] = False,
    for_cpu: str | None = None,
    save: Annotated[bool, Parameter(negative=())] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Check that WHEELS are what their names say: decode every instruction, then run them beside their torch.

    A folder is taken as an installed tree: the result of `flox build NAME` or `nix-build -A NAME`.

    Parameters
    ----------
    variant
        The variant that it should be, where the file name does not say.
    static
        Only read the files; install and run nothing.
    upstream_tests
        Also run upstream's own tests of operators and images, copied out of its source tree; with --device those for
        CUDA instead.
    device
        Also run every CUDA operator on this machine's GPU; a wheel that it cannot run is refused before any launch.
    python
        An environment that has torch (its interpreter or its folder): the wheel is laid over it for the run, and
        nothing in it is changed. Default: an environment of its own, with torch installed.
    source
        A source folder or tarball with upstream's tests instead of the download.
    time_box
        Stop starting new tests after this many minutes; the report lists the tests that ran.
    emulate
        Run another platform's wheels under qemu, in a root that is fetched once: armv8_2 as a Neoverse N1, armv9 with
        vectors of 128 and of 512 bits, which must give the same results.
    for_cpu
        A processor on which it should run, by reading alone: graviton2, graviton3, graviton4, grace, archspec's name.
    save
        Keep each report beside its wheel, WHEEL.proof.json, for `index` to take up.
    """
    log_to_stderr(quiet=quiet, verbose=verbose)
    if not wheels:
        raise BadInput("verify", "no wheel was named.", "Try `build-torchvision verify dist/*.whl`.")
    if static and (device or python):
        raise BadInput("verify --static", "it runs nothing, and --device or --python was given too.", "Give one.")
    if save and (static or any(wheel.is_dir() for wheel in wheels)):
        raise BadInput("verify --save", "only the report of a wheel's run is kept.", "Leave out --static and folders.")
    if time_box is not None and (time_box <= 0 or not upstream_tests):
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

"""`verify`: whether packages are what their names say."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from build_torchvision import pipeline
from build_torchvision.cli import screens
from build_torchvision.cli.options import OUT, Json, Quiet, Torch, Verbose, log_to_stderr
from build_torchvision.errors import BadInput, ProofFailed
from build_torchvision.machine.report import detect
from build_torchvision.machine.sources import this_machine
from build_torchvision.proof.gpu import Gpu, Host
from build_torchvision.variants import parse


def verify(
    *wheels: Path,
    variant: str | None = None,
    torch: Torch = None,
    static: Annotated[bool, Parameter(negative=())] = False,
    upstream_tests: Annotated[bool, Parameter(negative=())] = False,
    device: Annotated[bool, Parameter(negative=())] = False,
    python: Path | None = None,
    source: Path | None = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Prove that WHEELS are what their names say: every instruction decoded, then run beside their torch.

    A folder is taken as an installed tree: the result of `flox build NAME` or `nix-build -A NAME`.

    Parameters
    ----------
    variant
        The variant to prove, where the file name does not say.
    static
        Only read the files; install and run nothing.
    upstream_tests
        Also run upstream's own test_ops.py, copied out of its source tree; with --device its CUDA tests instead.
    device
        Also run every CUDA operator on this machine's GPU; a wheel that it cannot run is refused before any launch.
    python
        An environment that has torch (its interpreter or its folder): the wheel is laid over it for the time of the
        proof, and nothing in it is changed. Default: an environment of its own, with torch installed.
    source
        A source folder or tarball with upstream's tests instead of the download.
    """
    log_to_stderr(quiet=quiet, verbose=verbose)
    if not wheels:
        raise BadInput("verify", "no wheel was named.", "Try `build-torchvision verify dist/*.whl`.")
    if static and (device or python):
        raise BadInput("verify --static", "it runs nothing, and --device or --python was given too.", "Give one.")
    chosen = parse(variant) if variant else None
    proofs = []
    for proof in pipeline.prove_all(
        [(wheel, chosen) for wheel in wheels],
        torch=torch,
        static_only=static,
        upstream_tests=upstream_tests,
        python=python,
        host=present() if device else None,
        source=source,
    ):
        proofs.append(proof)
        if not as_json:
            OUT.print(screens.proof_table(proof))
    if as_json:
        print(json.dumps([proof.to_json() for proof in proofs], indent=2))
    if not all(proof.ok for proof in proofs):
        sys.exit(ProofFailed.exit_code)


def present() -> Host:
    """The GPUs that a process started here would see, and why where there is none."""
    sources = this_machine()
    machine = detect(sources)
    found = tuple(Gpu(index=index, name=gpu.name, capability=gpu.capability) for index, gpu in enumerate(machine.gpus))
    return Host(gpus=found, driver=machine.driver, trouble=sources.nvml().trouble).visible(os.environ)

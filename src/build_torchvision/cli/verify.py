"""`verify`: whether packages are what their names say."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from build_torchvision import pipeline
from build_torchvision.cli import screens
from build_torchvision.cli.options import OUT, Json, Quiet, Torch, Verbose, log_to_stderr
from build_torchvision.errors import BadInput, ProofFailed
from build_torchvision.variants import parse


def verify(
    *wheels: Path,
    variant: str | None = None,
    torch: Torch = None,
    static: Annotated[bool, Parameter(negative=())] = False,
    upstream_tests: Annotated[bool, Parameter(negative=())] = False,
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
        Also run upstream's own test_ops.py, copied out of its source tree.
    """
    log_to_stderr(quiet=quiet, verbose=verbose)
    if not wheels:
        raise BadInput("verify", "no wheel was named.", "Try `build-torchvision verify dist/*.whl`.")
    chosen = parse(variant) if variant else None
    proofs = []
    for proof in pipeline.prove_all(
        [(wheel, chosen) for wheel in wheels], torch=torch, static_only=static, upstream_tests=upstream_tests
    ):
        proofs.append(proof)
        if not as_json:
            OUT.print(screens.proof_table(proof))
    if as_json:
        print(json.dumps([proof.to_json() for proof in proofs], indent=2))
    if not all(proof.ok for proof in proofs):
        sys.exit(ProofFailed.exit_code)

"""The proof that a wheel carries, and whether it was made for these very files."""

from __future__ import annotations

import json

from build_torchvision.errors import ProofFailed
from build_torchvision.proof.checks import Proof
from build_torchvision.proof.package import Package
from build_torchvision.wheel.archive import digest_without
from build_torchvision.wheel.descriptor import PROOF, RECORD_DIGEST

BROUGHT = ("symbols",)
"""Checks that the bytes of a wheel cannot answer alone: they were made beside torch's libraries when it was built."""


def proof_bytes(package: Package) -> bytes | None:
    """The text of the proof inside `package`, or None where it carries none."""
    return package.files.get(f"{package.dist_info}/{PROOF}")


def read_seal(package: Package) -> Proof:
    """The proof inside `package`. Raises ProofFailed when there is none, or when it is another wheel's.

    It is bound to RECORD, which is bound to every file; that RECORD is right is a check of the audit's own.
    """
    asked = f"Read the proof of {package.path.name}"
    again = "Build it again: `build-torchvision build NAME`."
    data = proof_bytes(package)
    if data is None:
        raise ProofFailed(asked, "It carries no proof: build-torchvision did not make it, or did not finish.", again)
    try:
        fields = json.loads(data)
        proof, digest = Proof.from_json(fields), fields.get(RECORD_DIGEST)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProofFailed(asked, f"Its proof cannot be read ({error!r}).", again) from error
    record = package.files.get(f"{package.dist_info}/RECORD", b"").decode(errors="replace")
    if digest is None:
        raise ProofFailed(asked, "Its proof does not say to which files it belongs (an older build).", again)
    if digest != digest_without(record, f"{package.dist_info}/{PROOF}"):
        raise ProofFailed(
            asked, "Its proof belongs to other files than these: the wheel was changed after its proof.", again
        )
    return proof

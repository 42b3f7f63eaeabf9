"""Keep the report of a run beside the wheel that ran: `verify --save` writes it, `index` reads it."""

from __future__ import annotations

import json
from pathlib import Path

from build_torchvision.errors import BadInput, VerificationFailed
from build_torchvision.inputs.cache import sha256_of
from build_torchvision.variants import Variant
from build_torchvision.verify.checks import Report
from build_torchvision.writing import write_whole

SUFFIX = ".proof.json"


def beside(wheel: Path) -> Path:
    """Where the proof of `wheel` lies."""
    return wheel.with_name(wheel.name + SUFFIX)


def run_checks(proof: Report) -> int:
    """How many of the checks were made at run time."""
    return len(proof.of_part("cpu")) + len(proof.of_part("gpu"))


def gpu_checks(proof: Report) -> int:
    """How many of the checks were made on a GPU."""
    return len(proof.of_part("gpu"))


def save_run(wheel: Path, proof: Report) -> Path:
    """Write `proof`, bound to the bytes of `wheel`, beside it. Raises BadInput for a proof without a run."""
    if not run_checks(proof):
        raise BadInput(
            f"Save the proof of {wheel.name}", "Nothing was run for it.", "Leave out --static, or mend what failed."
        )
    digest = sha256_of(wheel)
    path = beside(wheel)
    text = json.dumps({"wheel": wheel.name, "sha256": digest, "proof": proof.to_json()}, indent=1) + "\n"
    return write_whole(path, text, action=f"Save the report of {wheel.name}")


def read_run(wheel: Path, variant: Variant, sha256: str) -> Report | None:
    """The proof that lies beside `wheel`, None without one. Raises VerificationFailed if it failed or is another's."""
    path = beside(wheel)
    if not path.is_file():
        return None
    action, again = f"Index {wheel.name}", f"Type `build-torchvision verify --save {wheel}`, or remove {path.name}."
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        proof, of = Report.from_json(saved["proof"]), saved["sha256"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise VerificationFailed(action, f"{path.name} cannot be read ({error!r}).", again) from error
    if of != sha256 or proof.variant != str(variant):
        raise VerificationFailed(action, f"{path.name} is the proof of another wheel than this one.", again)
    if not run_checks(proof):
        raise VerificationFailed(action, f"{path.name} has no check of a run.", again)
    proof.require(again)
    return proof

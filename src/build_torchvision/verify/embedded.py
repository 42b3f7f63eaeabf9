"""The report that a wheel carries, and whether it was made for these very files."""

from __future__ import annotations

import json

from build_torchvision.errors import VerificationFailed
from build_torchvision.verify.checks import Report
from build_torchvision.verify.package import Package
from build_torchvision.wheel.archive import digest_without
from build_torchvision.wheel.descriptor import PROOF, RECORD_DIGEST

CHECKS_NEEDING_TORCH = ("symbols",)
"""Checks that the bytes of a wheel cannot answer alone: they were made beside torch's libraries when it was built."""


def embedded_report_bytes(package: Package) -> bytes | None:
    """The text of the report inside `package`, or None where it carries none."""
    return package.files.get(f"{package.dist_info}/{PROOF}")


def read_embedded_report(package: Package) -> Report:
    """The report inside `package`. Raises VerificationFailed when there is none, or when it is another wheel's.

    It is bound to RECORD, which is bound to every file; that RECORD is right is a check of the audit's own.
    """
    action = f"Read the report of {package.path.name}"
    again = "Build it again: `build-torchvision build NAME`."
    data = embedded_report_bytes(package)
    if data is None:
        raise VerificationFailed(
            action, "It carries no report: build-torchvision did not make it, or did not finish.", again
        )
    try:
        fields = json.loads(data)
        report, digest = Report.from_json(fields), fields.get(RECORD_DIGEST)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise VerificationFailed(action, f"Its report cannot be read ({error!r}).", again) from error
    record = package.files.get(f"{package.dist_info}/RECORD", b"").decode(errors="replace")
    if digest is None:
        raise VerificationFailed(action, "Its report does not say to which files it belongs (an older build).", again)
    if digest != digest_without(record, f"{package.dist_info}/{PROOF}"):
        raise VerificationFailed(
            action, "Its report belongs to other files than these: the wheel was changed after its report.", again
        )
    return report

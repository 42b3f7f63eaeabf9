"""Names of the files that build-torchvision puts into a wheel's metadata folder."""

from __future__ import annotations

DESCRIPTOR = "build_torchvision.json"
"""The variant, its inputs and its compiler."""
PROOF = "build_torchvision.proof.json"
"""The static report."""
RECORD_DIGEST = "record_sha256"
"""In the report: the sha256 of RECORD without the report's own line."""
VARIANT_JSON = "variant.json"

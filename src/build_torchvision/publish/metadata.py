"""Metadata beside each wheel, so that an installer resolves without fetching it (PEP 658, renamed by PEP 714)."""

from __future__ import annotations

import hashlib

from build_torchvision.publish.admission import Wheel


def metadata_name(wheel: Wheel) -> str:
    """The file name that installers ask for: the wheel's, with `.metadata` behind."""
    return f"{wheel.name}.metadata"


def metadata_sha256(wheel: Wheel) -> str:
    """The digest that goes into `data-core-metadata` and `core-metadata`."""
    return hashlib.sha256(wheel.metadata).hexdigest()

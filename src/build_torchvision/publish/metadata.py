"""Publish metadata beside each wheel, so that an installer resolves without fetching it (PEP 658, now PEP 714)."""

from __future__ import annotations

import hashlib
from typing import Protocol


class Listed(Protocol):
    """A wheel as installers' pages list it: a variant's or a stock one."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def metadata(self) -> bytes: ...
    @property
    def sha256(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def requires_python(self) -> str: ...


def metadata_name(wheel: Listed) -> str:
    """The file name that installers ask for: the wheel's, with `.metadata` behind."""
    return f"{wheel.name}.metadata"


def metadata_sha256(wheel: Listed) -> str:
    """The digest that goes into `data-core-metadata` and `core-metadata`."""
    return hashlib.sha256(wheel.metadata).hexdigest()

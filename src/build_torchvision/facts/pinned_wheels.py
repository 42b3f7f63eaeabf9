"""What the tables of pinned wheels have alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PinnedWheel:
    """One pinned wheel of the package registry; `keep` are its files and folders that are unpacked.

    `records`: platform -> sha256 of the wheel's RECORD, which has a digest of each file.
    """

    package: str
    version: str
    keep: tuple[str, ...]
    records: Mapping[str, str]

    @property
    def stem(self) -> str:
        """How the names of its file and of its metadata begin."""
        return self.package.replace("-", "_")

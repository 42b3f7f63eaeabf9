"""Write and read SHA256SUMS, as `sha256sum -c` reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping

NAME = "SHA256SUMS"


def sha256sums(digests: Mapping[str, str]) -> str:
    """One line per file of `digests` (path relative to the file -> hexadecimal sha256), sorted by path."""
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))


def read_sha256sums(text: str) -> dict[str, str]:
    """The inverse of `sha256sums`. Lines of another form are left out."""
    rows = (re.fullmatch(r"([0-9a-f]{64})  (.+)", line) for line in text.splitlines())
    return {row[2]: row[1] for row in rows if row}

"""Typed loader of wheel_indexes.toml: which index serves the TorchVision that belongs to a torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from build_torchvision.facts._schema import rows


@dataclass(frozen=True, kw_only=True)
class WheelIndex:
    """An index of wheels. `index` and `nightly` are for --index-url, `links` for --find-links; None: not known."""

    local: re.Pattern[str]
    kind: str
    maker: str
    index: str | None
    nightly: str | None
    links: str | None


@cache
def wheel_indexes() -> tuple[WheelIndex, ...]:
    """All rows, in their order."""
    found = []
    for _, row in rows("wheel_indexes"):
        address = r"https://\S+"
        found.append(
            WheelIndex(
                local=re.compile(row.text("local")),
                kind=row.text("kind", "cpu|cuda|rocm|xpu"),
                maker=row.text("maker"),
                index=row.optional("index", address),
                nightly=row.optional("nightly", address),
                links=row.optional("links", address),
            )
        )
        row.text("source")
        row.done()
    return tuple(found)


def wheel_index(local: str) -> WheelIndex | None:
    """The index of a torch with the local version `local` ("cu130"), addresses filled in; None for an unknown one."""
    for row in wheel_indexes():
        match = row.local.fullmatch(local)
        if match is None:
            continue
        release = match.groupdict().get("release") or local
        words = {"local": local, "number": release.lstrip("abcdefghijklmnopqrstuvwxyz")}
        filled = [text.format(**words) if text else None for text in (row.index, row.nightly, row.links)]
        return WheelIndex(
            local=row.local, kind=row.kind, maker=row.maker, index=filled[0], nightly=filled[1], links=filled[2]
        )
    return None

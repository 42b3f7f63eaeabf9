"""Unpack what is needed of pinned wheels into one entry of the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from build_torchvision.facts.pinned_wheels import PinnedWheel
from build_torchvision.inputs.cache import inventory_fault, publish, size_of, write_inventory
from build_torchvision.inputs.parts import take

Wheel = TypeVar("Wheel", bound=PinnedWheel)


def unpack_pinned(
    entry: Path,
    wheels: Sequence[Wheel],
    place: Callable[[Wheel, str], str | None],
    *,
    platform: str,
    programs: Sequence[str],
    hint: str,
) -> Path:
    """The tree in the cache's `entry` that holds the files of `wheels` for which `place` names a path in it.

    They are fetched where they are not there, or not whole. `programs` are patterns of what can be run: a wheel's own
    modes are not unpacked. Raises BadInput for what is not as pinned, and FetchFailed, which says `hint`.
    """

    def fill(part: Path) -> None:
        part.mkdir()
        for wheel in wheels:
            take(
                f"{wheel.package}=={wheel.version}",
                part / "tree",
                partial(place, wheel),
                package=wheel.stem,
                record=wheel.records[platform],
                platform=platform,
                action=f"Fetch {wheel.package} {wheel.version}",
                hint=hint,
            )
        for pattern in programs:
            for program in (part / "tree").glob(pattern):
                program.chmod(0o755)
        write_inventory(part, {"origin": "registry"}, size_of)

    return publish(entry, fill, lambda found: inventory_fault(found, size_of)) / "tree"

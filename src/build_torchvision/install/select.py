"""Rank the wheels of an index for a machine and its environment, and say what rules the others out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from packaging.specifiers import SpecifierSet

from build_torchvision.choose.advice import advise
from build_torchvision.choose.ranking import choose
from build_torchvision.errors import BadInput, MissingInput
from build_torchvision.facts import isas, version_key
from build_torchvision.machine.report import Machine
from build_torchvision.publish.catalogue import Record
from build_torchvision.variants import PYTHONS, TRACKS, Variant, enumerate_variants
from build_torchvision.verify.package import parse_file_name

NEAREST = 3


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A wheel, and why it is the best, what it lacks against the best, or, in `obstacles`, what rules it out."""

    record: Record
    why: str
    obstacles: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        return not self.obstacles


def judge(machine: Machine, records: Sequence[Record]) -> list[Judged]:
    """All of `records`, ranked for `machine` and its environment: those that fit first, best first.

    Variants are ranked as `detect` ranks them; among wheels of one variant the newest release comes first, and in it
    the one with its own torch and no PTX added.
    """
    fitting = [row for row in records if not list(_obstacles(machine, row))]
    ranked = choose(machine, dict.fromkeys(_variant(machine, row) for row in fitting))
    judged = [
        Judged(record=row, why=choice.why, obstacles=() if choice.fits else (choice.why,))
        for choice in ranked
        for row in _of([row for row in fitting if _variant(machine, row) == choice.variant])
    ]
    rest = [row for row in records if row not in fitting]
    about = {
        choice.variant: choice for choice in choose(machine, dict.fromkeys(_variant(machine, row) for row in rest))
    }
    for row in rest:
        choice, obstacles = about[_variant(machine, row)], tuple(_obstacles(machine, row))
        obstacles = obstacles if choice.fits else (choice.why, *obstacles)
        judged.append(Judged(record=row, why="; ".join(obstacles), obstacles=obstacles))
    judged.sort(key=lambda found: not found.fits)
    return judged


def best(machine: Machine, records: Sequence[Record], origin: str) -> list[Judged]:
    """`judge`, with one that fits at its head. Raises MissingInput, naming the nearest, where none does.

    Why the first was chosen is said against the whole matrix: the best of an index is not always the best there is.
    """
    action = f"Install from {origin}"
    if not records:
        raise BadInput(action, "There is no such wheel in the index.", "Ask for another variant or release.")
    judged = judge(machine, records)
    if judged[0].fits:
        return [replace(judged[0], why=_against_all(machine, judged[0])), *judged[1:]]
    offer = advise(machine).best
    build = f"`{offer.build}`" if offer and offer.build else "the stock wheel: `pip install torchvision`"
    order = list(isas())
    nearest = sorted(judged, key=lambda row: (len(row.obstacles), -order.index(row.record.parsed.isa)))[:NEAREST]
    shown = "".join(f"\n  {row.record.variant} ({row.record.version}): {row.why}" for row in nearest)
    needs = f" {offer.needs}" if offer and offer.needs else ""
    raise MissingInput(action, f"None of its {len(judged)} wheels fits here. The nearest:{shown}\n", f"{build}.{needs}")


def _against_all(machine: Machine, found: Judged) -> str:
    variant = _variant(machine, found.record)
    ranked = choose(machine, enumerate_variants(variant.python, TRACKS, None))
    if ranked[0].variant == variant:
        return ranked[0].why
    why = next(choice.why for choice in ranked if choice.variant == variant)
    return f"the best of those wheels; against {ranked[0].variant}, the best that could be built, {why}"


def _variant(machine: Machine, row: Record) -> Variant:
    """The variant that a wheel is on `machine`: of its environment's Python, where the wheel is for every one."""
    python = machine.environment.python if machine.environment else None
    return replace(row.parsed, python=python) if row.any_python and python in PYTHONS else row.parsed


def _of(records: Sequence[Record]) -> list[Record]:
    marked = sorted(
        records,
        key=lambda row: ("unpaired" in row.version, ".ptx" in row.version),
    )
    return sorted(marked, key=lambda row: version_key(row.torchvision), reverse=True)


def _obstacles(machine: Machine, row: Record) -> Iterator[str]:
    """What is in the way of a wheel beyond its variant: the system's C library, and the torch that is there."""
    level = re.search(r"manylinux_(\d+)_(\d+)_", parse_file_name(row.file).platform)
    if machine.glibc is None:
        yield "this system has no glibc"
    elif level and version_key(machine.glibc)[:2] < (int(level[1]), int(level[2])):
        yield f"it needs glibc {level[1]}.{level[2]}, and this system has {machine.glibc}"
    environment = machine.environment
    if row.any_python and environment is not None and row.requires_python:
        python = environment.python_version
        if not SpecifierSet(row.requires_python).contains(python):
            yield f"it needs Python {row.requires_python}, and the environment has {python}"
    torch = machine.environment.torch if machine.environment else None
    if torch is not None and not SpecifierSet(row.torch_requirement).contains(torch.public, prereleases=True):
        yield f"it goes with torch{row.torch_requirement}, and torch {torch.version} is installed"

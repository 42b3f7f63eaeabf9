"""Arrange the matrix for the front page: one cell per variant, with how it is served, and whether it is here."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from build_torchvision.facts import Gpu, gpus, isas, toolkits
from build_torchvision.flags import cuda_codegen
from build_torchvision.publish.catalogue import Record
from build_torchvision.variants import CORE_SMS, CPU, DEFAULT_TRACKS, TRACKS, Variant, enumerate_variants

PLATFORM_NAMES = {"x86_64": "x86-64", "aarch64": "Arm"}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One variant: `name` without its Python. `kind` is "native", "compatible", "ptx", or "cpu" without device code."""

    name: str
    kind: str
    sold: bool
    """Whether a computer with this pair of GPU and CPU is sold."""
    size: int | None
    """Bytes of its largest wheel here; None where there is none."""
    ran: bool
    """Whether one of its wheels was run beside its torch."""
    ran_on_gpu: bool = False
    """Whether one of them was run on a GPU too."""


@dataclass(frozen=True, kw_only=True)
class GridRow:
    """One GPU architecture of a grid; None is the row without a GPU."""

    gpu: Gpu | None
    cells: tuple[Cell, ...]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The part of the matrix that one CUDA toolkit serves, with the row of the track "cpu" where it is the first."""

    track: str
    cuda: str
    rows: tuple[GridRow, ...]

    @property
    def built(self) -> int:
        return sum(cell.size is not None for row in self.rows for cell in row.cells)

    @property
    def count(self) -> int:
        return sum(len(row.cells) for row in self.rows)


def columns() -> list[tuple[str, int]]:
    """(platform's name, how many ISAs) in the order of the columns."""
    platforms = [isa.platform for isa in isas().values()]
    return [(PLATFORM_NAMES[name], platforms.count(name)) for name in dict.fromkeys(platforms)]


def grids(records: Sequence[Record]) -> list[Grid]:
    """One grid a toolkit: the default track first with the row of CPU variants, the others newest first.

    The first grid without older GPUs is the default matrix of 60; an SM outside it appears where there is a wheel.
    """
    here: dict[str, list[Record]] = {}
    for record in records:
        here.setdefault(record.parsed.short, []).append(record)
    first = DEFAULT_TRACKS[0]
    order = [first, *(track for track in reversed(TRACKS) if track not in (first, CPU))]
    return [_grid(track, here, with_cpu=track == first) for track in order]


def _grid(track: str, here: Mapping[str, Sequence[Record]], *, with_cpu: bool) -> Grid:
    wanted = {*CORE_SMS, *(record.parsed.sm for rows in here.values() for record in rows if record.parsed.sm)}
    variants = enumerate_variants(tracks=[track], sms=[sm for sm in gpus() if sm in wanted])
    variants += enumerate_variants(tracks=[CPU]) if with_cpu else []
    rows = []
    for sm in dict.fromkeys(variant.sm for variant in variants):
        cells = tuple(_cell(variant, here.get(variant.short, ())) for variant in variants if variant.sm == sm)
        rows.append(GridRow(gpu=gpus()[sm] if sm else None, cells=cells))
    return Grid(track=track, cuda=toolkits()[track].version, rows=tuple(rows))


def _cell(variant: Variant, records: Collection[Record]) -> Cell:
    codegen = cuda_codegen(variant)
    return Cell(
        name=variant.short,
        kind=codegen.kind if codegen else "cpu",
        sold=variant.hardware_exists,
        size=max((record.size for record in records), default=None),
        ran=any(record.run_checks for record in records),
        ran_on_gpu=any(record.gpu_checks for record in records),
    )

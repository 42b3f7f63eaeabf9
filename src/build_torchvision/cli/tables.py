"""Results as rich tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.table import Column, Table
from rich.text import Text

from build_torchvision.cli.sheet import Sheet
from build_torchvision.flags import cuda_codegen, isa_flags
from build_torchvision.plan_report import operators_of_build
from build_torchvision.variants import Variant
from build_torchvision.verify.checks import Report

GAP = 2  # blanks between two columns


@dataclass(frozen=True, kw_only=True)
class Field:
    """A column of `listing`: its head, and whether it is a number or can be left out where there is no room."""

    head: str
    number: bool = False
    spare: int = 0
    """0: always shown; else the columns with the largest number are left out first."""


def listing(fields: Sequence[Field], rows: Sequence[Sequence[str]], width: int) -> Table:
    """One line per row, each as wide as its text; spare columns are left out where lines would exceed `width`."""
    widths = [max(cell_len(text) for text in (field.head, *cells)) for field, cells in _columns(fields, rows)]
    shown = list(range(len(fields)))
    spare = sorted((at for at in shown if fields[at].spare), key=lambda at: -fields[at].spare)
    while spare and sum(widths[at] for at in shown) + GAP * (len(shown) - 1) > width:
        shown.remove(spare.pop(0))
    columns = [
        Column(fields[at].head, no_wrap=True, overflow="fold", justify="right" if fields[at].number else "left")
        for at in shown
    ]
    table = Table(*columns, box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    for row in rows:
        table.add_row(*(Text(row[at]) for at in shown))
    return table


def _columns(fields: Sequence[Field], rows: Sequence[Sequence[str]]) -> Iterable[tuple[Field, tuple[str, ...]]]:
    return zip(fields, zip(*rows, strict=True) if rows else [()] * len(fields), strict=True)


def variants_table(variants: Sequence[Variant], width: int) -> Table:
    """One row per variant: name, GPU, CPU and how the toolkit serves it."""
    fields = [
        Field(head="variant"),
        Field(head="GPU", spare=1),
        Field(head="CPU from", spare=2),
        Field(head="platform", spare=3),
        Field(head="codegen"),
    ]
    rows = []
    for variant in variants:
        codegen = cuda_codegen(variant)
        gpu = f"{variant.gpu.capability} {variant.gpu.products[0]}" if variant.gpu else "-"
        kind = codegen.kind if codegen else "-"
        rows.append([str(variant), gpu, variant.isa_facts.first_cpus, variant.platform, kind])
    return listing(fields, rows, width)


def variant_sheet(variant: Variant, told: Sequence[str]) -> Sheet:
    """All that the facts say of one variant, with the notes `told`."""
    isa = f"{variant.isa}: {' '.join(isa_flags(variant))} (first CPUs: {variant.isa_facts.first_cpus})"
    rows = [("variant", str(variant)), ("python", variant.python_version), ("platform", variant.platform)]
    rows.append(("CPU ISA", isa))
    codegen = cuda_codegen(variant)
    if codegen is not None and variant.gpu is not None:
        gpu = variant.gpu
        rows.append(("GPU", f"{gpu.sm} ({gpu.capability}), {gpu.architecture}: {', '.join(gpu.products)}"))
        rows.append(("CUDA", f"{variant.cuda}, driver {variant.driver_floor} or newer"))
        rows.append(("codegen", f"{codegen.kind}: {' '.join(codegen.gencode)}"))
        rows.append(("", codegen.reason))
    rows += [(key.replace("_", " "), " ".join(names)) for key, names in operators_of_build(variant).items() if names]
    return Sheet.of([*rows, *(("note", note) for note in told)])


def proof_table(proof: Report) -> Table:
    """One row per check."""
    verdict = "[green]holds[/]" if proof.ok else "[red]does not hold[/]"
    columns = ("", Column("check", no_wrap=True), Column("what was seen", overflow="fold"))
    table = Table(
        *columns, title=f"{proof.variant}: {verdict}", title_justify="left", title_style="", box=None, pad_edge=False
    )
    for check in proof.checks:
        mark = "[red]FAIL[/]" if not check.ok else "[green]ok[/]" if check.judged else "[yellow]-[/]"
        table.add_row(mark, check.name, Text(check.detail))
    return table

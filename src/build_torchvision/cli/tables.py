"""Results as rich tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Column, Table
from rich.text import Text

from build_torchvision.describe import notes
from build_torchvision.flags import cuda_codegen, isa_flags
from build_torchvision.variants import Variant
from build_torchvision.verify.checks import Report


def variants_table(variants: Sequence[Variant]) -> Table:
    """One row a variant: name, GPU, CPU and how the toolkit serves it."""
    table = Table(
        Column("variant", no_wrap=True, min_width=45),
        "GPU",
        "CPU from",
        "platform",
        "codegen",
        box=None,
        pad_edge=False,
    )
    for variant in variants:
        codegen = cuda_codegen(variant)
        gpu = f"{variant.gpu.capability} {variant.gpu.products[0]}" if variant.gpu else "-"
        kind = codegen.kind if codegen else "-"
        table.add_row(str(variant), gpu, variant.isa_facts.first_cpus, variant.platform, kind)
    return table


def variant_sheet(variant: Variant) -> Table:
    """All that the facts say of one variant."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row("variant", str(variant))
    table.add_row("python", variant.python_version)
    table.add_row("platform", variant.platform)
    table.add_row(
        "CPU ISA", f"{variant.isa}: {' '.join(isa_flags(variant))} (first CPUs: {variant.isa_facts.first_cpus})"
    )
    codegen = cuda_codegen(variant)
    if codegen is not None and variant.gpu is not None:
        gpu = variant.gpu
        table.add_row("GPU", f"{gpu.sm} ({gpu.capability}), {gpu.architecture}: {', '.join(gpu.products)}")
        table.add_row("CUDA", f"{variant.cuda}, driver {variant.driver_floor} or newer")
        table.add_row("codegen", f"{codegen.kind}: {' '.join(codegen.gencode)}")
        table.add_row("", codegen.reason)
    for note in notes(variant):
        table.add_row("note", Text(note))
    return table


def proof_table(proof: Report) -> Table:
    """One row a check."""
    verdict = "[green]holds[/]" if proof.ok else "[red]does not hold[/]"
    table = Table("", "check", "what was seen", title=f"{proof.variant}: {verdict}", title_justify="left", box=None)
    for check in proof.checks:
        mark = "[red]FAIL[/]" if not check.ok else "[green]ok[/]" if check.judged else "[yellow]-[/]"
        table.add_row(mark, check.name, Text(check.detail))
    return table

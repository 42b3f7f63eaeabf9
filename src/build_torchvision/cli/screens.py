"""Results as rich tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Column, Table
from rich.text import Text

from build_torchvision.codegen import cuda_codegen, driver_floor, isa_flags, notes
from build_torchvision.proof.checks import Proof
from build_torchvision.variants import Variant


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
        table.add_row("CUDA", f"{variant.cuda}, driver {driver_floor(variant)} or newer")
        table.add_row("codegen", f"{codegen.kind}: {' '.join(codegen.gencode)}")
        table.add_row("", codegen.reason)
    for note in notes(variant):
        table.add_row("note", Text(note))
    return table


def proof_table(proof: Proof) -> Table:
    """One row a check."""
    verdict = "[green]holds[/]" if proof.ok else "[red]does not hold[/]"
    table = Table("", "check", "what was seen", title=f"{proof.variant}: {verdict}", title_justify="left", box=None)
    for check in proof.checks:
        table.add_row("[green]ok[/]" if check.ok else "[red]FAIL[/]", check.name, Text(check.detail))
    return table


def groups_table(tracks: Sequence[Mapping[str, Any]]) -> Table:
    """One row a group of each track's graph."""
    table = Table("track", "group", "needs", "actions", "kinds", box=None, pad_edge=False)
    for track in tracks:
        for group in track["groups"]:
            kinds = ", ".join(dict.fromkeys(action["kind"] for action in group["actions"]))
            needs = ", ".join(group["needs"]) or "-"
            table.add_row(track["track"], group["group"], needs, str(len(group["actions"])), kinds)
    return table

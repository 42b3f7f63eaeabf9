"""`variants` and `show`: what the matrix holds."""

from __future__ import annotations

import json
from typing import Annotated

from cyclopts import Parameter

from build_torchvision.cli import tables
from build_torchvision.cli.options import OUT, OUTPUT, WHAT, Json, TorchIndex, flag
from build_torchvision.describe import describe, notes
from build_torchvision.fleet import fleet
from build_torchvision.plan_report import operators_of_build
from build_torchvision.requests import named_variant, refusal
from build_torchvision.variants import enumerate_variants, every_variant, select


def variants(
    *patterns: Annotated[str, Parameter(help="Globs with braces, such as 'cpu-*' or 'cuda12_8-sm{89,90}-avx*'.")],
    track: Annotated[list[str] | None, Parameter(group=WHAT, negative=())] = None,
    all_: Annotated[bool, flag(WHAT, "Every Python, toolkit and GPU architecture there is.", name="--all")] = False,
    python: Annotated[str, Parameter(group=WHAT, help="The Python, such as 312 for 3.12.")] = "313",
    matrix: Annotated[bool, Parameter(negative=(), group=OUTPUT)] = False,
    torch_index: TorchIndex = None,
    as_json: Json = False,
) -> None:
    """List variants: the 60 of the default matrix, or those that match PATTERNS (globs with braces).

    Parameters
    ----------
    track
        List another toolkit's part of the matrix: cuda12_4, cuda12_6, cuda12_8, cuda12_9, cuda13_0, cuda13_2 or cpu.
    matrix
        Print the jobs that build them, as the JSON that a CI matrix takes: release, track, platform and the one command
        of each. Without --torch-index only the jobs that the package registry has a torch for.
    """
    universe = list(every_variant()) if all_ else enumerate_variants(python, *([track] if track else []))
    found = select(patterns, universe)
    if matrix:
        jobs = fleet(found, any_index=torch_index is not None)
        print(json.dumps({"include": [job.to_json() for job in jobs]}))
        return
    if as_json:
        print(json.dumps([describe(variant) for variant in found], indent=2))
    else:
        OUT.print(tables.variants_table(found, OUT.width))


def show(name: Annotated[str, Parameter(help="A variant, such as cpu-avx512.")], *, as_json: Json = False) -> None:
    """Describe variant NAME: its flags, how its toolkit serves its GPU, and what to know before choosing it."""
    variant = named_variant(name)
    refused = refusal(variant)
    told = [*notes(variant), *([f"Without further options `build` refuses it: {refused}"] if refused else [])]
    if as_json:
        print(json.dumps({**describe(variant), "notes": told, **operators_of_build(variant)}, indent=2))
    else:
        tables.variant_sheet(variant, told).print(OUT)

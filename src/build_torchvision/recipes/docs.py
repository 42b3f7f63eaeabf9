"""Generated documents: BUILD_MATRIX.md, and blocks for the documents that people write."""

from __future__ import annotations

from collections import Counter

from build_torchvision.compatibility import toolkit_support
from build_torchvision.errors import BadInput
from build_torchvision.facts import gpus, isas, toolkits
from build_torchvision.facts.evidence import COLUMNS, Column, evidence
from build_torchvision.flags import cuda_codegen
from build_torchvision.recipes import flox
from build_torchvision.recipes.text import render
from build_torchvision.variants import (
    CORE_SMS,
    DEFAULT_PYTHON,
    Variant,
    enumerate_variants,
    every_variant,
    parse,
    select,
)


def files() -> dict[str, str]:
    """The documents that are generated whole."""
    return {"BUILD_MATRIX.md": _matrix()}


def blocks() -> dict[str, str]:
    """The blocks of hand-written documents, by name."""
    example = flox.recipe(parse("torchvision-python313-cuda12_8-sm120-avx512"), flox.TorchSource())
    return {"gpus": _gpu_table(), "isas": _isa_table(), "recipe": f"```nix\n{example}```\n"}


def _matrix() -> str:
    variants = enumerate_variants()
    kinds = Counter(codegen.kind for variant in variants if (codegen := cuda_codegen(variant)))
    return render(
        "BUILD_MATRIX.md",
        total=len(variants),
        kinds=kinds,
        cpu=sum(variant.sm is None for variant in variants),
        gpus=_gpu_table(),
        isas=_isa_table(),
        rows=[_row(variant, status()) for variant in variants],
        evidence=evidence(),
        other_tracks=[(track, toolkit.version) for track, toolkit in toolkits().items() if track != variants[0].track],
    )


def status() -> dict[Column, dict[Variant, str]]:
    """Column of BUILD_MATRIX.md -> variant -> what the tests do with it; without any it is not there."""
    found: dict[Column, dict[Variant, str]] = {column: {} for column in COLUMNS}
    universe, default = [v for v in every_variant() if v.python == DEFAULT_PYTHON], set(enumerate_variants())
    for row in evidence():
        try:
            chosen = select(row.variants, universe)
        except BadInput as error:
            raise BadInput(f"evidence.toml [{row.name}], {error.action}", error.problem, error.hint) from error
        for variant in chosen:
            if variant in default:
                found[row.column].setdefault(variant, f"{row.does}{', nightly' if row.nightly else ''}")
    return found


def _row(variant: Variant, known: dict[Column, dict[Variant, str]]) -> dict[str, str]:
    codegen = cuda_codegen(variant)
    gpu = variant.gpu
    return {
        "name": str(variant),
        "gpu": f"{gpu.capability} {gpu.products[0]}" if gpu else "-",
        "isa": variant.isa,
        "platform": variant.platform,
        "codegen": codegen.kind if codegen else "-",
        "driver": variant.driver_floor or "-",
        **{column: known[column].get(variant, "-") for column in COLUMNS},
        "ships": "-" if gpu is None else "yes" if variant.hardware_exists else "no",
    }


def _gpu_table() -> str:
    tracks = list(toolkits())
    lines = [
        "| SM | capability | architecture | products | " + " | ".join(tracks) + " |",
        "| --- " * (4 + len(tracks)) + "|",
    ]
    for sm in CORE_SMS:
        gpu = gpus()[sm]
        ways = [f"{way.kind}" if (way := toolkit_support(track, sm)) else "no" for track in tracks]
        cells = [sm, gpu.capability, gpu.architecture, ", ".join(gpu.products), *ways]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _isa_table() -> str:
    lines = ["| ISA | platform | flags | first CPUs |", "| --- | --- | --- | --- |"]
    for isa in isas().values():
        lines.append(f"| {isa.name} | {isa.platform} | `{' '.join(isa.flags)}` | {isa.first_cpus} |")
    return "\n".join(lines) + "\n"

"""Describe a variant for people and for `--json`: its facts, and the notes a user should read before building it."""

from __future__ import annotations

from typing import TypedDict

from build_torchvision.compatibility import CodegenKind, Sm, driver_floor, isa_runs_on, toolkit_support
from build_torchvision.facts import isas, toolkits
from build_torchvision.flags import cuda_codegen
from build_torchvision.variants import Variant


class CodegenDescription(TypedDict):
    """`Codegen` as JSON."""

    kind: CodegenKind
    gencode: list[str]
    reason: str


class Description(TypedDict):
    """A variant as JSON: the documented, stable shape of `variants --json`."""

    name: str
    python: str
    track: str
    cuda: str | None
    sm: str | None
    isa: str
    platform: str
    codegen: CodegenDescription | None


def describe(variant: Variant) -> Description:
    """The variant in the shape that `variants --json` prints."""
    made = cuda_codegen(variant)
    codegen: CodegenDescription | None = None
    if made is not None:
        codegen = {"kind": made.kind, "gencode": list(made.gencode), "reason": made.reason}
    return {
        "name": str(variant),
        "python": variant.python,
        "track": variant.track,
        "cuda": variant.cuda,
        "sm": variant.sm,
        "isa": variant.isa,
        "platform": variant.platform,
        "codegen": codegen,
    }


def notes(variant: Variant) -> list[str]:
    """What a user should know about the variant before building it, one plain sentence or two each."""
    found: list[str] = []
    gpu, codegen = variant.gpu, cuda_codegen(variant)
    if gpu is not None and codegen is not None:
        products = ", ".join(gpu.products)
        if variant.platform not in gpu.hosts:
            found.append(
                f"No shipping computer matches this name: {gpu.sm} ({products}) ships in {' and '.join(gpu.hosts)} "
                f"systems only, and {variant.isa} is {variant.platform}."
            )
        elif gpu.soc_isa is not None and not isa_runs_on(variant.isa, gpu.soc_isa):
            found.append(
                f"No shipping computer matches this name: the CPU beside {gpu.sm} ({products}) is {gpu.soc_isa}, "
                f"which does not run {variant.isa}."
            )
        if codegen.kind == "ptx":
            answers = [t for t in toolkits() if (way := toolkit_support(t, gpu.sm)) and way.kind == "native"]
            found.append(
                f"It makes sense only beside a PyTorch built for {gpu.sm}: the published CUDA {variant.cuda} wheels "
                f"carry no code that runs there. For {products} take track {' or '.join(answers)}."
            )
            if Sm.parse(codegen.base).major != Sm.parse(gpu.sm).major:
                found.append(
                    f"An installer that chooses by hardware (uv) does not take it for {gpu.sm}: it uses PTX within one "
                    "major compute capability only. Ask for it by name."
                )
        if gpu.note:
            found.append(gpu.note)
        found.append(f"It needs an NVIDIA driver of at least {driver_floor(variant.track, gpu.sm)} (Linux).")
    if not variant.isa_facts.told_apart:
        found.append(
            f"An installer that chooses by hardware (uv) does not tell {variant.isa} from {_told_apart(variant.isa)} "
            "and takes that. Ask for it by name."
        )
    if variant.isa_facts.note:
        found.append(variant.isa_facts.note)
    return found


def _told_apart(isa: str) -> str:
    """The highest ISA that `isa` contains, or `isa` itself, which installers know by properties of its own."""
    row = isas()[isa]
    return isa if row.told_apart or row.contains is None else _told_apart(row.contains)

""".flox/pkgs/NAME.nix: one recipe a variant, each a header comment and a call of the builder in nix/.

Flox calls every file below .flox/pkgs with callPackage, so what a recipe takes from there is written out. A published
PyTorch is written out literally too: Flox finds and locks `catalogs.ORG.NAME` by reading the recipe's text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from build_torchvision.errors import BadInput
from build_torchvision.flags import cuda_codegen
from build_torchvision.recipes.text import render
from build_torchvision.variants import Variant, enumerate_variants

Source = Literal["nixpkgs", "recipe", "catalog"]
FOLDER = ".flox/pkgs"


@dataclass(frozen=True, kw_only=True)
class TorchSource:
    """Where the recipes take PyTorch from: the package set, a pinned build-pytorch checkout, or a catalog of `org`."""

    source: Source = "nixpkgs"
    org: str | None = None
    unchecked: bool = False
    """Accept a PyTorch that declares nothing of itself. What it does declare must still match."""

    @classmethod
    def of(cls, source: str, org: str | None = None, *, unchecked: bool = False) -> TorchSource:
        """Raises BadInput for a source that is none, and for a catalog without its owner or an owner without one."""
        action = f"--torch-source {source}"
        if source not in get_args(Source):
            raise BadInput(action, "is no source of PyTorch.", f"Choose from {', '.join(get_args(Source))}.")
        if (source == "catalog") != (org is not None):
            problem = "--catalog names its owner, and " + ("is missing." if org is None else "only a catalog has one.")
            raise BadInput(action, problem, "Type --torch-source catalog --catalog ORG, or leave --catalog out.")
        if org is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_'-]*", org):
            raise BadInput(f"--catalog {org}", "is no name of an owner on FloxHub.", "Give letters, digits, - and _.")
        if unchecked and source == "nixpkgs":
            raise BadInput("--unchecked", "the package set's PyTorch declares what it is.", "Leave --unchecked out.")
        return cls(source=get_args(Source)[get_args(Source).index(source)], org=org, unchecked=unchecked)


def files(variants: Iterable[Variant] | None = None, torch: TorchSource | None = None) -> dict[str, str]:
    """The recipes of `variants` (None: the default matrix), {path: text}."""
    chosen = enumerate_variants() if variants is None else variants
    return {f"{FOLDER}/{variant}.nix": recipe(variant, torch or TorchSource()) for variant in chosen}


def recipe(variant: Variant, torch: TorchSource) -> str:
    """The text of one recipe."""
    codegen, gpu = cuda_codegen(variant), variant.gpu
    return render(
        "recipe.nix",
        name=str(variant),
        pytorch=str(variant).replace("torchvision-", "pytorch-", 1),
        gpu=f"{', '.join(gpu.products)} ({gpu.architecture}, {gpu.capability})" if gpu else None,
        cuda=variant.cuda,
        label=codegen.label if codegen else None,
        cpus=variant.isa_facts.first_cpus,
        isa=variant.isa,
        torch=torch,
    )

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
from build_torchvision.facts import Release, releases, version_key
from build_torchvision.flags import cuda_codegen
from build_torchvision.recipes.nix import PYTHONS
from build_torchvision.recipes.text import render
from build_torchvision.releases import release_named as find_release
from build_torchvision.variants import Variant, enumerate_variants

Source = Literal["nixpkgs", "recipe", "catalog"]
FOLDER = ".flox/pkgs"


@dataclass(frozen=True, kw_only=True)
class TorchSource:
    """Where the recipes take PyTorch from: the package set, a pinned build-pytorch checkout, or a catalog of `org`."""

    source: Source = "nixpkgs"
    org: str | None = None
    series: str | None = None
    """Torch's series ("2.12") where the recipe or package is named by it: pytorch212-python313-..."""
    unchecked: bool = False
    """Accept a PyTorch that declares nothing of itself. What it does declare must still match."""

    @classmethod
    def of(
        cls, source: str, org: str | None = None, *, series: str | None = None, unchecked: bool = False
    ) -> TorchSource:
        """Check what the command line says, and make it a source.

        Raises BadInput for a source that is none, for a catalog without its owner or an owner without one, and for a
        series that is none or that the source has no use for.
        """
        action = f"--torch-source {source}"
        if source not in get_args(Source):
            raise BadInput(action, "is no source of PyTorch.", f"Choose from {', '.join(get_args(Source))}.")
        if (source == "catalog") != (org is not None):
            problem = "--catalog names its owner, and " + ("is missing." if org is None else "only a catalog has one.")
            raise BadInput(action, problem, "Type --torch-source catalog --catalog ORG, or leave --catalog out.")
        if org is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_'-]*", org):
            raise BadInput(f"--catalog {org}", "is no name of an owner on FloxHub.", "Give letters, digits, - and _.")
        if series is not None and not re.fullmatch(r"\d+\.\d+", series):
            raise BadInput(f"--torch-series {series}", "is no series of releases.", "Give two numbers, such as 2.12.")
        if series is not None and source == "nixpkgs":
            raise BadInput(
                "--torch-series",
                "the package set's PyTorch is named by no series.",
                "Leave --torch-series out, or give --torch-source recipe or catalog.",
            )
        if unchecked and source == "nixpkgs":
            raise BadInput("--unchecked", "the package set's PyTorch declares what it is.", "Leave --unchecked out.")
        kind = get_args(Source)[get_args(Source).index(source)]
        return cls(source=kind, org=org, series=series, unchecked=unchecked)

    def pytorch(self, variant: Variant) -> str:
        """The companion's name for the PyTorch of `variant`."""
        series = (self.series or "").replace(".", "")
        return str(variant).replace("torchvision-", f"pytorch{series}-", 1)


def files(
    variants: Iterable[Variant] | None = None, torch: TorchSource | None = None, release: str | None = None
) -> dict[str, str]:
    """The recipes of `variants` (None: the default matrix), {path: text}; `release` is as in `recipe`."""
    chosen = enumerate_variants() if variants is None else variants
    return {f"{FOLDER}/{variant}.nix": recipe(variant, torch or TorchSource(), release) for variant in chosen}


def recipe(variant: Variant, torch: TorchSource, release: str | None = None) -> str:
    """The text of one recipe; `release` is a TorchVision's, None the package set's own.

    Raises BadInput for a Python that nixpkgs has no packages for, and for a release that is in no row, whose source
    cannot be fetched, or that is not made for the variant's Python or the series of `torch`.
    """
    if variant.python not in PYTHONS:
        raise BadInput(
            f"Write the recipe of {variant}",
            "nixpkgs has no set of packages for a free-threaded Python.",
            f"Choose --python from {', '.join(PYTHONS)}, or build a wheel.",
        )
    codegen, gpu = cuda_codegen(variant), variant.gpu
    known = None if release is None else _buildable(release, variant, torch)
    return render(
        "recipe.nix",
        name=str(variant),
        pytorch=torch.pytorch(variant),
        gpu=f"{', '.join(gpu.products)} ({gpu.architecture}, {gpu.capability})" if gpu else None,
        cuda=variant.cuda,
        label=codegen.label if codegen else None,
        cpus=variant.isa_facts.first_cpus,
        isa=variant.isa,
        torch=torch,
        release=known,
    )


def _buildable(version: str, variant: Variant, torch: TorchSource) -> Release:
    known = find_release(version)
    asked = f"--torchvision {version}"
    if known.sha256 is None:
        having = ", ".join(one.torchvision for one in releases().values() if one.sha256)
        raise BadInput(
            asked, "no sha256 of its source is recorded, so Nix cannot fetch it.", f"Choose from {having}, or none."
        )
    if variant.python not in known.pythons:
        raise BadInput(
            asked,
            f"is not made for Python {variant.python_version}.",
            f"Choose --python from {', '.join(known.pythons)}, or another release.",
        )
    least = ".".join(known.torch.split(".")[:2])
    newer = known.stable_abi and torch.series is not None and version_key(torch.series) > version_key(least)
    if torch.series not in (None, least) and not newer:
        or_newer = " or newer" if known.stable_abi else ""
        raise BadInput(
            f"{asked} --torch-series {torch.series}",
            f"TorchVision {version} belongs to torch {least}{or_newer}.",
            f"Give --torch-series {least}, or another release.",
        )
    return known

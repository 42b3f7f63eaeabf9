"""`recipes`: write the generated files of a checkout, or say which of them drifted."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from build_torchvision.cli.options import OUT
from build_torchvision.recipes import flox
from build_torchvision.recipes.checkout import find_checkout, named_checkout, read, write
from build_torchvision.recipes.flox import TorchSource
from build_torchvision.recipes.tree import drift, generate
from build_torchvision.variants import DEFAULT_PYTHON, DEFAULT_TRACKS, enumerate_variants

DRIFTED = 1


def recipes(
    *,
    check: Annotated[bool, Parameter(negative=())] = False,
    out: Path | None = None,
    track: list[str] | None = None,
    python: str | None = None,
    torchvision: str | None = None,
    torch_source: str = "nixpkgs",
    torch_series: str | None = None,
    catalog: str | None = None,
    unchecked: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Write every file that follows from the matrix: documents, recipes, workflows.

    Parameters
    ----------
    check
        Write nothing; list what drifted from the tables, and end with exit code 1 if anything did.
    out
        The checkout to write to; default: the one around the current folder.
    track
        Write other recipes into .flox/pkgs than the default 60: those of these tracks.
    python
        Recipes for another Python than 313.
    torchvision
        Recipes of this TorchVision release, with a torch of its series; default: the package set's own.
    torch_source
        Where recipes take PyTorch from: nixpkgs (the package set's own, with the same flags), recipe (a pinned
        build-pytorch) or catalog (a published package).
    torch_series
        Torch's series (2.12), where recipes or packages of PyTorch are named by it: pytorch212-python313-...
    catalog
        The owner of the catalog on FloxHub, for --torch-source catalog.
    unchecked
        Accept a PyTorch that declares nothing of itself.
    """
    torch = TorchSource.of(torch_source, catalog, series=torch_series, unchecked=unchecked)
    variants = enumerate_variants(python or DEFAULT_PYTHON, track or DEFAULT_TRACKS)
    root = named_checkout(out) if out else find_checkout(Path.cwd())
    found = read(root)
    drifts = drift(generate(found, flox.files(variants, torch, torchvision)), found)
    if not check:
        write(root, drifts)
    for one in drifts:
        OUT.print(f"{one.change}: {one.path}", highlight=False, markup=False, soft_wrap=True)
        if check and one.diff:
            OUT.print(one.diff, highlight=False, markup=False, soft_wrap=True)
    left = drifts if check else [one for one in drifts if one.change == "foreign"]
    if left:
        foreign = any(one.change == "foreign" for one in left)
        OUT.print("Move the foreign files out of the generated folders." if foreign else "", end=" " if foreign else "")
        OUT.print("Type `build-torchvision recipes` and commit what it writes." if check else "")
        sys.exit(DRIFTED)
    OUT.print("Nothing drifted." if check else f"{len(drifts)} files written or removed.")

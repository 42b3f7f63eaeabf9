"""`recipes`: write the generated files of a checkout, or print which of them differ."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from build_torchvision.cli.options import INPUTS, OUT, RESULT, WHAT, flag
from build_torchvision.recipes import flox
from build_torchvision.recipes.checkout import find_checkout, named_checkout, read, write
from build_torchvision.recipes.flox import TorchSource
from build_torchvision.recipes.tree import drift, generate
from build_torchvision.variants import DEFAULT_PYTHON, DEFAULT_TRACKS, enumerate_variants

DRIFTED = 1


def recipes(
    *,
    check: Annotated[bool, Parameter(negative=(), group=RESULT)] = False,
    out: Annotated[Path | None, Parameter(group=RESULT)] = None,
    track: Annotated[list[str] | None, Parameter(group=WHAT, negative=())] = None,
    python: Annotated[str | None, Parameter(group=WHAT)] = None,
    torchvision: Annotated[str | None, Parameter(group=WHAT)] = None,
    torch_source: Annotated[str, Parameter(group=INPUTS)] = "nixpkgs",
    torch_series: Annotated[str | None, Parameter(group=INPUTS)] = None,
    catalog: Annotated[str | None, Parameter(group=INPUTS)] = None,
    unchecked: Annotated[bool, flag(INPUTS, "Accept a PyTorch that does not declare what it was built for.")] = False,
) -> None:
    """Write every file that follows from the matrix: documents, recipes, workflows.

    Parameters
    ----------
    check
        Write nothing; print what differs from the tables, and end with exit code 1 if anything does.
    out
        The checkout to write to. Default: the one around the current folder.
    track
        Write the recipes of these tracks into .flox/pkgs, in place of the default 60.
    python
        Write recipes for this Python. Default: 313.
    torchvision
        Write recipes of this TorchVision release, with a torch of its series. Default: the package set's own.
    torch_source
        Where recipes take PyTorch from: nixpkgs (the package set's own, with the same flags), recipe (a pinned
        build-pytorch) or catalog (a published package).
    torch_series
        Torch's series (2.12), where recipes or packages of PyTorch are named by it: pytorch212-python313-...
    catalog
        The owner of the catalog on FloxHub, for --torch-source catalog.
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

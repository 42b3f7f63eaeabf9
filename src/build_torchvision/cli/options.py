"""What the commands share: options with their help, the two consoles, and how names become a request."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.logging import RichHandler

from build_torchvision.errors import BadInput
from build_torchvision.facts import release
from build_torchvision.inputs.resolve import BuildRequest
from build_torchvision.variants import (
    DEFAULT_RELEASE,
    DEFAULT_TRACKS,
    TRACKS,
    Variant,
    enumerate_variants,
    every_variant,
    expand_braces,
    select,
)

OUT = Console(width=None if sys.stdout.isatty() else 160)  # columns of a file or pipe
ERR = Console(stderr=True)

Json = Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON, in the shape the README documents.")]
Quiet = Annotated[bool, Parameter(name=["--quiet", "-q"], negative=(), help="Print results only.")]
Verbose = Annotated[bool, Parameter(name=["--verbose", "-v"], negative=(), help="Print every command that runs.")]
Release = Annotated[str | None, Parameter(name="--torchvision", help="The release, such as 0.21.0.")]
Torch = Annotated[
    str | None, Parameter(name="--torch", help="VERSION, FILE.whl or SITE_PACKAGES; default: the pair's.")
]
TorchIndex = Annotated[
    str | None,
    Parameter(name="--torch-index", help="The address of an index to take torch from; default: as pip is configured."),
]
Without = Annotated[
    tuple[str, ...], Parameter(name="--without", negative=(), help="Leave out a codec: jpeg, png or webp.")
]


def named(names: tuple[str, ...]) -> list[Variant]:
    if not names:
        raise BadInput("naming a variant", "no name was given.", "Try `build-torchvision variants`, or `build --auto`.")
    return list(dict.fromkeys(found for name in names for found in _matching(name)))


def _matching(pattern: str) -> list[Variant]:
    """The variants that `pattern` names: of the nine core SMs, unless it names another itself.

    Without "torchvision-pythonNNN-": the default Python, and the default tracks unless it begins with another.
    """
    everywhere = every_variant()
    core = [variant for variant in everywhere if variant.sm is None or variant.gpu is None or variant.gpu.core]
    if "-python" not in pattern:
        tracks = [track for track in TRACKS if pattern.startswith(track)] or DEFAULT_TRACKS
        core = enumerate_variants(tracks=tracks)
        everywhere = tuple(enumerate_variants(tracks=tracks, sms=None))
    found: list[Variant] = []
    for glob in expand_braces(pattern):
        for universe in (core, everywhere):
            try:
                found += select([glob], universe)
                break
            except BadInput:
                continue
    return found or select([pattern], everywhere)


def request_of(
    chosen: Sequence[Variant], torchvision: str | None, torch: str | None, without: tuple[str, ...], compiler: str
) -> BuildRequest:
    return BuildRequest(
        variants=tuple(chosen),
        release=release(torchvision or DEFAULT_RELEASE),
        torch=torch,
        without=frozenset(without),
        compiler=compiler,
    )


def log_to_stderr(*, quiet: bool, verbose: bool) -> None:
    level = logging.ERROR if quiet else logging.DEBUG if verbose else logging.WARNING
    logging.basicConfig(
        level=level, format="%(message)s", handlers=[RichHandler(console=ERR, show_time=False, show_path=False)]
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("httpcore").setLevel(logging.WARNING)

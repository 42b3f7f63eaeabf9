"""What the commands share: options with their help, the two consoles, and how names become a request."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.logging import RichHandler

from build_torchvision import pipeline
from build_torchvision.errors import BadInput
from build_torchvision.facts import release
from build_torchvision.variants import Variant, enumerate_variants, every_variant, select

OUT = Console(width=None if sys.stdout.isatty() else 160)  # columns of a file or pipe
ERR = Console(stderr=True)

Json = Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON, in the shape the README documents.")]
Quiet = Annotated[bool, Parameter(name=["--quiet", "-q"], negative=(), help="Print results only.")]
Verbose = Annotated[bool, Parameter(name=["--verbose", "-v"], negative=(), help="Print every command that runs.")]
Release = Annotated[str | None, Parameter(name="--torchvision", help="The release, such as 0.21.0.")]
Torch = Annotated[
    str | None, Parameter(name="--torch", help="VERSION, FILE.whl or SITE_PACKAGES; default: the pair's.")
]
Without = Annotated[
    tuple[str, ...], Parameter(name="--without", negative=(), help="Leave out a codec: jpeg, png or webp.")
]


def named(names: tuple[str, ...]) -> list[Variant]:
    if not names:
        raise BadInput("naming a variant", "no name was given.", "Try `build-torchvision variants`, or `build --auto`.")
    return [
        found
        for name in names
        for found in (select([name], every_variant()) if "-python" in name else select([name], enumerate_variants()))
    ]


def request_of(
    chosen: Sequence[Variant], torchvision: str | None, torch: str | None, without: tuple[str, ...], compiler: str
) -> pipeline.Request:
    return pipeline.Request(
        variants=tuple(chosen),
        release=release(torchvision or pipeline.DEFAULT_RELEASE),
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

"""Declare what the commands share: options with their help, and the two consoles."""

from __future__ import annotations

import logging
import re
import sys
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.console import Console

if TYPE_CHECKING:
    from build_torchvision.requests import Requests

LOG_COLUMNS = 160
"""How wide lines are in a file or pipe, which has no width of its own."""


_TRAILING = re.compile(r" +((?:\x1b\[[0-9;]*m)*)(?=\n)")


class Output(Console):
    """A console whose lines end where their text ends: rich fills a table's cells with blanks to the last column."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich does, without blanks at the ends of lines."""
        with self.capture() as captured:
            super().print(*objects, **options)
        if self.quiet:
            return
        self.file.write(_TRAILING.sub(r"\1", captured.get()))
        self.file.flush()


OUT = Output(width=None if sys.stdout.isatty() else LOG_COLUMNS)
ERR = Output(stderr=True, width=None if sys.stderr.isatty() else LOG_COLUMNS)

Json = Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON; docs/schemas has its shape.")]
Quiet = Annotated[bool, Parameter(name=["--quiet", "-q"], negative=(), help="Print results only.")]
Verbose = Annotated[bool, Parameter(name=["--verbose", "-v"], negative=(), help="Print every command that runs.")]
Release = Annotated[
    str | None,
    Parameter(name="--torchvision", help="The release, such as 0.29.1; default: the newest of the variant's torch."),
]
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


def show_left_out(found: Requests) -> None:
    """Say on standard error which release stands in for another, and what a pattern left out, by reason."""
    from build_torchvision.requests import left_out_by_reason

    for note in found.notes:
        ERR.print(note, markup=False, highlight=False, soft_wrap=True)
    for reason, variants in left_out_by_reason(found.left_out).items():
        names = ", ".join(variant.short for variant in variants)
        ERR.print(f"left out: {names}: {reason}", markup=False, highlight=False, soft_wrap=True)


def log_to_stderr(*, quiet: bool, verbose: bool) -> None:
    level = logging.ERROR if quiet else logging.DEBUG if verbose else logging.WARNING
    if ERR.is_terminal:
        from build_torchvision.cli.terminal_log import TerminalLog  # slow to import, with what it imports

        handler = TerminalLog(console=ERR, show_time=False, show_path=False)
        logging.basicConfig(level=level, format="%(message)s", handlers=[handler])
    else:  # the log of a CI job: a message a line, however long
        logging.basicConfig(level=level, format="%(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("httpcore").setLevel(logging.WARNING)

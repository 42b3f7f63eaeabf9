"""Declare what the commands share: options with their help, and the two consoles."""

from __future__ import annotations

import logging
import math
import re
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter
from rich.console import Console

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

# How `--help` groups options, in this order.
WHAT = Group("What", sort_key=1)
INPUTS = Group("Inputs", sort_key=2)
COMPILING = Group("Compiling", sort_key=3)
RUN = Group("Running", sort_key=4)
RESULT = Group("Result", sort_key=5)
OUTPUT = Group("Output", sort_key=6)


def flag(group: Group, text: str, *, name: str | None = None) -> Parameter:
    """An option without a value, which has no negative form."""
    return Parameter(name=name, negative=(), group=group, help=text)


def above_zero(_: Any, value: float | None) -> None:
    """What cyclopts asks of a number: raises ValueError for one that is not above 0 and finite."""
    if value is not None and not 0 < value < math.inf:
        raise ValueError("Give a number above 0.")


Json = Annotated[bool, flag(OUTPUT, "Print JSON; docs/schemas describes it.", name="--json")]
Quiet = Annotated[bool, Parameter(name=["--quiet", "-q"], negative=(), group=OUTPUT, help="Print results only.")]
Verbose = Annotated[
    bool, Parameter(name=["--verbose", "-v"], negative=(), group=OUTPUT, help="Print every command that runs.")
]
Release = Annotated[
    str | None,
    Parameter(
        name="--torchvision",
        group=WHAT,
        help="The TorchVision release, such as 0.29.1. Default: the newest of the variant's track.",
    ),
]
Names = Annotated[str, Parameter(help="Variants, such as cpu-avx512, or patterns: globs with braces.")]
Torch = Annotated[
    str | None,
    Parameter(
        name="--torch", group=INPUTS, help="VERSION, FILE.whl or SITE_PACKAGES. Default: the torch of the release."
    ),
]
TorchIndex = Annotated[
    str | None,
    Parameter(
        name="--torch-index",
        group=INPUTS,
        help="The address of an index that has torch. Default: pip's own.",
    ),
]
Source = Annotated[
    Path | None,
    Parameter(group=INPUTS, help="A folder or archive of TorchVision's source, in place of the download."),
]


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

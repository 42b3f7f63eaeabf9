"""Build TorchVision wheels for one CPU instruction set and one GPU architecture, and verify what they contain.

Results go to standard output, everything else to standard error.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from build_torchvision import __version__
from build_torchvision.cli.examples import EXAMPLES, NAME, listed
from build_torchvision.errors import BuildTorchvisionError
from build_torchvision.writing import cannot_write

if TYPE_CHECKING:
    from cyclopts import App

COMMANDS = {
    "variants": (
        "matrix:variants",
        "List variants: the 60 of the default matrix, or those that match PATTERNS (globs with braces).",
    ),
    "show": (
        "matrix:show",
        "Describe variant NAME: its flags, how its toolkit serves its GPU, and what to know before choosing it.",
    ),
    "detect": (
        "detect:detect",
        "Describe this machine, which variant fits it best and why, and the commands to build it.",
    ),
    "plan": (
        "build:plan",
        "Print what `build` would do with variants NAMES: inputs, flags, the wheel's name. Nothing is fetched or run.",
    ),
    "prepare": (
        "prepare:prepare",
        "Fetch and check all that building and verifying variants NAMES needs; nothing is compiled.",
    ),
    "build": (
        "build:build",
        "Build variants NAMES (or patterns), audit each wheel, and put those that hold into --out.",
    ),
    "verify": (
        "verify:verify",
        "Check that WHEELS are what their names say: decode every instruction, then run them next to their torch.",
    ),
    "bench": (
        "bench:bench",
        "Time WHEELS against the published wheel of their release: every operator and codec, with intervals.",
    ),
    "index": (
        "index:index",
        "Make a static package index of WHEELS (files, or folders of them), for pip, uv and `install --from`.",
    ),
    "install": (
        "install:install",
        "Install the wheel of an index that fits this machine best, or the best of variants NAMES, and print why.",
    ),
    "doctor": (
        "doctor:doctor",
        "Find out why TorchVision does not work in a Python environment, from its files alone, and what fixes it.",
    ),
    "recipes": (
        "recipes:recipes",
        "Write every file that follows from the matrix: documents, recipes, workflows.",
    ),
    "cache": (
        "cache:cache",
        "Show and prune the cache of fetched inputs, objects and environments.",
    ),
}
"""Name -> where the command is, below this package, and its summary, the first of its docstring.

A module is imported when its command is called.
"""
SHOWN = ("variants", "show", "detect", "build", "verify", "doctor")
"""Commands whose first example the overview shows."""
EXIT_CODES = (
    "Exit codes: 0 all held, 1 a check failed, a generated file drifted or doctor found a fault, 2 bad input, "
    "3 an input is missing, 4 a process failed, 5 the network failed, 6 a file could not be written, 130 interrupted."
)
HELP = ("--help", "-h")
CLOSED_PIPE = 128 + 13
"""The exit code of a program whose reader went away: what a shell reports of one that SIGPIPE ended."""


def make_app() -> App:
    """The command line with all its commands, none of which is imported yet."""
    from cyclopts import App, Parameter  # a third of a second with what it imports; the overview does without

    from build_torchvision.cli.options import OUT

    app = App(
        name=NAME,
        version=__version__,
        help=__doc__,
        help_format="plaintext",
        console=OUT,
        default_parameter=Parameter(show_default=_default),
        suppress_keyboard_interrupt=False,
    )
    app.register_install_completion_command()
    for name, (place, summary) in COMMANDS.items():
        # `cache` is an App with commands of its own, which carries its examples itself.
        epilogue = {} if name == "cache" else {"help_epilogue": listed(EXAMPLES[name])}
        app.command(f"build_torchvision.cli.{place}", name=name, help=summary, **epilogue)
    return app


def _default(value: object) -> str | None:
    """How a default is shown; not at all where it is no, nothing or none."""
    return None if value in (False, None, ()) else "yes" if value is True else str(value)


def overview() -> str:
    """What `--help` prints: the commands and what each does."""
    options = {
        "--help, -h": "Print this, or behind a command its options and examples.",
        "--version": "Print the version.",
        "--install-completion": "Install completion for the shell.",
    }
    width = max(shutil.get_terminal_size((100, 24)).columns, 60)
    about = [textwrap.fill(text, width) for text in (__doc__ or "").strip().split("\n\n")]
    parts = [f"Usage: {NAME} COMMAND", *about]
    for title, rows in (("Commands", {name: row[1] for name, row in COMMANDS.items()}), ("Options", options)):
        parts.append(f"{title}:\n" + "\n".join(_row(name, text, width) for name, text in rows.items()))
    return "\n\n".join([*parts, textwrap.fill(EXIT_CODES, width), listed(EXAMPLES[name][0] for name in SHOWN)])


def _row(name: str, text: str, width: int) -> str:
    return textwrap.fill(text, width, initial_indent=f"  {name:22}", subsequent_indent=" " * 24)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; every error of ours becomes three sentences and its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may lack what a path or a name has
    if not arguments or arguments[0] in HELP:
        print(overview())
        return
    if arguments[0] == "--version":
        print(__version__)
        return
    try:
        make_app()(arguments)
    except BuildTorchvisionError as error:
        _report(error)
    except BrokenPipeError:  # `... | head`: whoever reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains while it ends
        sys.exit(CLOSED_PIPE)
    except OSError as error:
        found = cannot_write(error, "Write a file")
        if found is None:
            raise
        _report(found)
    except KeyboardInterrupt:
        print("interrupted: what is finished is kept, and the same command goes on from there", file=sys.stderr)
        sys.exit(130)


def _report(error: BuildTorchvisionError) -> NoReturn:
    from build_torchvision.cli.options import ERR

    ERR.print(f"[bold red]error[/] {type(error).__name__}")
    rows = [("action:", error.action), ("problem:", error.problem), ("hint:", error.hint)]
    if ERR.is_terminal:
        from build_torchvision.cli.sheet import Sheet

        Sheet.of(rows).print(ERR)
    else:
        for title, text in rows:
            ERR.print(f"{title:8} {text}", markup=False, highlight=False, soft_wrap=True)
    sys.exit(error.exit_code)


if __name__ == "__main__":
    main()

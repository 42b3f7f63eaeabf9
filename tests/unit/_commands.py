"""Shell commands as people and workflows write them, and whether the command line knows them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import yaml

from build_torchvision.cli.main import make_app

APP = make_app()
_FENCE = re.compile(r"(?:<!-- (?P<mark>[^>\n]*) -->\n)?```(?:bash|sh|console)\n(?P<text>.*?)```", re.DOTALL)
RUN = ("run", "run: compiler", "run: torch")
"""The marks of blocks that tests/integration/test_documents.py types, in the order of what they need."""
NIX = "nix"
"""The mark of nix-build commands, which tests/integration/test_nix_eras.py instantiates."""
NOT_RUN = "not run: "
"""What a mark begins with that says why nothing types the block, or what does something like it."""


def blocks(document: str) -> list[tuple[str | None, str]]:
    """The shell blocks of a document: (the mark in the comment above it, or None without one; its text)."""
    return [(match["mark"], match["text"]) for match in _FENCE.finditer(document)]


def words(text: str) -> list[list[str]]:
    """The simple commands of a shell text as words: no comments, lines joined, `&&` and pipes taken apart.

    What a command is given to read (<<'END' ... END) is left out.
    """
    found: list[list[str]] = []
    text = re.sub(r"<<'(\w+)'\n.*?\n\1\n", "\n", text, flags=re.DOTALL)
    for line in text.replace("\\\n", " ").splitlines():
        command: list[str] = []
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.wordchars += "*?{},[]@:+~=%!$"
        for word in lexer:
            if set(word) <= set("();<>|&"):
                found.append(command)
                command = []
            else:
                command.append(word)
        found.append(command)
    return [command for command in found if command]


def ours(text: str) -> list[list[str]]:
    """The arguments of every `build-torchvision` command in a shell text."""
    return [
        command[command.index("build-torchvision") + 1 :]
        for command in words(text)
        if "build-torchvision" in command[:3]
    ]


def refusal(arguments: list[str]) -> str | None:
    """Why the command line does not take `arguments`, or None where it does. Nothing runs."""
    if any(word in arguments for word in ("--help", "--version", "--install-completion")):
        arguments = arguments[:-1]
        if not arguments:
            return None
    try:
        APP.parse_args(arguments, exit_on_error=False, print_error=False)
    except Exception as error:
        return f"build-torchvision {shlex.join(arguments)}: {error}"
    return None


def steps(workflow: Path) -> list[str]:
    """The `run:` texts of a workflow."""
    jobs = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"].values()
    return [step["run"] for job in jobs for step in job.get("steps", ()) if "run" in step]

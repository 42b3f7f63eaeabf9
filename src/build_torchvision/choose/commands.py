"""Build shell commands from their parts: words are quoted when the command is printed, and at no other time."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from build_torchvision.machine.environment import PythonEnvironment


class Pattern(str):
    """A file pattern that the shell expands, so that it is not quoted."""

    __slots__ = ()


@dataclass(frozen=True)
class Command:
    """Commands that run one after the other, each as its words."""

    steps: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, *words: str) -> Command:
        """One command."""
        return cls((words,))

    def then(self, other: Command) -> Command:
        """This one, and `other` where it succeeds."""
        return Command(self.steps + other.steps)

    def __str__(self) -> str:
        return " && ".join(" ".join(_quoted(word) for word in words) for words in self.steps)


def _quoted(word: str) -> str:
    return word if isinstance(word, Pattern) else shlex.quote(word)


NEW_ENVIRONMENT = ".venv"


def install(
    environment: PythonEnvironment,
    packages: Sequence[str],
    *,
    options: Sequence[str] = (),
    first: Sequence[str] = (),
    first_options: Sequence[str] = (),
) -> Command | None:
    """The command that gets `packages` (requirements or wheels) into `environment`; None where nothing can be.

    `options` are pip's, which uv takes too. Where the distribution manages the Python (PEP 668) a new environment comes
    first, with the packages `first` (by `first_options`) in it: what the old one had, such as its torch.
    """
    words = (*options, *packages)
    python = str(environment.executable)
    match environment.installer:
        case "none":
            return None
        case "uv":
            return Command.of("uv", "pip", "install", "--python", python, *words)
        case "target":
            folder = environment.paths[0] if environment.paths else environment.prefix
            return Command.of(python, "-m", "pip", "install", "--target", str(folder), "--upgrade", *words)
        case "venv":
            inside = f"{NEW_ENVIRONMENT}/bin/python"
            command = Command.of(python, "-m", "venv", NEW_ENVIRONMENT)
            if first:
                command = command.then(Command.of(inside, "-m", "pip", "install", *first_options, *first))
            return command.then(Command.of(inside, "-m", "pip", "install", *words))
        case "pip":
            return Command.of(python, "-m", "pip", "install", *words)

"""Build shell commands from their parts: words are quoted when the command is printed, and at no other time."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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


def _into(
    folder: Path, environment: PythonEnvironment, options: Sequence[str], packages: Sequence[str]
) -> tuple[str, ...]:
    """pip's words for an install into `folder`: there it looks at nothing that is installed, so it would bring a torch.

    A torch that is there stays where only a TorchVision is wanted.
    """
    alone = environment.torch is not None and all(_is_of("torchvision", package) for package in packages)
    dependencies = ("--no-deps",) if alone and "--no-deps" not in options else ()
    return ("--target", str(folder), "--upgrade", *dependencies, *options, *packages)


def _is_of(name: str, package: str) -> bool:
    """Whether the requirement or wheel `package` is of distribution `name`."""
    return re.match(rf"(.*/)?{name}(?![\w])", package) is not None


def _ahead(environment: PythonEnvironment, packages: Sequence[str]) -> Path | None:
    """The folder that a copy of one of `packages` is imported from, if it stays ahead of what an installer installs."""
    for name, found in (("torchvision", environment.torchvision), ("torch", environment.torch)):
        wanted = any(_is_of(name, package) for package in packages)
        if wanted and found is not None and not found.editable and found.folder.parent.suffix != ".egg":
            place = found.folder.parent
            behind = next((folder.path for folder in environment.folders if folder.origin == "site"), None)
            if found.origin == "PYTHONPATH" or (found.origin == "pth" and _precedes(environment, place, behind)):
                return place
    return None


def _precedes(environment: PythonEnvironment, one: Path, other: Path | None) -> bool:
    paths = list(environment.paths)
    return one in paths and other in paths and paths.index(one) < paths.index(other)


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
    ahead = _ahead(environment, packages)
    if ahead is not None and environment.installer in ("pip", "uv"):
        pip = ("uv", "pip") if environment.installer == "uv" else (python, "-m", "pip")
        own = ("--python", python) if environment.installer == "uv" else ()
        return Command.of(*pip, "install", *own, *_into(ahead, environment, options, packages))
    match environment.installer:
        case "none":
            return None
        case "uv":
            return Command.of("uv", "pip", "install", "--python", python, *words)
        case "target":
            folder = environment.paths[0] if environment.paths else environment.prefix
            assert folder is not None
            return Command.of(python, "-m", "pip", "install", *_into(folder, environment, options, packages))
        case "venv":
            inside = f"{NEW_ENVIRONMENT}/bin/python"
            command = Command.of(python, "-m", "venv", NEW_ENVIRONMENT)
            if first:
                command = command.then(Command.of(inside, "-m", "pip", "install", *first_options, *first))
            return command.then(Command.of(inside, "-m", "pip", "install", *words))
        case "pip":
            return Command.of(python, "-m", "pip", "install", *words)

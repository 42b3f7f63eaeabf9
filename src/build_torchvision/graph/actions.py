"""The vocabulary of a build graph: what an action is, and what a graph of them holds."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What an action does."""

    PCH = "pch"
    FRONTEND = "frontend"
    CODEGEN = "codegen"
    COMPILE = "compile"
    DEVICE = "device"
    LINK = "link"


@dataclass(frozen=True, kw_only=True)
class Action:
    """One call of a compiler or linker. Paths are relative to the build folder or absolute."""

    output: str
    kind: Kind
    command: tuple[str, ...]
    inputs: tuple[str, ...]
    label: str
    unit: str | None = None  # "extension/name" of a unit of several sources, which may be split
    depfile: bool = True


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Actions in an order in which they could run, files to write first, and each target's finished extensions.

    A target is what a pair of extensions is built for: `avx512`, or `sm90-avx512` with CUDA (see `target_name`).
    """

    actions: tuple[Action, ...]
    files: Mapping[str, str]
    extensions: Mapping[str, Mapping[str, str]]  # target -> module -> path
    notes: tuple[str, ...] = field(default=())


def target_name(isa: str, sm: str | None = None) -> str:
    """`avx512`, or `sm90-avx512`."""
    return f"{sm}-{isa}" if sm else isa


def shell(command: Sequence[str]) -> str:
    """`command` as one line for a POSIX shell; `&&` between two commands stays an operator."""
    return " ".join("&&" if part == "&&" else shlex.quote(part) for part in command)

"""The vocabulary of a build graph: what an action is, and what a graph of them holds."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class ActionKind(StrEnum):
    """What an action does. Each is one process, so that a compiler cache can stand in for it."""

    PCH = "pch"
    FRONTEND = "frontend"  # a source -> LLVM IR without a target CPU
    REWRITE = "rewrite"  # IR -> IR, or object -> object: a script of this package, no compiler
    OPTIMISE = "optimise"  # IR -> IR, for CPU ISAs of which the optimiser knows no difference
    CODEGEN = "codegen"  # IR -> an object for one CPU ISA, or PTX for one SM
    COMPILE = "compile"  # a source -> an object
    DEVICE = "device"  # a CUDA source -> PTX, or a fat binary, for one SM
    ASSEMBLE = "assemble"  # PTX -> cubin, fat binary and the object that holds it
    NASM = "nasm"  # assembly of an image library -> an object
    LINK = "link"


@dataclass(frozen=True, kw_only=True)
class Action:
    """One call of a compiler or linker. Paths are relative to the build folder or absolute."""

    output: str
    kind: ActionKind
    command: tuple[str, ...]
    inputs: tuple[str, ...]
    label: str
    unit: str | None = None  # what is planned otherwise where this fails: "extension/name", or that with EACH_SM
    depfile: bool = True


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Actions in an order in which they could run, files to write first, and each target's finished extensions.

    A target is what a pair of extensions is built for: `avx512`, or `sm90-avx512` with CUDA (see `target_name`).
    A file that begins with `#!` is made executable.
    """

    actions: tuple[Action, ...]
    files: Mapping[str, str]
    extensions: Mapping[str, Mapping[str, str]]  # target -> module -> path
    notes: tuple[str, ...] = field(default=())


EACH_SM = " for each SM"
"""Ends what a CUDA unit is called that was parsed once for all SMs."""


def done_instead(unit: str) -> str:
    """What is done about an `Action.unit` that failed, one sentence without a full stop."""
    if unit.endswith(EACH_SM):
        return f"{unit.removesuffix(EACH_SM)} is not the same program for every SM: it is parsed for each"
    return f"{unit} does not compile as one unit: its files are compiled one by one"


def target_name(isa: str, sm: str | None = None) -> str:
    """`avx512`, or `sm90-avx512`."""
    return f"{sm}-{isa}" if sm else isa


def shell(command: Sequence[str]) -> str:
    """`command` as one line for a POSIX shell."""
    return shlex.join(command)

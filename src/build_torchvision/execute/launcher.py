"""A compiler cache in front of the actions: ccache or sccache, local or shared with other machines."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from build_torchvision.errors import BadInput, MissingInput
from build_torchvision.graph.actions import ActionKind

LauncherChoice = Literal["auto", "ccache", "sccache", "none"]
# What each can stand in for. ccache takes every compiler step, thanks to graph/tools.py; sccache knows neither `-S` nor
# `-x cpp-output`, so what it caches are the plain compiles to objects.
KINDS = {
    "ccache": frozenset(
        {
            ActionKind.PCH,
            ActionKind.FRONTEND,
            ActionKind.OPTIMISE,
            ActionKind.CODEGEN,
            ActionKind.COMPILE,
            ActionKind.DEVICE,
            ActionKind.ASSEMBLE,
        }
    ),
    "sccache": frozenset({ActionKind.COMPILE}),
}
# ccache's manual, "Precompiled headers": without these it leaves alone whatever uses one. Times of included files say
# nothing here, since every input is pinned; the header itself is compared by content.
SLOPPINESS = ("pch_defines", "time_macros", "include_file_mtime", "include_file_ctime")
STATISTICS = "ccache-results.log"


@dataclass(frozen=True, kw_only=True)
class Launcher:
    """A compiler cache: its program, the kinds of actions that it stands in for, and the environment it needs."""

    program: Path
    kinds: frozenset[ActionKind]
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.program.name

    def report(self, folder: Path) -> str:
        """What the cache did in the run that just ended in `folder`: "ccache: 41 hits, 0 misses"."""
        if self.name != "ccache":
            return f"{self.name} stood before the plain compiles; ask it with `{self.name} --show-stats`"
        log = folder / STATISTICS
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
        found = Counter(line.strip() for line in lines if not line.startswith("#"))
        hits = found["direct_cache_hit"] + found["preprocessed_cache_hit"]
        other = sum(found[word] for word in found if word in UNCACHED)
        return f"ccache: {hits} hits, {found['cache_miss']} misses, {other} not cached"


# ccache's results for a call that it hands on to the compiler without keeping what comes out.
UNCACHED = frozenset(
    {
        *("unsupported_compiler_option", "unsupported_source_language", "could_not_use_precompiled_header"),
        *("preprocessor_error", "compile_failed", "internal_error", "bad_compiler_arguments", "bad_output_file"),
        *("no_input_file", "multiple_source_files", "called_for_link", "called_for_preprocessing", "autoconf_test"),
        *(
            "could_not_find_compiler",
            "compiler_check_failed",
            "compiler_produced_no_output",
            "error_hashing_extra_file",
        ),
        *("missing_cache_file", "output_to_stdout", "unsupported_code_directive", "recache", "modified_input_file"),
    }
)


def find_launcher(choice: str, identity: Sequence[str], folder: Path) -> Launcher | None:
    """The compiler cache that `choice` names: auto is ccache, then sccache, where one is on PATH; none is none.

    `identity` names compiler and toolkit with their versions: ccache sees small programs of ours in their place. Where
    the cache lies, and which remote one it shares, is the user's: CCACHE_DIR, CCACHE_REMOTE_STORAGE, SCCACHE_REDIS and
    so on pass through. Raises MissingInput when it is named and not here, BadInput for an unknown choice.
    """
    choices = get_args(LauncherChoice)
    if choice not in choices:
        raise BadInput(f"--launcher {choice}", "No such compiler cache is known.", f"Choose {', '.join(choices)}.")
    names = ("ccache", "sccache") if choice == "auto" else () if choice == "none" else (choice,)
    for name in names:
        program = shutil.which(name)
        if program:
            env = _ccache(identity, folder) if name == "ccache" else {}
            return Launcher(program=Path(program), kinds=KINDS[name], env=env)
    if choice in ("auto", "none"):
        return None
    raise MissingInput(
        f"--launcher {choice}", f"{choice} is not on PATH.", f"Install {choice}, or choose --launcher none."
    )


def _ccache(identity: Sequence[str], folder: Path) -> dict[str, str]:
    sloppiness = [word for word in os.environ.get("CCACHE_SLOPPINESS", "").replace(",", " ").split() if word]
    return {
        "CCACHE_SLOPPINESS": ",".join(dict.fromkeys([*sloppiness, *SLOPPINESS])),
        "CCACHE_NOHASHDIR": "1",  # no object holds its build folder's path: there is no debug information
        "CCACHE_COMPILERCHECK": f"string:{hashlib.sha256(repr(tuple(identity)).encode()).hexdigest()}",
        "CCACHE_STATSLOG": str(folder.absolute() / STATISTICS),  # ccache runs in the build folder
    }

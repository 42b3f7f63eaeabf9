"""Objects from another machine: a build folder says what made each, and another takes what it would make itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from build_torchvision.errors import BadInput
from build_torchvision.graph.actions import LINKS, Graph
from build_torchvision.graph.groups import identities, without

MANIFEST = "objects.json"


def write_manifest(graph: Graph, folder: Path) -> None:
    """Write `folder`/objects.json: each output that is there, with a digest of all that made it."""
    made = {output: digest for output, digest in identities(graph).items() if (folder / output).is_file()}
    (folder / MANIFEST).write_text(json.dumps(made, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def take(graph: Graph, givers: Sequence[Path], folder: Path) -> Graph:
    """Copy into `folder` what `givers` hold of `graph`, made by the very same actions; returns what is left to do.

    Raises BadInput for a folder without a manifest, and for one that holds nothing of this build.
    """
    wanted, taken = identities(graph), set()
    links = {action.output for action in graph.actions if action.group == LINKS}
    for giver in givers:
        asked = f"Take objects from {giver}"
        try:
            made = json.loads((giver / MANIFEST).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BadInput(
                asked, f"It has no readable {MANIFEST}.", "Name a --build-dir that `build --only GROUP` has filled."
            ) from error
        fitting = [output for output, digest in wanted.items() if made.get(output) == digest and output not in links]
        fitting = [output for output in fitting if (giver / output).is_file()]
        if not fitting:
            raise BadInput(
                asked,
                "It was made from other inputs, or by other tools: none of its objects belongs to this build.",
                "Build the group again with the same variants' tracks, release, torch and compilers.",
            )
        for output in fitting:
            if output not in taken and giver.resolve() != folder.resolve():
                (folder / output).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(giver / output, folder / output)
        taken.update(fitting)
    return without(graph, taken)

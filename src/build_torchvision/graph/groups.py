"""A graph in groups, so that machines can share it: a group is built anywhere, its objects carried to the last one."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import replace

from build_torchvision.errors import BadInput
from build_torchvision.graph.actions import LINKS, Action, Graph


def groups(graph: Graph) -> dict[str, tuple[Action, ...]]:
    """Group -> its actions: the platform, each ISA, each SM, and the links, which need all others."""
    names = [*dict.fromkeys(action.group for action in graph.actions if action.group != LINKS), LINKS]
    return {name: tuple(action for action in graph.actions if action.group == name) for name in names}


def needs(graph: Graph) -> dict[str, tuple[str, ...]]:
    """Group -> the groups whose outputs its actions read, directly or through others."""
    made = {action.output: action for action in graph.actions}
    found: dict[str, tuple[str, ...]] = {}
    for name, actions in groups(graph).items():
        direct = {made[path].group for action in actions for path in action.inputs if path in made} - {name}
        found[name] = tuple(sorted({*direct, *(deeper for other in direct for deeper in found.get(other, ()))}))
    return found


def check_group(graph: Graph, name: str) -> None:
    """Raises BadInput unless `name` is a group of `graph`."""
    known = groups(graph)
    if name not in known:
        raise BadInput(f"--only {name}", "These variants have no such group.", f"Choose from {', '.join(known)}.")


def identities(graph: Graph) -> dict[str, str]:
    """Output -> a digest of all that makes it: commands, and the texts that the graph writes, all the way down."""
    found: dict[str, str] = {}
    for action in graph.actions:
        inputs = [found.get(path) or graph.files.get(path, path) for path in action.inputs]
        found[action.output] = hashlib.sha256(repr((action.command, inputs)).encode()).hexdigest()
    return found


def without(graph: Graph, outputs: Collection[str]) -> Graph:
    """`graph` without the actions that make `outputs`, nor those that then nobody needs."""
    rest = [action for action in graph.actions if action.output not in outputs]
    wanted = {path for modules in graph.extensions.values() for path in modules.values()}
    kept: list[Action] = []
    for action in reversed(rest):
        if action.output in wanted:
            wanted.update(action.inputs)
            kept.append(action)
    return replace(graph, actions=tuple(reversed(kept)))


def as_json(graph: Graph) -> list[Mapping[str, object]]:
    """The documented shape: [{"group", "needs", "actions": [{"output", "kind", "label", "inputs"}]}]."""
    needed = needs(graph)
    return [
        {
            "group": name,
            "needs": list(needed[name]),
            "actions": [
                {
                    "output": action.output,
                    "kind": str(action.kind),
                    "label": action.label,
                    "inputs": list(action.inputs),
                }
                for action in actions
            ],
        }
        for name, actions in groups(graph).items()
    ]

"""A graph as the text of a build.ninja."""

from __future__ import annotations

from build_torchvision.execute.launcher import Launcher
from build_torchvision.graph.actions import Graph, shell

HEADER = """ninja_required_version = 1.8
rule run
  command = { $cmd; } > $out.log 2>&1 || { status=$$?; cat $out.log; exit $$status; }
  description = $label
rule run_with_headers
  command = { $cmd; } > $out.log 2>&1 || { status=$$?; cat $out.log; exit $$status; }
  description = $label
  depfile = $out.d
  deps = gcc
"""


def ninja_file(graph: Graph, launcher: Launcher | None = None) -> str:
    """One build statement an action; each action's output goes to `OUTPUT.log` and, when it fails, to the terminal.

    `launcher` goes before the commands that it can stand in for.
    """
    lines = [HEADER]
    for action in graph.actions:
        rule = "run_with_headers" if action.depfile else "run"
        inputs = " ".join(_path(path) for path in action.inputs)
        before = (str(launcher.program),) if launcher and action.kind in launcher.kinds else ()
        lines.append(
            f"build {_path(action.output)}: {rule} {inputs}\n  cmd = {_value(shell((*before, *action.command)))}\n"
            f"  label = {_value(action.label)}\n"
        )
    return "".join(lines)


def _value(text: str) -> str:
    return text.replace("$", "$$")


def _path(text: str) -> str:
    return text.replace("$", "$$").replace(" ", "$ ").replace(":", "$:")

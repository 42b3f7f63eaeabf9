"""A checkout on disk: its texts read, what drifted written or removed."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path

from build_torchvision.errors import BadInput
from build_torchvision.recipes.tree import FOLDERS, Drift

_NAME = "build-torchvision"


def find_checkout(start: Path) -> Path:
    """The checkout of this project that `start` lies in. Raises BadInput where there is none."""
    for folder in (start, *start.parents):
        project = folder / "pyproject.toml"
        if project.is_file() and tomllib.loads(project.read_text("utf-8")).get("project", {}).get("name") == _NAME:
            return folder
    raise BadInput(
        "Write the generated files",
        f"{start} is not in a checkout of {_NAME}.",
        "Change into one, or name it with --out.",
    )


def named_checkout(out: Path) -> Path:
    """`out`, which must be a checkout: recipes call the builder in its nix/. Raises BadInput where it is none."""
    if (out / "nix" / "torchvision.nix").is_file():
        return out
    raise BadInput(
        f"Write the generated files to {out}",
        "it is no checkout of this project, and recipes call the builder in a checkout's nix/.",
        f"Make one, in a clone: git worktree add {out}. Or leave --out out.",
    )


def read(root: Path) -> dict[str, str]:
    """Texts by path relative to `root`: documents of the top folder, the action, nix's data, all of the generated
    folders.

    Bytes that are no UTF-8 come as replacement characters, so that such a file counts as changed.
    """
    paths = [
        *root.glob("*.md"),
        *root.glob("nix/*.json"),
        *root.glob("action.yml"),
        *(path for folder in FOLDERS for path in (root / folder).rglob("*")),
    ]
    return {
        path.relative_to(root).as_posix(): path.read_text("utf-8", errors="replace")
        for path in sorted(paths)
        if path.is_file()
    }


def write(root: Path, drifts: Iterable[Drift]) -> None:
    """Write what is missing or changed below `root` and remove what is stale; foreign files stay."""
    for one in drifts:
        path = root / one.path
        if one.text is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(one.text, encoding="utf-8")
        elif one.change == "stale":
            path.unlink()

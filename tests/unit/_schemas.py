"""Hold JSON to the schemas of docs/schemas, and plant faults in it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

FOLDER = Path(__file__).parents[2] / "docs" / "schemas"
SUFFIX = ".schema.json"
NAMES = sorted(path.name.removesuffix(SUFFIX) for path in FOLDER.glob(f"*{SUFFIX}"))
OF_COMMAND = {
    name: name
    for name in (
        *("variants", "show", "detect", "plan", "prepare", "build"),
        *("verify", "bench", "index", "install", "doctor", "cache"),
    )
}
"""Command -> the schema of what it prints with --json."""


def schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{name}{SUFFIX}").read_text(encoding="utf-8"))
    return found


@cache
def validator(name: str) -> Draft202012Validator:
    registry: Registry[Any] = Registry().with_resources(
        [(f"{each}{SUFFIX}", Resource.from_contents(schema(each))) for each in NAMES]
    )
    return Draft202012Validator(schema(name), registry=registry)


def faults(name: str, data: object) -> list[str]:
    """Where `data` is not as schema `name` has it."""
    return [f"{error.json_path}: {error.message[:300]}" for error in validator(name).iter_errors(data)]


def of_command(words: Sequence[str]) -> str | None:
    """The schema of what `build-torchvision WORDS` prints; None where that is no JSON."""
    if "--matrix" in words:
        return "variants-matrix"
    return OF_COMMAND[words[0]] if "--json" in words else None


def planted(name: str, data: object) -> Iterator[tuple[str, object]]:
    """`data` with one fault each: every field of every kind of object misspelt, and given a value of another type.

    Objects whose keys are free (variant -> digest) have none.
    """
    seen = set()
    for path, keys in _objects(data):
        for key in keys:
            shape = (*(step for step in path if isinstance(step, str)), key)
            if shape in seen or _is_map(schema(name), data, path):
                continue
            seen.add(shape)
            for how in ("misspelt", "of another type"):
                other = copy.deepcopy(data)
                at: Any = other
                for step in path:
                    at = at[step]
                if how == "misspelt":
                    at[f"{key}_"] = at.pop(key)
                else:
                    at[key] = [{"not": "this"}, 5]
                yield f"{'.'.join(shape)} {how}", other


def _objects(data: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], list[str]]]:
    if isinstance(data, dict):
        yield path, list(data)
        for key, value in data.items():
            yield from _objects(value, (*path, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from _objects(value, (*path, index))


def _is_map(where: dict[str, Any], data: object, path: tuple[Any, ...]) -> bool:
    """Whether the object at `path` has free keys by the schema `where`."""
    root = where
    for step in path:
        where, root = _resolved(where, root)
        if isinstance(step, int):
            where = where["items"]
        else:
            where = where.get("properties", {}).get(step) or where["additionalProperties"]
    where, _ = _resolved(where, root)
    return "properties" not in where


def _resolved(where: dict[str, Any], root: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """`where` with a reference followed, and null left out of a choice."""
    while "$ref" in where or "anyOf" in where:
        if "anyOf" in where:
            (where,) = [each for each in where["anyOf"] if each.get("type") != "null"]
        elif where["$ref"].startswith("#"):
            where = root["$defs"][where["$ref"].rpartition("/")[2]]
        else:
            where = root = schema(where["$ref"].removesuffix(SUFFIX))
    return where, root

"""`cache`: where fetched inputs and objects are kept, how much space they take, and removing what is not used."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Annotated

from cyclopts import App, Parameter
from rich.table import Column, Table

from build_torchvision.cli.examples import EXAMPLES, listed
from build_torchvision.cli.options import OUT, Json
from build_torchvision.errors import BadInput
from build_torchvision.inputs.cache import cache_dir
from build_torchvision.inputs.cache_use import DAY, CacheEntry, cache_entries, prune

MIB = 2**20
cache = App(
    name="cache",
    help="Show and prune the cache of fetched inputs, objects and environments.",
    help_epilogue=listed(EXAMPLES["cache"]),
)


@cache.command
def path() -> None:
    """Print the cache's folder. BUILD_TORCHVISION_CACHE moves it."""
    print(cache_dir())


@cache.default
@cache.command
def size(*, as_json: Json = False) -> None:
    """Show how much space each kind of entry takes."""
    entries = cache_entries()
    if as_json:
        print(json.dumps([_row(entry) for entry in entries], indent=2))
        return
    kinds: dict[str, list[CacheEntry]] = defaultdict(list)
    for entry in entries:
        kinds[entry.kind].append(entry)
    table = Table("kind", Column("entries", justify="right"), Column("MiB", justify="right"), box=None, pad_edge=False)
    for kind, found in sorted(kinds.items(), key=lambda item: -sum(entry.size for entry in item[1])):
        table.add_row(kind, str(len(found)), f"{sum(entry.size for entry in found) / MIB:.0f}")
    table.add_row("all", str(len(entries)), f"{sum(entry.size for entry in entries) / MIB:.0f}")
    OUT.print(table)
    OUT.print(str(cache_dir()), highlight=False)


@cache.command(name="prune")
def prune_(*kinds: str, days: Annotated[float, Parameter(name="--days")] = 30.0, as_json: Json = False) -> None:
    """Remove entries that were not used for --days days; they are fetched or made again when they are needed.

    Parameters
    ----------
    kinds
        Only these, as `cache size` names them: builds, torch, cuda. Default: all.
    days
        0 removes everything that no running command is using.
    """
    if not days >= 0:  # not a number is neither
        raise BadInput(f"cache prune --days {days:g}", "it is a number of days, 0 or more.", "Try --days 30.")
    removed = prune(idle_days=days, kinds=kinds)
    if as_json:
        print(json.dumps([_row(entry) for entry in removed], indent=2))
        return
    for entry in removed:
        print(f"removed {entry.path.relative_to(cache_dir())} ({entry.size / MIB:.0f} MiB)")
    print(f"{len(removed)} entries, {sum(entry.size for entry in removed) / MIB:.0f} MiB")


def _row(entry: CacheEntry) -> dict[str, object]:
    """The documented shape of an entry."""
    return {"path": str(entry.path), "kind": entry.kind, "bytes": entry.size, "idle_days": round(entry.idle / DAY, 2)}

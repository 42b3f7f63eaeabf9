"""Executed inside an environment, not imported: pytest that stops when its time is over.

    python -I _time_boxed_tests.py SECONDS PYTEST-ARGUMENTS...

The tests take turns by class and function, so that whatever the time allows is a cross-section of all; those for
devices that are not there come last. No test is broken off: the one that runs when the time ends is the last.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import pytest


def in_turns(names: Iterable[str]) -> list[int]:
    """Places in `names` (pytest's node ids) in the order to run them: one case of each function, then the next."""
    groups: dict[str, list[int]] = defaultdict(list)
    later: list[int] = []
    for place, name in enumerate(names):
        function, _, parameters = name.partition("[")
        if "cuda" in parameters or "mps" in parameters:
            later.append(place)
        else:
            groups[function].append(place)
    longest = max(map(len, groups.values()), default=0)
    return [group[turn] for turn in range(longest) for group in groups.values() if turn < len(group)] + later


class TimeBox:
    """The plugin."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = [items[place] for place in in_turns(item.nodeid for item in items)]

    def pytest_runtest_teardown(self, item: Any) -> None:
        if time.monotonic() > self.end:
            item.session.shouldstop = "the time box is over"


if __name__ == "__main__":
    sys.exit(pytest.main(sys.argv[2:], plugins=[TimeBox(float(sys.argv[1]))]))

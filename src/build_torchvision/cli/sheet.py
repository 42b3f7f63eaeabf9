"""Print titled rows: wrapped at words on a terminal, one line each in a file or pipe. Commands are never broken."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from rich.console import Console
from rich.text import Text

from build_torchvision.reading import printable

LEAST_WIDTH = 40
"""Columns that a text gets at least, however narrow the terminal is."""


@dataclass(frozen=True)
class _Row:
    title: str
    text: str
    style: str
    title_style: str
    command: bool


@dataclass
class Sheet:
    """Rows of a title and a text, in blocks that an empty line parts."""

    blocks: list[list[_Row]] = field(default_factory=lambda: [[]])

    @classmethod
    def of(cls, rows: Iterable[tuple[str, str]]) -> Sheet:
        """A sheet of one block: a (title, text) a row."""
        made = cls()
        for title, text in rows:
            made.row(title, text)
        return made

    def row(self, title: str, text: str, *, style: str = "", title_style: str = "", command: bool = False) -> None:
        """Add a row. A `command` stays on one line, to be copied whole; what a terminal would act on is escaped."""
        self.blocks[-1].append(_Row(printable(title), printable(text), style, title_style, command))

    def gap(self) -> None:
        """Begin another block."""
        if self.blocks[-1]:
            self.blocks.append([])

    def lines(self, width: int | None) -> Iterator[Text]:
        """The sheet's lines for `width` columns; None for no wrapping."""
        indent = max((len(row.title) for block in self.blocks for row in block if row.text), default=0) + 2
        for number, block in enumerate(self.blocks):
            if number and block:
                yield Text("")
            for row in block:
                yield from _wrapped(row, indent, width)

    def print(self, console: Console) -> None:
        """Write it to `console`, as its terminal, or whatever is there instead, shows it best."""
        for line in self.lines(console.width if console.is_terminal else None):
            console.print(line, soft_wrap=True)


def _wrapped(row: _Row, indent: int, width: int | None) -> Iterator[Text]:
    head = Text().append(row.title, style=row.title_style)
    if not row.text:
        yield head
        return
    parts = [row.text]
    if width is not None and not row.command:
        room = max(width - indent, LEAST_WIDTH)
        parts = textwrap.wrap(row.text, room, break_long_words=False, break_on_hyphens=False)
    head.append(" " * (indent - len(row.title)))
    yield head.append(parts[0], style=row.style)
    for part in parts[1:]:
        yield Text(" " * indent).append(part, style=row.style)

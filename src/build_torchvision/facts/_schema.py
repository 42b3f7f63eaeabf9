"""Load and check the TOML tables of this package; every table is read through here.

A row with a missing, unknown or malformed field is a defect of the package and raises FactError when the table is first
read.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType
from typing import Any

PLATFORMS = ("x86_64", "aarch64")
PLATFORM = "|".join(PLATFORMS)
SM = r"sm\d{2,3}"
VERSION = r"\d+(\.\d+)*"
SHA256 = r"[0-9a-f]{64}"
_REQUIRED: Any = object()


class FactError(ValueError):
    """A table of this package contradicts itself or its own schema."""


def version_key(version: str) -> tuple[int, ...]:
    """A dotted number as integers, so that "10.0" sorts after "9.0" and "570.26" after "570"."""
    return tuple(int(part) for part in version.split("."))


class Row:
    """One table row, read field by field so that neither a missing nor a surplus field passes."""

    def __init__(self, where: str, values: object) -> None:
        if not isinstance(values, dict):
            raise FactError(f"{where}: must be a table, not {values!r}.")
        self.where, self.values = where, dict(values)

    def _take(self, field: str, kind: type, default: Any) -> Any:
        value = self.values.pop(field, default)
        if value is _REQUIRED:
            raise FactError(f"{self.where}: `{field}` is missing.")
        wrong = not isinstance(value, kind) or (kind is int and isinstance(value, bool))
        if value is not default and wrong:
            raise FactError(f"{self.where}: `{field}` must be {kind.__name__}, not {value!r}.")
        return value

    def text(self, field: str, pattern: str = r"(?s).+") -> str:
        """A string that `pattern` matches whole."""
        value = str(self._take(field, str, _REQUIRED))
        if not re.fullmatch(pattern, value):
            raise FactError(f"{self.where}: `{field}` = {value!r} does not look like {pattern}.")
        return value

    def optional(self, field: str, pattern: str = r"(?s).+") -> str | None:
        """A string that `pattern` matches whole, or None where the field is absent."""
        return self.text(field, pattern) if field in self.values else None

    def flag(self, field: str) -> bool:
        """A boolean; False where the field is absent."""
        return bool(self._take(field, bool, False))

    def words(self, field: str, pattern: str = r".+", *, empty: bool = False) -> tuple[str, ...]:
        """Distinct strings that `pattern` matches whole; at least one, unless `empty` allows none or no such field."""
        items = self._take(field, list, [] if empty else _REQUIRED)
        bad = [item for item in items if not isinstance(item, str) or not re.fullmatch(pattern, item)]
        if bad or not (items or empty) or len(set(items)) != len(items):
            raise FactError(f"{self.where}: `{field}` must be distinct strings like {pattern}, not {items!r}.")
        return tuple(items)

    def number(self, field: str, default: int | None = None) -> int:
        """A whole number above zero."""
        value = self._take(field, int, _REQUIRED if default is None else default)
        if value < 1:
            raise FactError(f"{self.where}: `{field}` = {value} must be at least 1.")
        return int(value)

    def mapping(
        self, field: str, pattern: str, values: str | None = None, *, required: bool = False
    ) -> Mapping[str, str]:
        """Strings to strings: keys like `pattern`, values like `values` (default: `pattern`); empty where absent."""
        items = self._take(field, dict, _REQUIRED if required else {})
        wrong = [key for key in items if not re.fullmatch(pattern, key)]
        wrong += [str(value) for value in items.values() if not re.fullmatch(values or pattern, str(value))]
        if wrong:
            raise FactError(f"{self.where}: `{field}` has {wrong!r}, which do not look like {pattern}.")
        return MappingProxyType(dict(items))

    def lists(self, field: str, pattern: str, values: str) -> Mapping[str, tuple[str, ...]]:
        """Keys like `pattern` to lists of strings like `values`; empty where the field is absent."""
        row = Row(f"{self.where} {field}", self._take(field, dict, {}))
        wrong = [key for key in row.values if not re.fullmatch(pattern, key)]
        if wrong:
            raise FactError(f"{row.where}: {wrong!r} do not look like {pattern}.")
        return MappingProxyType({key: row.words(key, values) for key in list(row.values)})

    def counts(self, field: str, keys: tuple[str, ...]) -> Mapping[str, int]:
        """Some of `keys` to whole numbers; empty where the field is absent."""
        items = self._take(field, dict, {})
        if not items.keys() <= set(keys) or not all(type(value) is int and value > 0 for value in items.values()):
            raise FactError(f"{self.where}: `{field}` must map {', '.join(keys)} to numbers, not {items!r}.")
        return MappingProxyType(dict(items))

    def rows(self, field: str) -> list[Row]:
        """An array of tables, each a row; at least one."""
        items = self._take(field, list, _REQUIRED)
        if not items:
            raise FactError(f"{self.where}: `{field}` must not be empty.")
        return [Row(f"{self.where} {field}[{index}]", item) for index, item in enumerate(items)]

    def table(self, field: str) -> Row:
        """The table of that name inside this one, as a row; an empty one where the field is absent."""
        return Row(f"{self.where} {field}", self._take(field, dict, {}))

    def tables(self, pattern: str) -> list[tuple[str, Row]]:
        """All fields that are left, each a table by itself under a key that `pattern` matches whole."""
        left, self.values = self.values, {}
        for key in left:
            if not re.fullmatch(pattern, key):
                raise FactError(f"{self.where}: {key!r} does not look like {pattern}.")
        return [(key, Row(f"{self.where} {key}", value)) for key, value in left.items()]

    def done(self) -> None:
        """Raise FactError for a field that nobody took."""
        if self.values:
            raise FactError(f"{self.where}: unknown field(s) {', '.join(self.values)}.")


def rows(table: str) -> list[tuple[str, Row]]:
    """(key, row) pairs of TABLE.toml, in their order."""
    text = resources.files("build_torchvision.facts").joinpath(f"{table}.toml").read_text(encoding="utf-8")
    return rows_of(table, text)


def rows_of(table: str, text: str) -> list[tuple[str, Row]]:
    """(key, row) pairs of `text`, which has the form of TABLE.toml, in their order."""
    return [(key, Row(f"{table}.toml [{key}]", values)) for key, values in tomllib.loads(text).items()]

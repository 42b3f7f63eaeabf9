"""Typed loader of runtime_libraries.toml: which package brings a library that torch needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from build_torchvision.facts._schema import rows


@dataclass(frozen=True, kw_only=True)
class RuntimeLibrary:
    """A library that torch takes from elsewhere: the wheel that brings it, and what else does."""

    package: str | None
    package_12: str | None
    system: str
    driver: bool

    def wheel(self, cuda: str | None) -> str | None:
        """The name of the wheel for a torch of CUDA `cuda` ("12.8"); None where there is none."""
        major = (cuda or "12").partition(".")[0]
        name = self.package_12 if major == "12" and self.package_12 else self.package
        return name.format(major=major) if name else None


@cache
def runtime_libraries() -> Mapping[str, RuntimeLibrary]:
    """All rows by the start of the library's file name ("libcudnn.so")."""
    found: dict[str, RuntimeLibrary] = {}
    for stem, row in rows("runtime_libraries"):
        found[stem] = RuntimeLibrary(
            package=row.optional("package", r"[a-z0-9{}-]+"),
            package_12=row.optional("package_12", r"[a-z0-9-]+"),
            system=row.text("system"),
            driver=row.flag("driver"),
        )
        row.text("source")
        row.done()
    return MappingProxyType(found)


def runtime_library(file_name: str) -> RuntimeLibrary | None:
    """The row of a library such as "libcudss.so.0"; None for one that no row describes."""
    return next((row for stem, row in runtime_libraries().items() if file_name.startswith(stem)), None)

"""Typed loader of toolchain.toml: the pinned packages that a build needs beside the compiler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Literal, cast

from build_torchvision.facts._schema import SHA256, FactError, rows

ARCHITECTURES = MappingProxyType({"x86_64": "amd64", "aarch64": "arm64"})  # platform -> Debian's architecture


@dataclass(frozen=True, kw_only=True)
class ToolchainPackage:
    """One pinned Debian package, and the files of it that a build reads.

    `runs_on` is "target" for headers and libraries of the wheel's platform, "host" for a program of the build machine.
    `keep` maps paths of the package to paths of the toolchain.
    """

    package: str
    version: str
    runs_on: Literal["host", "target"]
    pool: str
    keep: Mapping[str, str]
    sha256: Mapping[str, str]
    licence: str
    source: str

    def pool_path(self, platform: str) -> str:
        """Where a Debian mirror has the package for `platform` ("aarch64")."""
        return self.pool.format(architecture=ARCHITECTURES[platform])

    def digest(self, platform: str) -> str:
        """The SHA-256 of the package for `platform`."""
        return self.sha256[ARCHITECTURES[platform]]

    def kept(self, platform: str) -> Mapping[str, str]:
        """`keep` with the platform's names filled in."""
        return {old.format(triple=f"{platform}-linux-gnu"): new for old, new in self.keep.items()}


@cache
def toolchain_packages() -> Mapping[str, ToolchainPackage]:
    """All rows by name. Raises FactError for a malformed table."""
    found: dict[str, ToolchainPackage] = {}
    for name, row in rows("toolchain"):
        found[name] = ToolchainPackage(
            package=row.text("package"),
            version=row.text("version"),
            runs_on=cast(Literal["host", "target"], row.text("runs_on", "host|target")),
            pool=row.text("pool"),
            keep=row.mapping("keep", r".+"),
            sha256=row.mapping("sha256", "|".join(ARCHITECTURES.values()), SHA256),
            licence=row.text("licence"),
            source=row.text("source"),
        )
        row.done()
        if set(found[name].sha256) != set(ARCHITECTURES.values()):
            raise FactError(f"{row.where}: `sha256` must name {', '.join(ARCHITECTURES.values())}.")
    return MappingProxyType(found)

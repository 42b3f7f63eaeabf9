"""Typed loader of codecs.toml: the image libraries that are built from source."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from build_torchvision.facts import PLATFORMS, FactError, isas


@dataclass(frozen=True, kw_only=True)
class SourceSet:
    """Files to compile, relative to the library's folder, and the flags that they take.

    `defines` and `include` hold for the whole library once the set applies. `assembly` is for nasm.
    """

    sources: tuple[str, ...] = ()
    cold: tuple[str, ...] = ()
    defines: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    assembly: tuple[str, ...] = ()
    assembler_flags: tuple[str, ...] = ()
    assembler_include: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CodecLibrary:
    """One image library, or one that another uses, as pinned source."""

    name: str
    version: str
    codec: str | None
    """The codec of TorchVision that it serves ("jpeg"), None for one that only others use."""
    uses: tuple[str, ...]
    licence: str
    """An SPDX expression."""
    licence_files: tuple[str, ...]
    purl: str
    urls: tuple[str, ...]
    debian_pool: str | None
    """Where a Debian mirror keeps the archive."""
    sdist: str | None
    """A requirement of the package registry ("zlib-ng==1.1.0") whose source distribution holds the library."""
    sha256: str
    advisories: tuple[str, ...]
    folder: str
    prefixes: tuple[str, ...]
    """How its global names begin."""
    evidence: str
    """A text that the compiled library holds."""
    source: str
    common: SourceSet
    platforms: Mapping[str, SourceSet]
    isas: Mapping[str, SourceSet]
    headers: Mapping[str, str]
    templates: Mapping[str, str]
    substitute: Mapping[str, str]

    def sets(self, isa: str) -> tuple[SourceSet, ...]:
        """The source sets that apply to CPU ISA `isa`: all platforms', its platform's, its own and lower ISAs'."""
        chain, name = list[SourceSet](), str(isa)
        while name:
            if name in self.isas:
                chain.insert(0, self.isas[name])
            name = isas()[name].contains or ""
        return (self.common, self.platforms.get(isas()[isa].platform, SourceSet()), *chain)


_SET = {field.name for field in fields(SourceSet)}


@cache
def codec_libraries() -> Mapping[str, CodecLibrary]:
    """All libraries by name, each after those that it uses. Raises FactError for a malformed table."""
    text = resources.files("build_torchvision.facts").joinpath("codecs.toml").read_text(encoding="utf-8")
    return MappingProxyType(read_codec_libraries(text))


def read_codec_libraries(text: str) -> dict[str, CodecLibrary]:
    """`text` in the form of codecs.toml. Raises FactError for a missing, unknown or malformed field."""
    found: dict[str, CodecLibrary] = {}
    for name, row in tomllib.loads(text).items():
        found[name] = _library(name, dict(row), found)
    return found


def libraries_for(codecs: frozenset[str]) -> tuple[CodecLibrary, ...]:
    """The libraries that `codecs` ("jpeg", "png", "webp") need, each after those that it uses."""
    known = codec_libraries()
    wanted = {name for name, row in known.items() if row.codec in codecs}
    wanted |= {used for name in wanted for used in known[name].uses}
    return tuple(row for name, row in known.items() if name in wanted)


def reported_advisories(libraries: Iterable[CodecLibrary] | None = None) -> list[str]:
    """Each known vulnerability of a pinned library, as "libpng 1.6.58: ID: summary"; all libraries by default."""
    rows = codec_libraries().values() if libraries is None else libraries
    return [f"{row.name} {row.version}: {advisory}" for row in rows for advisory in row.advisories]


def _library(name: str, row: dict[str, Any], known: Mapping[str, CodecLibrary]) -> CodecLibrary:
    where = f"codecs.toml [{name}]"
    common = _source_set(where, {key: row.pop(key) for key in list(row) if key in _SET})
    platforms = {key: _source_set(f"{where} {key}", row.pop(key)) for key in PLATFORMS if key in row}
    per_isa = {key: _source_set(f"{where} isa.{key}", values) for key, values in row.pop("isa", {}).items()}

    def texts(key: str) -> Mapping[str, str]:
        return MappingProxyType(dict(row.pop(key, {})))

    def words(key: str) -> tuple[str, ...]:
        return _words(where, key, row.pop(key, []))

    try:
        library = CodecLibrary(
            name=name,
            version=row.pop("version"),
            codec=row.pop("codec", None),
            licence=row.pop("licence"),
            purl=row.pop("purl"),
            debian_pool=row.pop("debian_pool", None),
            sdist=row.pop("sdist", None),
            sha256=row.pop("sha256"),
            evidence=row.pop("evidence"),
            folder=row.pop("folder", "."),
            source=row.pop("source"),
            common=common,
            platforms=MappingProxyType(platforms),
            isas=MappingProxyType(per_isa),
            headers=texts("headers"),
            templates=texts("templates"),
            substitute=texts("substitute"),
            uses=words("uses"),
            licence_files=words("licence_files"),
            urls=words("urls"),
            advisories=words("advisories"),
            prefixes=words("prefixes"),
        )
    except KeyError as error:
        raise FactError(f"{where}: `{error.args[0]}` is missing.") from error
    if row:
        raise FactError(f"{where}: unknown field(s) {', '.join(row)}.")
    if not re.fullmatch(r"[0-9a-f]{64}", library.sha256):
        raise FactError(f"{where}: `sha256` = {library.sha256!r} is no SHA-256.")
    if not (library.urls or library.sdist):
        raise FactError(f"{where}: neither `urls` nor `sdist` says where the source is.")
    for used in library.uses:
        if used not in known:
            raise FactError(f"{where}: uses {used}, which no row above describes.")
    for isa in per_isa:
        if isa not in isas():
            raise FactError(f"{where}: isa.{isa} is no CPU ISA of isas.toml.")
    return library


def _source_set(where: str, values: Mapping[str, Any]) -> SourceSet:
    unknown = values.keys() - _SET
    if unknown:
        raise FactError(f"{where}: unknown field(s) {', '.join(sorted(unknown))}.")
    return SourceSet(**{key: _words(where, key, items) for key, items in values.items()})


def _words(where: str, key: str, items: Any) -> tuple[str, ...]:
    if not isinstance(items, list) or not all(isinstance(item, str) and item for item in items):
        raise FactError(f"{where}: `{key}` must be a list of strings, not {items!r}.")
    if len(set(items)) != len(items):
        raise FactError(f"{where}: `{key}` names something twice.")
    return tuple(items)

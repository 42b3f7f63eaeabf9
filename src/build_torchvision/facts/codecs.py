"""Typed loader of codecs.toml: the image libraries that are built from source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from types import MappingProxyType

from build_torchvision.facts._schema import PLATFORMS, SHA256, FactError, Row, rows, rows_of


@dataclass(frozen=True, kw_only=True)
class SourceSet:
    """Files to compile, and the flags that they take.

    Paths are relative to the library's folder; `own/NAME` is a file of this package's folder `codecs`, `generated/NAME`
    one of the library's templates. `together` are compiled as one file. `flags`, `defines` and `include` hold for the
    whole library once the set applies. `assembly` is for nasm.
    """

    sources: tuple[str, ...] = ()
    together: tuple[str, ...] = ()
    cold: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
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
    headers: Mapping[str, str]
    templates: Mapping[str, str]
    substitute: Mapping[str, str]

    def sets(self, platform: str) -> tuple[SourceSet, ...]:
        """The source sets of `platform`: what all platforms have, and its own."""
        return (self.common, self.platforms.get(platform, SourceSet()))


_SET = tuple(field.name for field in fields(SourceSet))
_TEXT = r"(?s).*"


@cache
def codec_libraries() -> Mapping[str, CodecLibrary]:
    """All libraries by name, each after those that it uses. Raises FactError for a malformed table."""
    return MappingProxyType(_libraries(rows("codecs")))


def read_codec_libraries(text: str) -> dict[str, CodecLibrary]:
    """`text` in the form of codecs.toml. Raises FactError for a missing, unknown or malformed field."""
    return _libraries(rows_of("codecs", text))


def _libraries(table: Iterable[tuple[str, Row]]) -> dict[str, CodecLibrary]:
    found: dict[str, CodecLibrary] = {}
    for name, row in table:
        found[name] = _library(name, row, found)
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


def _library(name: str, row: Row, known: Mapping[str, CodecLibrary]) -> CodecLibrary:
    common = _source_set(row)
    platforms = {key: _source_set(row.table(key), done=True) for key in PLATFORMS if key in row.values}
    library = CodecLibrary(
        name=name,
        version=row.text("version"),
        codec=row.optional("codec"),
        licence=row.text("licence"),
        purl=row.text("purl"),
        debian_pool=row.optional("debian_pool"),
        sdist=row.optional("sdist"),
        sha256=row.text("sha256", SHA256),
        evidence=row.text("evidence"),
        folder=row.optional("folder") or ".",
        source=row.text("source"),
        common=common,
        platforms=MappingProxyType(platforms),
        headers=row.mapping("headers", r".+", _TEXT),
        templates=row.mapping("templates", r".+"),
        substitute=row.mapping("substitute", r".+", _TEXT),
        uses=row.words("uses", empty=True),
        licence_files=row.words("licence_files", empty=True),
        urls=row.words("urls", empty=True),
        advisories=row.words("advisories", empty=True),
        prefixes=row.words("prefixes", empty=True),
    )
    row.done()
    if not (library.urls or library.sdist):
        raise FactError(f"{row.where}: neither `urls` nor `sdist` says where the source is.")
    for used in library.uses:
        if used not in known:
            raise FactError(f"{row.where}: uses {used}, which no row above describes.")
    return library


def _source_set(row: Row, *, done: bool = False) -> SourceSet:
    """The source set whose fields stand in `row`; `done`: it has no other fields."""
    found = SourceSet(**{key: row.words(key, empty=True) for key in _SET if key in row.values})
    if done:
        row.done()
    return found

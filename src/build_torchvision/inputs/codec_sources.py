"""Fetch and unpack the pinned source of the image libraries, with the headers that their configure step would write."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from build_torchvision.errors import BadInput
from build_torchvision.facts.codecs import CodecLibrary, libraries_for
from build_torchvision.inputs.cache import cache_dir, inventory_fault, publish, sha256_of, write_inventory
from build_torchvision.inputs.origins import from_mirror, from_registry, from_url, pinned_file
from build_torchvision.inputs.source import unpack


@dataclass(frozen=True, kw_only=True)
class CodecSource:
    """A library's unpacked source. Paths of `library` are relative to `root`; `generated` holds the written headers."""

    library: CodecLibrary
    root: Path
    generated: Path

    @property
    def include_dirs(self) -> tuple[Path, ...]:
        """Where whoever uses the library finds its headers."""
        return (self.generated, *(self.root / folder for folder in self.library.common.include))

    @property
    def licences(self) -> tuple[Path, ...]:
        return tuple(self.root / name for name in self.library.licence_files)


def fetch_codec_sources(codecs: frozenset[str]) -> tuple[CodecSource, ...]:
    """The source of every library that `codecs` ("jpeg", "png", "webp") need, from the cache or the first origin.

    Each comes after those that it uses. Raises FetchFailed where an archive is not to be had, BadInput for one that
    does not hold what the table says.
    """
    return tuple(_fetch(library) for library in libraries_for(codecs))


def _fetch(library: CodecLibrary) -> CodecSource:
    name = f"{library.name}-{library.version}"
    origins = [("the project's own host", from_url(url)) for url in library.urls]
    if library.debian_pool:
        origins.append(("the apt mirror", from_mirror(library.debian_pool, library.sha256)))
    if library.sdist:
        origins.append(("the package registry", from_registry(library.sdist)))
    archive = pinned_file(
        cache_dir() / "codecs" / f"{name}.tar.gz",
        library.sha256,
        origins,
        action=f"Fetch the source of {library.name} {library.version}",
        hint="Let this machine reach one of these, or take the distribution's libraries with --codecs system.",
    )
    written = repr((library.sha256, library.headers, library.templates, library.substitute, library.folder))
    entry = cache_dir() / "codecs" / f"{name}-{hashlib.sha256(written.encode()).hexdigest()[:16]}"

    def fill(part: Path) -> None:
        tree = part / "tree"
        tree.mkdir(parents=True)
        unpack(archive, tree / "source")
        write_headers(library, tree / "source" / library.folder, tree / "generated")
        write_inventory(part, {"version": library.version}, sha256_of)

    publish(entry, fill, lambda kept: inventory_fault(kept, sha256_of))
    tree = entry / "tree"
    return CodecSource(library=library, root=tree / "source" / library.folder, generated=tree / "generated")


def write_headers(library: CodecLibrary, root: Path, folder: Path) -> None:
    """Write into `folder` the headers that the library's configure step would write.

    Raises BadInput where a template is missing, holds a placeholder that the table does not replace, or none of them
    holds a text that it replaces.
    """
    action = f"Write the headers of {library.name} {library.version}"
    folder.mkdir(parents=True)
    unseen = set(library.substitute)
    for name, text in library.headers.items():
        (folder / name).write_text(text, encoding="utf-8")
    for name, template in library.templates.items():
        try:
            text = (root / template).read_text(encoding="utf-8")
        except OSError as error:
            raise BadInput(action, f"Its source has no {template}.", "Correct facts/codecs.toml.") from error
        unseen -= {placeholder for placeholder in unseen if placeholder in text}
        for placeholder, value in library.substitute.items():
            text = text.replace(placeholder, value)
        left = [line for line in text.splitlines() if line.startswith("#cmakedefine")]
        if left:
            raise BadInput(action, f"Nothing replaces {left[0]!r} of {template}.", "Correct facts/codecs.toml.")
        (folder / name).write_text(text, encoding="utf-8")
    if unseen:
        raise BadInput(action, f"No template holds {sorted(unseen)[0]!r}.", "Correct facts/codecs.toml.")

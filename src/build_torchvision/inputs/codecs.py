"""The image libraries that TorchVision's decoders link: found with pkg-config, each missing one named.

For another platform they are that platform's packages of this distribution, unpacked in the cache: a sysroot.
"""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from build_torchvision.errors import BadInput, MissingInput
from build_torchvision.facts.codecs import reported_advisories
from build_torchvision.inputs.apt import indextargets, os_release, own_archives, unpack_packages
from build_torchvision.inputs.cache import cache_dir, inventory_fault, publish, sha256_of, write_inventory
from build_torchvision.inputs.codec_sources import CodecSource, fetch_codec_sources
from build_torchvision.process import run

log = logging.getLogger(__name__)
CodecName = Literal["jpeg", "png", "webp"]
# codec: (pkg-config's name, apt's package)
KNOWN: dict[CodecName, tuple[str, str]] = {
    "jpeg": ("libjpeg", "libjpeg-dev"),
    "png": ("libpng", "libpng-dev"),
    "webp": ("libwebp", "libwebp-dev"),
}
# What a cross compiler brings itself.
PRESENT = ("libc6", "libc6-dev", "libc-dev", "libgcc-s1")


@dataclass(frozen=True, kw_only=True)
class Sysroot:
    """Another platform's packages, unpacked in `root`."""

    root: Path
    platform: str

    @property
    def lib_dirs(self) -> tuple[Path, ...]:
        """Where the loader of that platform looks, of the folders that are there."""
        places = (f"usr/lib/{self.platform}-linux-gnu", f"lib/{self.platform}-linux-gnu", "usr/lib", "lib")
        return tuple(self.root / place for place in places if (self.root / place).is_dir())

    @property
    def include_dirs(self) -> tuple[Path, ...]:
        return (self.root / "usr/include", self.root / f"usr/include/{self.platform}-linux-gnu")


@dataclass(frozen=True, kw_only=True)
class Codec:
    """One image library: what pkg-config says of it."""

    name: str
    version: str
    cflags: tuple[str, ...]
    libs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Codecs:
    """The codecs of a build, by name ("jpeg", "png", "webp"); those the user left out are absent.

    `sources` are the libraries to compile and link statically, each after those that it uses; empty where the system's
    are used.
    """

    found: dict[str, Codec]
    sysroot: Sysroot | None = None
    sources: tuple[CodecSource, ...] = ()

    @property
    def versions(self) -> dict[str, str]:
        """Library -> version of what is compiled in, codec -> version of the system's."""
        if self.sources:
            return {source.library.name: source.library.version for source in self.sources}
        return {codec.name: codec.version for codec in self.found.values()}


def sysroot(platform: str) -> Sysroot:
    """The packages of `platform` that hold the codecs, of this system's own release, fetched once.

    Nothing is installed on this machine. Raises FetchFailed where apt's archives do not serve them.
    """
    system = os_release()
    entry = cache_dir() / "sysroot" / f"{system.get('ID')}-{system.get('VERSION_CODENAME')}-{platform}"
    action = f"Fetch the image codecs' packages for {platform}"

    def fill(part: Path) -> None:
        archives = own_archives(indextargets(action, platform), system)
        packages = [package for _, package in KNOWN.values()]
        debs = unpack_packages(
            packages, part / "tree", archives=archives, platform=platform, action=action, present=PRESENT
        )
        facts: dict[str, str | None] = {f"{deb.name}": deb.version for deb in debs}
        write_inventory(part, facts | {"archives": ", ".join(map(str, archives))}, sha256_of)

    publish(entry, fill, lambda found: inventory_fault(found, sha256_of))
    return Sysroot(root=entry / "tree", platform=platform)


def pinned_codecs(without: frozenset[str] = frozenset()) -> Codecs:
    """Every codec but those in `without`, as pinned source. Raises BadInput for an unknown name, FetchFailed."""
    _check_names(without)
    sources = fetch_codec_sources(frozenset(KNOWN) - without)
    for advisory in reported_advisories(source.library for source in sources):
        log.warning("a pinned image library has a known vulnerability: %s", advisory)
    by_name = {source.library.name: source for source in sources}
    found: dict[str, Codec] = {}
    for source in sources:
        if source.library.codec:
            reached = [source, *(by_name[name] for name in source.library.uses)]
            cflags = tuple(f"-I{folder}" for library in reached for folder in library.include_dirs)
            found[source.library.codec] = Codec(
                name=source.library.codec, version=source.library.version, cflags=cflags, libs=()
            )
    return Codecs(found=found, sources=sources)


def find_codecs(without: frozenset[str] = frozenset(), sysroot: Sysroot | None = None) -> Codecs:
    """Find every codec but those in `without`, on this machine or in `sysroot`.

    Raises BadInput for an unknown name in `without`, MissingInput naming each missing library's package.
    """
    _check_names(without)
    found: dict[str, Codec] = {}
    missing: list[CodecName] = []
    for name, (library, _) in KNOWN.items():
        if name in without:
            continue
        codec = _find(name, library, sysroot)
        if codec is None:
            missing.append(name)
        else:
            found[name] = codec
    if missing:
        packages = " ".join(KNOWN[name][1] for name in missing)
        options = " ".join(f"--without {name}" for name in missing)
        raise MissingInput(
            "Find the image codecs",
            f"pkg-config does not know {', '.join(KNOWN[name][0] for name in missing)}.",
            f"Run `sudo apt-get install {packages}`, or build without: {options}.",
        )
    return Codecs(found=found, sysroot=sysroot)


def _check_names(without: frozenset[str]) -> None:
    unknown = sorted(without - KNOWN.keys())
    if unknown:
        raise BadInput(f"Build without {', '.join(unknown)}", "No such codec.", f"Choose from {', '.join(KNOWN)}.")


def _find(name: str, library: str, sysroot: Sysroot | None) -> Codec | None:
    action = f"Find {library} with pkg-config"
    env = _pkg_config_environment(sysroot) if sysroot else None
    try:
        version = run(["pkg-config", "--modversion", library], action=action, env=env, check=False)
    except MissingInput as error:
        raise MissingInput(
            action, "pkg-config is not on this machine.", "Run `sudo apt-get install pkg-config`."
        ) from error
    if version.returncode != 0:
        return None
    cflags = shlex.split(run(["pkg-config", "--cflags", library], action=action, env=env).stdout)
    libs = shlex.split(run(["pkg-config", "--libs", library], action=action, env=env).stdout)
    if sysroot:
        # -rpath-link: where the linker looks for what the codecs themselves need.
        places = [flag for path in sysroot.lib_dirs for flag in (f"-L{path}", f"-Wl,-rpath-link,{path}")]
        cflags, libs = [*cflags, *(f"-I{path}" for path in sysroot.include_dirs)], [*places, *libs]
    return Codec(name=name, version=version.stdout.strip(), cflags=tuple(cflags), libs=tuple(libs))


def _pkg_config_environment(sysroot: Sysroot) -> Mapping[str, str]:
    """pkg-config's own words for a foreign root: its files alone, and their paths below it."""
    folders = [*(path / "pkgconfig" for path in sysroot.lib_dirs), sysroot.root / "usr/share/pkgconfig"]
    env = {key: value for key, value in os.environ.items() if not key.startswith("PKG_CONFIG")}
    return env | {
        "PKG_CONFIG_LIBDIR": os.pathsep.join(map(str, folders)),
        "PKG_CONFIG_SYSROOT_DIR": str(sysroot.root),
    }

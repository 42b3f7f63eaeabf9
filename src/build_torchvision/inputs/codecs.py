"""The image libraries that TorchVision's decoders link: found with pkg-config, each missing one named."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from build_torchvision.errors import BadInput, MissingInput
from build_torchvision.process import run

# codec: (pkg-config's name, apt's package)
KNOWN = {
    "jpeg": ("libjpeg", "libjpeg-dev"),
    "png": ("libpng", "libpng-dev"),
    "webp": ("libwebp", "libwebp-dev"),
}


@dataclass(frozen=True, kw_only=True)
class Codec:
    """One image library: what pkg-config says of it."""

    name: str
    version: str
    cflags: tuple[str, ...]
    libs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Codecs:
    """The codecs of a build, by name ("jpeg", "png", "webp"); those the user left out are absent."""

    found: dict[str, Codec]


def find_codecs(without: frozenset[str] = frozenset()) -> Codecs:
    """Find every codec but those in `without`.

    Raises BadInput for an unknown name in `without`, MissingInput naming each missing library's package.
    """
    unknown = sorted(without - KNOWN.keys())
    if unknown:
        raise BadInput(f"Build without {', '.join(unknown)}", "No such codec.", f"Choose from {', '.join(KNOWN)}.")
    found: dict[str, Codec] = {}
    missing: list[str] = []
    for name, (library, _) in KNOWN.items():
        if name in without:
            continue
        codec = _find(name, library)
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
    return Codecs(found=found)


def _find(name: str, library: str) -> Codec | None:
    asked = f"Find {library} with pkg-config"
    try:
        version = run(["pkg-config", "--modversion", library], asked=asked, check=False)
    except MissingInput as error:
        raise MissingInput(
            asked, "pkg-config is not on this machine.", "Run `sudo apt-get install pkg-config`."
        ) from error
    if version.returncode != 0:
        return None
    cflags = run(["pkg-config", "--cflags", library], asked=asked).stdout
    libs = run(["pkg-config", "--libs", library], asked=asked).stdout
    return Codec(
        name=name,
        version=version.stdout.strip(),
        cflags=tuple(shlex.split(cflags)),
        libs=tuple(shlex.split(libs)),
    )

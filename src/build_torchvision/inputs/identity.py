"""Digests of what a build reads, by content: two builds share objects if, and only if, these are the same."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from build_torchvision.inputs.codecs import Codecs
from build_torchvision.inputs.compiler import Compiler
from build_torchvision.inputs.upstream import CODEC_HEADERS
from build_torchvision.process import run


def tree_digest(roots: Iterable[Path]) -> str:
    """The SHA-256 of all files below `roots` (a file stands for itself): names below their root, and contents.

    torch's 9529 headers (40 MB) take 0.4 seconds. Raises OSError for what cannot be read.
    """
    digest = hashlib.sha256()
    for root in roots:
        for path in sorted(_files(root)):
            data = path.read_bytes()
            name = str(path.relative_to(root))
            digest.update(f"{len(name)} {name} {len(data)} ".encode() + data)
    return digest.hexdigest()


def _files(root: Path) -> Iterable[Path]:
    if root.is_file():
        yield root
    for folder, _, names in os.walk(root):
        yield from (path for name in names if (path := Path(folder, name)).is_file())


def codec_digest(compiler: Compiler, codecs: Codecs) -> str:
    """The SHA-256 of what the codecs' headers say to `compiler`, with all that they include of the system's own."""
    flags = [flag for codec in codecs.found.values() for flag in codec.cflags]
    text = "#include <stdio.h>\n" + "".join(f"#include <{CODEC_HEADERS[name]}>\n" for name in codecs.found)
    with tempfile.TemporaryDirectory(prefix="codec-headers-") as folder:
        source = Path(folder, "headers.cpp")
        source.write_text(text, encoding="utf-8")
        done = run(
            [*compiler.command, *flags, "-E", "-P", source],
            action="Read the headers of the image codecs",
            hint="Install the codecs' development packages, or leave codecs out with --without.",
        )
    return hashlib.sha256(done.stdout.encode()).hexdigest()

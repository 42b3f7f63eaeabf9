"""Read a wheel that TorchVision's own project published, for an index to list beside the variants.

An installer that knows no variants, or a machine for which there is none, then has one to take. Nothing is claimed of
it but its digest: it is no variant, and is not audited.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path

from build_torchvision.errors import BadInput
from build_torchvision.inputs.cache import sha256_of
from build_torchvision.verify.package import FileName, parse_file_name

MOST_METADATA = 1 << 20  # bytes


@dataclass(frozen=True, kw_only=True)
class StockWheel:
    """A wheel as its publisher made it. `size` is in bytes, `sha256` hexadecimal."""

    path: Path
    file_name: FileName
    size: int
    sha256: str
    metadata: bytes
    requires_python: str

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def version(self) -> str:
        return self.file_name.version


def read_stock(path: Path) -> StockWheel:
    """Raises BadInput for what is no wheel of torchvision, or is a variant, which enters by its report alone."""
    action, hint = f"List {path} as a stock wheel", "Name a wheel that TorchVision's project published."
    name = parse_file_name(path.name)
    if name.name != "torchvision":
        raise BadInput(action, f"It is a wheel of {name.name}.", hint)
    if name.label is not None or name.claim() is not None:
        raise BadInput(action, "Its file name is that of a variant.", "Name it without --stock: it is verified then.")
    try:
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo(f"{name.name}-{name.version}.dist-info/METADATA")
            if member.file_size > MOST_METADATA:
                raise BadInput(action, f"Its METADATA has more than {MOST_METADATA} bytes.", hint)
            metadata = archive.read(member)
        size, digest = path.stat().st_size, sha256_of(path)
    except (OSError, zipfile.BadZipFile, zlib.error, KeyError, RuntimeError, ValueError, EOFError) as error:
        raise BadInput(action, f"It is not a whole wheel ({error}).", "Fetch it again.") from error
    headers = Parser().parsestr(metadata.decode(errors="replace"), headersonly=True)
    return StockWheel(
        path=path,
        file_name=name,
        size=size,
        sha256=digest,
        metadata=metadata,
        requires_python=str(headers.get("Requires-Python") or ""),
    )

"""Typed loader of toolkits.toml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from build_torchvision.facts._gpus import gpus
from build_torchvision.facts._schema import SM, VERSION, FactError, rows, version_key


@dataclass(frozen=True, kw_only=True)
class Toolkit:
    """A CUDA toolkit, which is one track of the matrix."""

    track: str
    version: str
    native: tuple[str, ...]
    """SMs that nvcc and ptxas of this toolkit make cubins for, by that very name."""
    ptx: Mapping[str, str]
    """SM without any cubin -> SM whose PTX the driver compiles for it when the library is loaded."""
    ptx_isa: str
    """The newest version of PTX that ptxas of this toolkit reads ("9.0")."""
    newest_gcc: int
    """Major version of the newest gcc that nvcc takes as its host compiler."""
    torch_local: str
    driver: str
    """Oldest Linux driver for cubins of this toolkit (minor-version compatibility)."""
    ptx_driver: str
    """Oldest Linux driver that compiles this toolkit's PTX."""
    source: str


@cache
def toolkits() -> Mapping[str, Toolkit]:
    """All CUDA toolkits by track ("cuda12_8"), oldest first."""
    found: dict[str, Toolkit] = {}
    for track, row in rows("toolkits"):
        toolkit = Toolkit(
            track=track,
            version=row.text("version", r"\d+\.\d+"),
            native=row.words("native", SM),
            ptx=row.mapping("ptx", SM),
            ptx_isa=row.text("ptx_isa", r"\d\.\d"),
            newest_gcc=row.number("newest_gcc"),
            torch_local=row.text("torch_local", r"cu\d{3,4}"),
            driver=row.text("driver", VERSION),
            ptx_driver=row.text("ptx_driver", VERSION),
            source=row.text("source"),
        )
        row.done()
        if track != "cuda" + toolkit.version.replace(".", "_"):
            raise FactError(f"{row.where}: version {toolkit.version} belongs to another track.")
        if toolkit.torch_local != "cu" + toolkit.version.replace(".", ""):
            raise FactError(f"{row.where}: torch_local {toolkit.torch_local} belongs to another version.")
        unknown = {*toolkit.native, *toolkit.ptx, *toolkit.ptx.values()} - gpus().keys()
        if unknown:
            raise FactError(f"{row.where}: no row in gpus.toml for {', '.join(sorted(unknown))}.")
        for sm, base in toolkit.ptx.items():
            if sm in toolkit.native or base not in toolkit.native:
                raise FactError(f"{row.where}: PTX of {base} for {sm} needs a native {base} and no native {sm}.")
            if version_key(gpus()[base].capability) > version_key(gpus()[sm].capability):
                raise FactError(f"{row.where}: PTX of {base} does not run on the older {sm}.")
        found[track] = toolkit
    return MappingProxyType(dict(sorted(found.items(), key=lambda item: version_key(item[1].version))))

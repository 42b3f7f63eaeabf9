"""Typed loader of gpus.toml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from build_torchvision.facts._isas import isas
from build_torchvision.facts._schema import PLATFORM, VERSION, FactError, rows, version_key


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU architecture: `sm` as in names ("sm120"), `capability` as in TORCH_CUDA_ARCH_LIST ("12.0")."""

    sm: str
    capability: str
    architecture: str
    products: tuple[str, ...]
    names: tuple[str, ...]
    """What the driver's own name of a product holds, as whole words; the longest such name decides. May be empty."""
    hosts: tuple[str, ...]
    """Platforms of the computers that ship with this GPU."""
    soc_isa: str | None
    """Where GPU and CPU are one system: the highest CPU ISA of that system."""
    driver: str | None
    """Oldest Linux driver that knows this GPU, where it is newer than the toolkits' own floor."""
    clang: int
    """The first major version of clang that compiles for it."""
    tegra: str | None
    """Where the GPU is part of a Tegra system: that system's name in the device tree."""
    core: bool
    """One of the nine SMs of the default matrix."""
    note: str
    source: str


@cache
def gpus() -> Mapping[str, Gpu]:
    """All GPU architectures by SM ("sm120"), by rising capability."""
    found: dict[str, Gpu] = {}
    for sm, row in rows("gpus"):
        gpu = Gpu(
            sm=sm,
            capability=row.text("capability", r"\d+\.\d"),
            architecture=row.text("architecture"),
            products=row.words("products"),
            names=row.words("names", empty=True),
            hosts=row.words("hosts", PLATFORM),
            soc_isa=row.optional("soc_isa"),
            driver=row.optional("driver", VERSION),
            clang=int(row.text("clang", r"\d+")),
            tegra=row.optional("tegra", r"tegra\d+"),
            core=row.flag("core"),
            note=row.optional("note") or "",
            source=row.text("source"),
        )
        row.done()
        if sm != "sm" + gpu.capability.replace(".", ""):
            raise FactError(f"{row.where}: capability {gpu.capability} belongs to another SM.")
        if gpu.soc_isa is not None and (gpu.soc_isa not in isas() or gpu.hosts != (isas()[gpu.soc_isa].platform,)):
            raise FactError(f"{row.where}: soc_isa {gpu.soc_isa} is unknown or not of the platform in `hosts`.")
        found[sm] = gpu
    return MappingProxyType(dict(sorted(found.items(), key=lambda item: version_key(item[1].capability))))

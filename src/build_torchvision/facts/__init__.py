"""What is true of the world: GPUs, CPU ISAs, CUDA toolkits and TorchVision releases, read from the TOML tables beside.

Every row names its `source`. A row with a missing, unknown or malformed field is a defect of this package and raises
FactError when its table is first read.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import takewhile
from types import MappingProxyType
from typing import Any

from build_torchvision.errors import BadInput

__all__ = [
    "FactError",
    "Gpu",
    "Isa",
    "Release",
    "Toolkit",
    "gpus",
    "isas",
    "release",
    "releases",
    "toolkits",
    "version_key",
]

PLATFORMS = ("x86_64", "aarch64")
OLDEST_CLANG = 16  # the first that knows every -march of the matrix; what it compiles for needs no row


class FactError(ValueError):
    """A table of this package contradicts itself or its own schema."""


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU architecture: `sm` as in names ("sm120"), `capability` as in TORCH_CUDA_ARCH_LIST ("12.0")."""

    sm: str
    capability: str
    architecture: str
    products: tuple[str, ...]
    names: tuple[str, ...]
    """What the driver's own name of a product holds, as whole words; the longest such name decides."""
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


@dataclass(frozen=True, kw_only=True)
class Isa:
    """A CPU instruction set: the compiler's flags for it, and what a CPU must have to run the result."""

    name: str
    platform: str
    flags: tuple[str, ...]
    contains: str | None
    """The next lower ISA: whatever is built for it runs here too."""
    features: tuple[str, ...]
    """All features a CPU needs (those of `contains` included), as archspec spells them."""
    properties: tuple[str, ...]
    """What variant-aware installers call it: variantlib's `namespace :: feature :: value`."""
    first_cpus: str
    note: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Toolkit:
    """A CUDA toolkit, which is one track of the matrix."""

    track: str
    version: str
    native: tuple[str, ...]
    """SMs that nvcc and ptxas of this toolkit make cubins for, by that very name."""
    ptx: Mapping[str, str]
    """SM without any cubin -> SM whose PTX the driver compiles for it when the library is loaded."""
    newest_gcc: int
    """Major version of the newest gcc that nvcc takes as its host compiler."""
    torch_local: str
    driver: str
    """Oldest Linux driver for cubins of this toolkit (minor-version compatibility)."""
    ptx_driver: str
    """Oldest Linux driver that compiles this toolkit's PTX."""
    source: str

    @property
    def driver_floor(self) -> str:
        """The oldest Linux driver for cubins of this toolkit."""
        return self.driver


@dataclass(frozen=True, kw_only=True)
class Release:
    """A TorchVision release and the torch it belongs to."""

    torchvision: str
    torch: str
    torch_requirement: str
    """The published wheel's own requirement on torch, such as "==2.6.0"."""
    cuda: str
    """CUDA version of the published wheel and of its torch, for x86-64."""
    cuda_aarch64: str | None
    """CUDA version of the torch published for aarch64; None for a CPU-only one."""
    sha256: str | None
    """Of the tag archive; None where none has been recorded."""
    pythons: tuple[str, ...]
    debian_source: str | None
    """Debian source package whose .orig tarball has the same bytes."""
    stable_abi: bool
    """One build serves every torch that `torch_requirement` allows."""
    source: str

    def torch_cuda(self, platform: str) -> str | None:
        """The CUDA version of the torch that is published for `platform`."""
        return self.cuda if platform == "x86_64" else self.cuda_aarch64


class _Row:
    """One table row, taken apart field by field so that neither a missing nor a surplus one passes."""

    def __init__(self, table: str, key: str, values: dict[str, Any]) -> None:
        self.where, self.values = f"{table}.toml [{key}]", dict(values)

    def _take(self, field: str, kind: type, default: Any) -> Any:
        value = self.values.pop(field, default)
        if value is _REQUIRED:
            raise FactError(f"{self.where}: `{field}` is missing.")
        if value is not default and not isinstance(value, kind):
            raise FactError(f"{self.where}: `{field}` must be {kind.__name__}, not {value!r}.")
        return value

    def text(self, field: str, pattern: str = r"(?s).+") -> str:
        value = str(self._take(field, str, _REQUIRED))
        if not re.fullmatch(pattern, value):
            raise FactError(f"{self.where}: `{field}` = {value!r} does not look like {pattern}.")
        return value

    def optional(self, field: str, pattern: str = r"(?s).+") -> str | None:
        return self.text(field, pattern) if field in self.values else None

    def flag(self, field: str) -> bool:
        return bool(self._take(field, bool, False))

    def words(self, field: str, pattern: str = r".+") -> tuple[str, ...]:
        items = self._take(field, list, _REQUIRED)
        bad = [item for item in items if not isinstance(item, str) or not re.fullmatch(pattern, item)]
        if bad or not items or len(set(items)) != len(items):
            raise FactError(f"{self.where}: `{field}` must be distinct strings like {pattern}, not {items!r}.")
        return tuple(items)

    def number(self, field: str, default: int | None = None) -> int:
        value = self._take(field, int, _REQUIRED if default is None else default)
        if value < 1:
            raise FactError(f"{self.where}: `{field}` = {value} is no version.")
        return int(value)

    def mapping(self, field: str, pattern: str) -> Mapping[str, str]:
        items = self._take(field, dict, _EMPTY)
        bad = [item for pair in items.items() for item in pair if not re.fullmatch(pattern, str(item))]
        if bad:
            raise FactError(f"{self.where}: `{field}` has {bad!r}, which do not look like {pattern}.")
        return MappingProxyType(dict(items))

    def done(self) -> None:
        if self.values:
            raise FactError(f"{self.where}: unknown field(s) {', '.join(self.values)}.")


_REQUIRED: Any = object()
_EMPTY: dict[str, str] = {}
_SM = r"sm\d{2,3}"
_VERSION = r"\d+(\.\d+)*"


def version_key(version: str) -> tuple[int, ...]:
    """A dotted number as integers, so that "10.0" sorts after "9.0" and "570.26" after "570"."""
    return tuple(int(part) for part in version.split("."))


def _rows(table: str) -> list[tuple[str, _Row]]:
    text = resources.files(__name__).joinpath(f"{table}.toml").read_text(encoding="utf-8")
    return [(key, _Row(table, key, values)) for key, values in tomllib.loads(text).items()]


@cache
def gpus() -> Mapping[str, Gpu]:
    """All GPU architectures by SM ("sm120"), by rising capability."""
    found: dict[str, Gpu] = {}
    for sm, row in _rows("gpus"):
        gpu = Gpu(
            sm=sm,
            capability=row.text("capability", r"\d+\.\d"),
            architecture=row.text("architecture"),
            products=row.words("products"),
            names=row.words("names"),
            hosts=row.words("hosts", "|".join(PLATFORMS)),
            soc_isa=row.optional("soc_isa"),
            driver=row.optional("driver", _VERSION),
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


@cache
def isas() -> Mapping[str, Isa]:
    """All CPU ISAs by name, each after the one it contains."""
    found: dict[str, Isa] = {}
    for name, row in _rows("isas"):
        contains = row.optional("contains")
        lower = found.get(contains) if contains else None
        if contains and lower is None:
            raise FactError(f"{row.where}: contains {contains}, which no row above describes.")
        isa = Isa(
            name=name,
            platform=row.text("platform", "|".join(PLATFORMS)),
            flags=row.words("flags", r"-m\S+"),
            contains=contains,
            features=(lower.features if lower else ()) + row.words("adds", r"[a-z0-9_]+"),
            properties=row.words("properties", r"\w+ :: \w+ :: [\w.]+"),
            first_cpus=row.text("first_cpus"),
            note=row.optional("note") or "",
            source=row.text("source"),
        )
        row.done()
        if lower and lower.platform != isa.platform:
            raise FactError(f"{row.where}: contains {contains}, which is of another platform.")
        found[name] = isa
    return MappingProxyType(found)


@cache
def toolkits() -> Mapping[str, Toolkit]:
    """All CUDA toolkits by track ("cuda12_8"), oldest first."""
    found: dict[str, Toolkit] = {}
    for track, row in _rows("toolkits"):
        toolkit = Toolkit(
            track=track,
            version=row.text("version", r"\d+\.\d"),
            native=row.words("native", _SM),
            ptx=row.mapping("ptx", _SM),
            newest_gcc=row.number("newest_gcc"),
            torch_local=row.text("torch_local", r"cu\d{3}"),
            driver=row.text("driver", _VERSION),
            ptx_driver=row.text("ptx_driver", _VERSION),
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


@cache
def releases() -> Mapping[str, Release]:
    """All TorchVision releases by version, oldest first."""
    found: dict[str, Release] = {}
    for version, row in _rows("releases"):
        known = Release(
            torchvision=version,
            torch=row.text("torch", r"\d+\.\d+\.\d+"),
            torch_requirement=row.text("torch_requirement", r"(==|>=)\d+\.\d+\.\d+"),
            cuda=row.text("cuda", r"\d+\.\d"),
            cuda_aarch64=row.optional("cuda_aarch64", r"\d+\.\d"),
            sha256=row.optional("sha256", r"[0-9a-f]{64}"),
            pythons=row.words("pythons", r"3\d{1,2}"),
            debian_source=row.optional("debian_source"),
            stable_abi=row.flag("stable_abi"),
            source=row.text("source"),
        )
        row.done()
        if known.torch_requirement[2:] != known.torch:
            raise FactError(f"{row.where}: torch {known.torch} is not the one that {known.torch_requirement} names.")
        found[version] = known
    return MappingProxyType(dict(sorted(found.items(), key=lambda item: version_key(item[0]))))


def _likeness(asked: str, known: str) -> tuple[int, float]:
    """How many leading numbers two versions share, then how alike their texts are."""
    shared = takewhile(lambda pair: pair[0] == pair[1], zip(asked.split("."), known.split("."), strict=False))
    return len(list(shared)), difflib.SequenceMatcher(None, asked, known).ratio()


def release(version: str) -> Release:
    """The release of TorchVision `version` ("0.21.0"). Raises BadInput, naming the nearest, for any other text."""
    known = releases()
    if version in known:
        return known[version]
    near = sorted(known, key=lambda other: _likeness(version, other), reverse=True)[:2]
    raise BadInput(
        f"TorchVision release {version!r}",
        "is not in the table of releases.",
        f"Did you mean {' or '.join(near)}? Known: {', '.join(known)}.",
    )

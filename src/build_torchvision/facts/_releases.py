"""Typed loader of releases.toml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType

from build_torchvision.facts._schema import PLATFORM, SHA256, SM, FactError, rows, version_key

SUITES = ("ops", "image", "cuda", "cuda_without_nvjpeg")
PYTHON = r"3\d{1,2}t?"


@dataclass(frozen=True, kw_only=True)
class Release:
    """A TorchVision release and the torch it belongs to."""

    torchvision: str
    torch: str
    """The torch that was published with it."""
    torch_requirement: str
    """The published wheel's own requirement on torch, such as "==2.6.0"."""
    cuda: str | None
    """CUDA version of the published wheel and of its torch, for x86-64."""
    cuda_aarch64: str | None
    """CUDA version of the torch published for aarch64; None for a CPU-only one."""
    sha256: str | None
    """Of the tag archive; None where none has been recorded: then only a source that the user names will do."""
    sha256_sources: int = 0
    """How many independent public recipes state that sha256; 2 stands for two or more."""
    pythons: tuple[str, ...]
    """Pythons of the published wheels, "t" for free-threaded; of its torch's wheels where one wheel serves all."""
    any_python: bool = False
    """Published as one py3-none wheel."""
    extensions: tuple[str, ...]
    """Extension modules of the published wheel; empty where that is not known."""
    debian_source: str | None
    """Debian source package whose .orig tarball has the same bytes."""
    stable_abi: bool
    """One build serves every torch that `torch_requirement` allows."""
    cxx_standard: int | None
    """The C++ standard that its torch's cpp_extension asks for; None where that is not known."""
    torch_cubins: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """Platform -> SMs that its published torch carries cubins for; a platform that is absent was never read."""
    upstream_tests: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """How many of upstream's own tests pass at least, by suite (SUITES); a suite that is absent was never counted."""
    listed: bool = True
    """Whether a row of the table describes it. What the table would say of an unlisted one cannot be judged."""
    source: str

    def torch_cuda(self, platform: str) -> str | None:
        """The CUDA version of the torch that is published for `platform`."""
        return self.cuda if platform == "x86_64" else self.cuda_aarch64


@cache
def releases() -> Mapping[str, Release]:
    """All TorchVision releases by version, oldest first."""
    found: dict[str, Release] = {}
    for version, row in rows("releases"):
        known = Release(
            torchvision=version,
            torch=row.text("torch", r"\d+\.\d+\.\d+"),
            torch_requirement=row.text("torch_requirement", r"(==|>=)\d+\.\d+\.\d+"),
            cuda=row.text("cuda", r"\d+\.\d+"),
            cuda_aarch64=row.optional("cuda_aarch64", r"\d+\.\d+"),
            sha256=row.optional("sha256", SHA256),
            sha256_sources=row.number("sha256_sources") if "sha256_sources" in row.values else 0,
            pythons=row.words("pythons", PYTHON),
            any_python=row.flag("any_python"),
            extensions=row.words("extensions", r"\w+"),
            debian_source=row.optional("debian_source"),
            stable_abi=row.flag("stable_abi"),
            cxx_standard=row.number("cxx_standard"),
            torch_cubins=row.lists("torch_cubins", PLATFORM, SM),
            upstream_tests=row.counts("upstream_tests", SUITES),
            source=row.text("source"),
        )
        row.done()
        if (known.sha256 is None) != (known.sha256_sources == 0):
            raise FactError(f"{row.where}: `sha256` and `sha256_sources` belong together.")
        relation, least = known.torch_requirement[:2], known.torch_requirement[2:]
        if known.torch != least and (relation == "==" or version_key(known.torch) < version_key(least)):
            raise FactError(f"{row.where}: torch {known.torch} is not the one that {known.torch_requirement} names.")
        if relation == ">=" and not known.stable_abi:
            raise FactError(
                f"{row.where}: {known.torch_requirement} needs `stable_abi`: without it one torch is served."
            )
        found[version] = known
    return MappingProxyType(dict(sorted(found.items(), key=lambda item: version_key(item[0]))))

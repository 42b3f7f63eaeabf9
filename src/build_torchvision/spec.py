"""Hold all facts of one wheel: made once when a build's inputs are resolved, and handed down from there.

`WheelSpec` is what the build works with, `Descriptor` what the finished wheel carries (build_torchvision.json). Names,
tags and requirement are derived here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, NamedTuple

import msgspec
from packaging.tags import Tag

from build_torchvision import __version__
from build_torchvision.compatibility import CodegenKind, serves
from build_torchvision.facts import Release, gpus, isas, toolkits
from build_torchvision.flags import Codegen, Tuning, cuda_codegen, isa_flags, tuning_for
from build_torchvision.releases import TorchBuild, pairs
from build_torchvision.variants import CPU, Variant

SCHEMA = 2
"""The version of the descriptor's shape. A wheel with another one was made by another version of this program."""
ANY_PYTHON = "py3"
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
"""A hexadecimal SHA-256; checked where a descriptor is read."""


class SourceIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Which source was built. `origin` is "archive" for a release's pinned tarball, "local" for a user's own tree.

    `sha256` is the tarball's, or that of a local tree's files (their paths and contents).
    """

    version: str
    sha256: Sha256
    origin: Literal["archive", "local"]


class TorchIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Which torch was built against. `version` has no local part; `sha256` is its wheel's, None for an installed one.

    `cubins` and `ptx` are the SMs that its own GPU library has code for; None where that was not read (CPU builds).
    """

    version: str
    local: str | None
    cuda: str | None
    cxx11_abi: bool
    sha256: Sha256 | None = None
    cubins: tuple[str, ...] | None = None
    ptx: tuple[str, ...] | None = None

    @property
    def build(self) -> TorchBuild:
        """The same as what releases are chosen by."""
        return TorchBuild(version=self.version, local=self.local, cuda=self.cuda)

    def serves(self, sm: str | None) -> bool:
        """Whether this torch itself has code for the GPU `sm`; True where nothing is known."""
        return sm is None or self.cubins is None or serves(self.cubins, self.ptx or (), sm)


class CodecIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """A codec that the wheel has. `origin` is "pinned" (linked in, built from hashed source) or "system" (bundled)."""

    name: str
    version: str
    origin: Literal["pinned", "system"] = "system"


class LibraryIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """A library that is linked into the wheel: its licence (SPDX) and the sha256 of the source it was built from.

    `purl` is its package URL (ECMA-427).
    """

    name: str
    version: str
    licence: str
    sha256: Sha256
    purl: str


class CudaIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """How device code was made: its kind, nvcc's -gencode arguments, the compiler, and whether nvJPEG is linked."""

    kind: CodegenKind
    gencode: tuple[str, ...]
    compiler: str
    ptx_added: bool
    nvjpeg: bool
    operators: Mapping[str, str] = {}
    """Operator -> "tuned" for each whose GPU kernel is ours."""


class Descriptor(msgspec.Struct, frozen=True, kw_only=True):
    """What a wheel says of itself in build_torchvision.json: everything that shaped its code."""

    schema: int
    tool: str
    """The version of build-torchvision."""
    variant: str
    torchvision: str
    listed: bool
    """Whether the release is one that the tables of that version described."""
    source: SourceIdentity
    torch: TorchIdentity
    paired: bool
    """Whether that torch is one the release was published for, and has code for the variant's GPU."""
    compiler: str
    isa_flags: tuple[str, ...]
    tuning: Tuning
    operators: Mapping[str, str]
    """Operator -> "tuned" for each whose CPU kernel is ours. All others have upstream's."""
    cuda: CudaIdentity | None
    codecs: tuple[CodecIdentity, ...]
    libraries: tuple[LibraryIdentity, ...] = ()
    """Those linked in from pinned source."""
    glibc: str | None = None
    """The oldest glibc that the wheel was linked for ("2.28"); None for the build machine's own."""

    def dumps(self) -> bytes:
        """As the text of build_torchvision.json, the same for the same facts."""
        return msgspec.json.format(msgspec.json.encode(self, order="sorted"), indent=1) + b"\n"

    @classmethod
    def loads(cls, data: bytes) -> Descriptor:
        """The inverse of `dumps`. Raises ValueError, saying which field is wrong, for anything else."""
        try:
            found = msgspec.json.decode(data, type=cls)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise ValueError(str(error) or type(error).__name__) from error
        if found.schema != SCHEMA:
            raise ValueError(f"schema {found.schema}, this version reads {SCHEMA}")
        return found

    def codec_names(self) -> tuple[str, ...]:
        """The codecs' names, in order."""
        return tuple(codec.name for codec in self.codecs)


@dataclass(frozen=True, kw_only=True)
class WheelSpec:
    """One wheel to build: the variant, and each input as it was found."""

    variant: Variant
    release: Release
    source: SourceIdentity
    torch: TorchIdentity
    compiler: str
    cuda_compiler: str | None = None
    ptx: bool = False
    """Whether --ptx asked for PTX beside the cubins."""
    nvjpeg: bool = False
    codecs: tuple[CodecIdentity, ...] = ()
    libraries: tuple[LibraryIdentity, ...] = ()
    tuning: Tuning = field(default_factory=Tuning)
    operators: Mapping[str, str] = field(default_factory=dict)
    gpu_operators: Mapping[str, str] = field(default_factory=dict)
    glibc: str | None = None
    any_python: bool = False
    """Whether one wheel serves every Python (tag py3-none): its extensions use no Python symbol."""
    with_variant_label: bool = False
    """Whether the file name ends in the variant's label and the version is the release's own."""

    @property
    def codegen(self) -> Codegen | None:
        """How device code is made, or None for a CPU variant."""
        return cuda_codegen(self.variant, ptx=self.ptx)

    @property
    def ptx_added(self) -> bool:
        """Whether the wheel holds PTX that --ptx put beside its cubins."""
        codegen = self.codegen
        return codegen is not None and codegen.cubin and codegen.ptx

    @property
    def paired(self) -> bool:
        """Whether the torch is one that the release was published for, and has code for the variant's GPU."""
        return self.release.listed and pairs(self.release, self.torch.build) and self.torch.serves(self.variant.sm)

    @property
    def version(self) -> str:
        """The whole version: "0.29.1+cpu.avx512"."""
        local = self.local_version
        return f"{self.source.version}+{local}" if local else self.source.version

    @property
    def local_version(self) -> str:
        """See `local_version`."""
        return local_version(
            self.variant,
            paired=self.paired,
            ptx=self.ptx_added,
            listed=self.release.listed,
            with_variant_label=self.with_variant_label,
        )

    @property
    def label(self) -> str:
        """See `variant_label`."""
        return variant_label(self.variant, ptx=self.ptx_added)

    @property
    def python_tags(self) -> tuple[str, str]:
        """(interpreter tag, ABI tag): ("cp313", "cp313"), ("cp313", "cp313t") or ("py3", "none")."""
        return python_tags(self.variant, any_python=self.any_python)

    @property
    def linux_tag(self) -> Tag:
        """The tag before the level of glibc is known."""
        return Tag(*self.python_tags, f"linux_{self.variant.platform}")

    def file_name(self, platform: str | None = None) -> str:
        """The wheel's, for `platform` ("manylinux_2_28_x86_64"), or before the level of glibc is known."""
        tags = "-".join((*self.python_tags, platform or self.linux_tag.platform))
        label = f"-{self.label}" if self.with_variant_label else ""
        return f"torchvision-{self.version}-{tags}{label}.whl"

    @property
    def torch_requirement(self) -> str:
        """What Requires-Dist says of torch: as the release pins it, or exactly the torch that was built against."""
        return self.release.torch_requirement if self.paired else f"=={self.torch.version}"

    @property
    def descriptor(self) -> Descriptor:
        """What the wheel carries of all this."""
        codegen, cuda = self.codegen, None
        if codegen is not None:
            cuda = CudaIdentity(
                kind=codegen.kind,
                gencode=codegen.gencode,
                compiler=self.cuda_compiler or "",
                ptx_added=self.ptx_added,
                nvjpeg=self.nvjpeg,
                operators=dict(sorted(self.gpu_operators.items())),
            )
        return Descriptor(
            schema=SCHEMA,
            tool=__version__,
            variant=str(self.variant),
            torchvision=self.source.version,
            listed=self.release.listed,
            source=self.source,
            torch=self.torch,
            paired=self.paired,
            compiler=self.compiler,
            isa_flags=isa_flags(self.variant),
            tuning=self.tuning,
            operators=dict(sorted(self.operators.items())),
            cuda=cuda,
            codecs=self.codecs,
            libraries=self.libraries,
            glibc=self.glibc,
        )


def local_version(
    variant: Variant, *, paired: bool, ptx: bool = False, listed: bool = True, with_variant_label: bool = False
) -> str:
    """The local part of a wheel's version (PEP 440): `cpu.avx512`, `cu128.sm120.avx512`.

    `.ptx` is added where PTX was added to the cubins, `.unpaired` where torch is another release's or has no code for
    the variant's SM, `.unlisted` where no row of the tables describes the release. With `with_variant_label` only the
    last two remain, since an installer that chooses by hardware chooses among the wheels of one version.
    """
    marks = [mark for mark, wanted in (("unlisted", not listed), ("unpaired", listed and not paired)) if wanted]
    if with_variant_label:
        return ".".join(marks)
    isa = variant.isa.replace("_", "")  # PEP 440 reads _ as a separator: armv8_2 would become armv8.2
    return ".".join([*(_cuda_parts(variant) or ["cpu"]), isa, *(["ptx"] if ptx else []), *marks])


class Named(NamedTuple):
    """What a local version or a label says of a wheel: all of its variant but the Python, and its marks."""

    track: str
    sm: str | None
    isa: str
    ptx: bool
    paired: bool
    listed: bool


def parse_local_version(text: str) -> Named | None:
    """The inverse of `local_version`; None for anything that it never returns (a label's marks alone included)."""
    parts = text.split(".")
    listed, paired = parts[-1] != "unlisted", parts[-1] not in ("unlisted", "unpaired")
    if not paired:
        parts = parts[:-1]
    return _named(parts, paired=paired, listed=listed, isas={name.replace("_", ""): name for name in isas()})


def parse_label(text: str) -> Named | None:
    """The inverse of `variant_label`; None for anything that it never returns."""
    ptx = text.endswith("_ptx")
    plain = text.removesuffix("_ptx")
    isa = next((name for name in isas() if plain == name or plain.endswith(f"_{name}")), None)
    if isa is None:
        return None
    parts = plain.removesuffix(isa).rstrip("_").split("_") if plain != isa else ["cpu"]
    return _named([*parts, isa, *(["ptx"] if ptx else [])], paired=True, listed=True, isas={isa: isa})


def _named(parts: list[str], *, paired: bool, listed: bool, isas: Mapping[str, str]) -> Named | None:
    ptx = parts[-1:] == ["ptx"]
    if ptx:
        parts = parts[:-1]
    if len(parts) == 2 and parts[0] == "cpu" and parts[1] in isas and not ptx:
        return Named(CPU, None, isas[parts[1]], False, paired, listed)
    tracks = {f"cu{toolkit.version.replace('.', '')}": track for track, toolkit in toolkits().items()}
    if len(parts) == 3 and parts[0] in tracks and parts[1] in gpus() and parts[2] in isas:
        return Named(tracks[parts[0]], parts[1], isas[parts[2]], ptx, paired, listed)
    return None


def variant_label(variant: Variant, *, ptx: bool = False) -> str:
    """The short name of a variant among the wheels of one version: `avx512bf16`, `cu128_sm120_avx512`."""
    return "_".join([*_cuda_parts(variant), variant.isa, *(["ptx"] if ptx else [])])


def python_tags(variant: Variant, *, any_python: bool) -> tuple[str, str]:
    """(interpreter tag, ABI tag) of the variant's wheel (PyPA platform compatibility tags)."""
    if any_python:
        return ANY_PYTHON, "none"
    return f"cp{variant.python.removesuffix('t')}", f"cp{variant.python}"


def distinct(specs: Iterable[WheelSpec]) -> list[WheelSpec]:
    """`specs` without those whose wheel another one makes: one py3-none wheel serves all Pythons that were named."""
    found: dict[object, WheelSpec] = {}
    for spec in specs:
        key = (spec.version, spec.python_tags, spec.variant.platform, spec.label)
        found.setdefault(key, spec)
    return list(found.values())


def resolved_tuning(variant: Variant, *, enabled: bool) -> Tuning:
    """The tuning of `variant`'s CPU operators, none where it is switched off."""
    return tuning_for(variant.platform) if enabled else Tuning()


def _cuda_parts(variant: Variant) -> list[str]:
    return [f"cu{variant.cuda.replace('.', '')}", variant.sm] if variant.cuda and variant.sm else []

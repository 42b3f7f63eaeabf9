"""Resolve, download and cross-check all inputs of a build before compiling."""

from __future__ import annotations

import hashlib
import logging
import platform as host
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from build_torchvision.compatibility import Sm, same_cuda_major
from build_torchvision.errors import BadInput, FetchFailed, MissingInput
from build_torchvision.facts import Release, toolkits
from build_torchvision.flags import cuda_codegen, isa_flags
from build_torchvision.inputs.cache import check_cache
from build_torchvision.inputs.codecs import Codecs, find_codecs, pinned_codecs, sysroot
from build_torchvision.inputs.compiler import Compiler, accepts, find_compiler
from build_torchvision.inputs.cuda_compiler import CudaCompiler, check_architectures, find_cuda_compiler
from build_torchvision.inputs.cuda_sdk import CudaSdk, cuda_sdk
from build_torchvision.inputs.emulator import is_foreign
from build_torchvision.inputs.identity import codec_digest, tree_digest
from build_torchvision.inputs.source import Source, fetch_source, unpinned
from build_torchvision.inputs.toolchain import DEFAULT_GLIBC
from build_torchvision.inputs.torch_sdk import TorchSdk, torch_sdk
from build_torchvision.operators import FOLDER, Choice, described
from build_torchvision.releases import check_published, newest
from build_torchvision.spec import CodecIdentity, LibraryIdentity, TorchIdentity, WheelSpec, distinct, resolved_tuning
from build_torchvision.variants import Variant

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """What a user asks `build` for. `torch`: a version, wheel, site-packages folder, or None for the release's own.

    `torch_index` is the address of an index that has it. `cuda` is an installed toolkit's folder, None for the package
    registry's. `ptx` adds PTX to the cubins. `cc_prefix` is as in `find_compiler`. `launcher` names a compiler cache.
    `glibc` is "2.28", "2.34" or "host", and `codecs` says whose image libraries are used; None is the pinned ones,
    unless another option takes something of this machine.
    Without `tuning` upstream's operators are compiled as upstream compiles them; `operators` says whether ours replace
    them on the CPU. `any_python` asks for one wheel for every Python.
    """

    variants: tuple[Variant, ...]
    release: Release
    torch: str | None = None
    torch_index: str | None = None
    source: Path | None = None
    without: frozenset[str] = frozenset()
    compiler: str = "auto"
    cc_prefix: str | None = None
    jobs: int | None = None
    allow_unpaired: bool = False
    cuda: Path | None = None
    ptx: bool = False
    cuda_compiler: str = "auto"
    launcher: str = "auto"
    glibc: str | None = None
    codecs: Literal["pinned", "system"] | None = None
    out: Path = Path("dist")
    with_variant_label: bool = False
    tuning: bool = True
    operators: Choice = Choice.TUNED
    any_python: bool = False
    optional: frozenset[Variant] = frozenset()
    """Variants that only a pattern named: they are left out where torch does not serve them."""


@dataclass(frozen=True, kw_only=True)
class ResolvedInputs:
    """Everything a build reads, found and checked."""

    source: Source
    torch: TorchSdk
    codecs: Codecs
    compiler: Compiler
    cuda: CudaSdk | None = None
    cuda_compiler: CudaCompiler | None = None
    specs: tuple[WheelSpec, ...] = ()
    """One for each wheel that comes out, in the order of the request."""

    @property
    def tools(self) -> tuple[str, ...]:
        """Compilers and toolkit with their versions: what a compiler cache must tell apart."""
        found = (self.compiler.origin, self.compiler.family, self.compiler.version, *self.compiler.command)
        found += (self.cuda_compiler.origin, *self.cuda_compiler.command) if self.cuda_compiler else ()
        return found + ((str(self.cuda.root), self.cuda.origin, str(self.cuda.fatbinary)) if self.cuda else ())

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of everything that compilers read, by content: source, headers of torch, toolkit and codecs."""
        root = self.source.root
        facts: tuple[object, ...] = (
            tree_digest(root / name for name in ("setup.py", "torchvision/csrc")),
            tree_digest([FOLDER]),
            tree_digest(self.torch.include_dirs[:1]),
            self.torch.version,
            tree_digest(self.cuda.include_dirs) if self.cuda else None,
            codec_digest(self.compiler, self.codecs),
            sorted(self.codecs.versions.items()),
            [source.library.sha256 for source in self.codecs.sources],
            self.compiler.glibc,
            self.tools,
        )
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    @property
    def key(self) -> str:
        """Names the build folder: builds with the same inputs, wherever these lie, share their objects."""
        return self.digest[:16]


def check_buildable(variants: Sequence[Variant], release: Release, *, torch_named: bool = False) -> str:
    """The one platform of `variants`. Raises BadInput, before anything is fetched, for what cannot be built.

    With a torch of the user's own (`torch_named`) a release of the stable ABI serves whatever Python that torch is for.
    """
    for variant in variants:
        action = f"Build {variant} of TorchVision {release.torchvision}"
        if variant.python not in release.pythons and not (torch_named and release.stable_abi):
            other = newest(variant)
            raise BadInput(
                action,
                f"torch {release.torch} has no wheels for Python {variant.python_version}.",
                f"Choose --python from {', '.join(release.pythons)}"
                + (f", or --torchvision {other.torchvision}." if other and other.sha256 and not torch_named else "."),
            )
    if not variants:
        raise BadInput("Build", "No variant was named.", "Try `build-torchvision variants`.")
    return variants[0].platform


def check_source(request: BuildRequest) -> None:
    """Raises BadInput, before anything is fetched, where no source is named for a release that has none to fetch."""
    if request.release.sha256 is None and request.source is None:
        raise unpinned(request.release, request.variants[0].python)


def resolve_inputs(request: BuildRequest) -> ResolvedInputs:
    """Find and check every input of `request`, fetching what is not cached. Raises before the first compile."""
    platform = check_buildable(request.variants, request.release, torch_named=request.torch is not None)
    check_source(request)
    check_cache()
    check_told(request)
    compiler = _compiler(request, platform)
    for isa, flags in isas_of(request.variants).items():
        if not accepts(compiler, flags):
            raise MissingInput(
                f"Build for {isa}",
                f"{compiler.origin} {compiler.family} {compiler.version} does not accept {' '.join(flags)}.",
                "Choose another --compiler.",
            )
    codecs = _codecs(request, compiler, platform)
    source = fetch_source(request.release, request.source)
    first = request.variants[0]
    cuda, cuda_compiler = None, None
    if first.cuda:
        cuda = cuda_sdk(first.track, request.cuda, platform)
        cuda_compiler = find_cuda_compiler(request.cuda_compiler, compiler, cuda, request.cuda)
        check_host_halves(first, cuda_compiler.family)
        made = (cuda_codegen(variant) for variant in request.variants)
        check_architectures(cuda_compiler, cuda, sorted({codegen.base for codegen in made if codegen}))
    torch = torch_sdk(
        request.torch,
        request.release,
        first.python,
        platform,
        cuda=cuda is not None,
        allow_unpaired=request.allow_unpaired,
        index=request.torch_index,
        local=toolkits()[first.track].torch_local if first.cuda else "cpu",
    )
    if first.cuda and not same_cuda_major(torch.cuda, first.cuda):
        raise BadInput(
            f"Build track {first.track} against torch {torch.version} ({torch.origin})",
            f"That torch was built with CUDA {torch.cuda}, the track is {first.cuda}.",
            f"Name a torch built with CUDA {first.cuda}: --torch VERSION, with --allow-unpaired for another release's.",
        )
    inputs = ResolvedInputs(
        source=source, torch=torch, codecs=codecs, compiler=compiler, cuda=cuda, cuda_compiler=cuda_compiler
    )
    specs = _specs(request, inputs)
    return replace(inputs, specs=tuple(distinct(_covered(request, torch, specs))))


def _specs(request: BuildRequest, inputs: ResolvedInputs) -> list[WheelSpec]:
    """The facts of each wheel of `request`, from its inputs as they were found."""
    from build_torchvision.binary.fatbin import architectures  # slow to import, and needed only where CUDA is built

    torch, cuda = inputs.torch, inputs.cuda
    carried = architectures(torch.lib_dir / "libtorch_cuda.so") if cuda else None
    identity = TorchIdentity(
        version=torch.version,
        local=torch.local,
        cuda=torch.cuda,
        cxx11_abi=torch.cxx11_abi,
        sha256=torch.sha256,
        cubins=tuple(sorted(carried[0], key=Sm.parse)) if carried else None,
        ptx=tuple(sorted(carried[1], key=Sm.parse)) if carried else None,
    )
    compiler = inputs.cuda_compiler
    return [
        WheelSpec(
            variant=variant,
            release=request.release,
            source=inputs.source.identity,
            torch=identity,
            compiler=f"{inputs.compiler.family} {inputs.compiler.version}",
            cuda_compiler=f"{compiler.family} {compiler.version}" if compiler else None,
            ptx=request.ptx,
            nvjpeg=cuda is not None and cuda.nvjpeg is not None,
            codecs=tuple(
                CodecIdentity(name=name, version=codec.version, origin="pinned" if inputs.codecs.sources else "system")
                for name, codec in sorted(inputs.codecs.found.items())
            ),
            libraries=tuple(
                LibraryIdentity(
                    name=row.name, version=row.version, licence=row.licence, sha256=row.sha256, purl=row.purl
                )
                for row in (source.library for source in inputs.codecs.sources)
            ),
            glibc=inputs.compiler.toolchain.glibc if inputs.compiler.toolchain else None,
            tuning=resolved_tuning(variant, enabled=request.tuning and inputs.compiler.family == "clang"),
            operators=described(request.release, request.operators, inputs.source.root),
            gpu_operators=described(request.release, request.operators, inputs.source.root, gpu=True),
            any_python=request.any_python or request.release.stable_abi,
            with_variant_label=request.with_variant_label,
        )
        for variant in request.variants
    ]


def glibc_of(request: BuildRequest) -> str:
    """The glibc that `request` builds for: "2.28", "2.34", or "host" where something of this machine is used.

    Raises BadInput for options that exclude each other.
    """
    local = [
        option
        for option, given in (
            ("--compiler gcc", request.compiler == "gcc"),
            ("--cc-prefix", request.cc_prefix is not None),
            ("--cuda-compiler nvcc", request.cuda_compiler == "nvcc" and request.variants[0].cuda is not None),
            ("--codecs system", request.codecs == "system"),
        )
        if given
    ]
    glibc = request.glibc or ("host" if local else DEFAULT_GLIBC)
    if glibc != "host" and local:
        raise BadInput(
            f"Build for glibc {glibc} with {local[0]}",
            "It takes headers or libraries of this machine, which ask for this machine's glibc.",
            f"Leave out {local[0]}, or choose --glibc host.",
        )
    if glibc == "host" and request.codecs == "pinned":
        raise BadInput(
            "Build the image libraries from source (--codecs pinned) for this machine's glibc",
            "They are compiled and linked with the pinned toolchain alone.",
            f"Choose --glibc {DEFAULT_GLIBC}, or --codecs system.",
        )
    return glibc


def _compiler(request: BuildRequest, platform: str) -> Compiler:
    """The compiler of `request`; with this machine's own headers where the pinned ones are not to be had."""
    try:
        return find_compiler(request.compiler, platform, request.cc_prefix, glibc_of(request))
    except FetchFailed as error:
        if request.glibc is not None or request.codecs is not None or platform != host.machine():
            raise  # it was asked for, or this machine has none of that platform
        log.warning(
            "%s So this build takes this machine's C++ headers and image libraries: its wheel needs this machine's "
            "glibc, and its bytes are not those of other machines.",
            error,
        )
        return find_compiler(request.compiler, platform, request.cc_prefix, "host")


def _codecs(request: BuildRequest, compiler: Compiler, platform: str) -> Codecs:
    if compiler.toolchain is not None:
        return pinned_codecs(request.without)
    return find_codecs(request.without, None if platform == host.machine() else sysroot(platform))


def check_host_halves(variant: Variant, cuda_compiler: str) -> None:
    """Raises BadInput where `cuda_compiler` ("nvcc") makes host halves for another platform than that of `variant`."""
    if variant.cuda is not None and cuda_compiler == "nvcc" and is_foreign(variant.platform):
        raise BadInput(
            f"Build {variant} with nvcc",
            f"Its host halves would be {host.machine()} code: only clang crosses to {variant.platform} here.",
            "Choose --cuda-compiler clang, or leave it out.",
        )


def check_told(request: BuildRequest) -> None:
    """Raises BadInput where the table says that the release's own torch does not go with a variant: before a fetch."""
    if request.torch is None and request.torch_index is None:
        for variant in request.variants:
            check_published(variant, request.release, request.release.torch, allow_unpaired=request.allow_unpaired)


def _covered(request: BuildRequest, torch: TorchSdk, specs: Sequence[WheelSpec]) -> list[WheelSpec]:
    """Those of `specs` whose SM torch itself has code for; all of them where an unpaired torch is allowed.

    What only a pattern named is left out with a warning. Raises BadInput for a variant that was named exactly, and
    where nothing would be left.
    """
    served = [spec for spec in specs if spec.torch.serves(spec.variant.sm)]
    lost = [spec.variant for spec in specs if spec not in served]
    if not lost or request.allow_unpaired:
        return list(specs)
    sms = ", ".join(dict.fromkeys(str(variant.sm) for variant in lost))
    cubins, ptx = (", ".join(names or ()) for names in (specs[0].torch.cubins, specs[0].torch.ptx))
    problem = (
        f"That torch has no code that runs there: it carries cubins for {cubins or 'nothing'} and "
        f"{'PTX for ' + ptx if ptx else 'no PTX'}."
    )
    action = f"Build {request.variants[0].track} for {sms} against torch {torch.version} ({torch.origin})"
    if not served or not request.optional.issuperset(lost):
        raise BadInput(
            action,
            problem,
            "Name a torch built for it with --torch, or take --allow-unpaired: the wheel, its version and its report "
            "then say that torch does not serve this GPU.",
        )
    log.warning("left out: %s: %s", ", ".join(variant.short for variant in lost), problem)
    return served


def isas_of(variants: Sequence[Variant]) -> dict[str, tuple[str, ...]]:
    return {variant.isa: isa_flags(variant) for variant in variants}


def parts_of(request: BuildRequest) -> list[BuildRequest]:
    """`request` by track and platform."""
    return [part for requests in tracks_of(request) for part in requests]


def tracks_of(request: BuildRequest) -> list[list[BuildRequest]]:
    """`request` by track, and each track by platform."""
    found: dict[str, dict[str, list[Variant]]] = {}
    for variant in request.variants:
        found.setdefault(variant.track, {}).setdefault(variant.platform, []).append(variant)
    return [[replace(request, variants=tuple(chosen)) for chosen in platforms.values()] for platforms in found.values()]

"""What a build is asked for, and the inputs that it takes: found, fetched, held to each other before any compile."""

from __future__ import annotations

import hashlib
import platform as host
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from build_torchvision.binary.fatbin import architectures
from build_torchvision.compatibility import serves
from build_torchvision.errors import BadInput, MissingInput
from build_torchvision.facts import Release, releases
from build_torchvision.flags import cuda_codegen, isa_flags
from build_torchvision.inputs.codecs import Codecs, find_codecs, pinned_codecs, sysroot
from build_torchvision.inputs.compiler import Compiler, accepts, find_compiler
from build_torchvision.inputs.cuda_compiler import CudaCompiler, check_architectures, find_cuda_compiler
from build_torchvision.inputs.cuda_sdk import CudaSdk, cuda_sdk
from build_torchvision.inputs.emulator import is_foreign
from build_torchvision.inputs.source import Source, fetch_source
from build_torchvision.inputs.toolchain import DEFAULT_GLIBC
from build_torchvision.inputs.torch_sdk import TorchSdk, torch_sdk
from build_torchvision.variants import Variant


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """What a user asks `build` for. `torch`: a version, wheel, site-packages folder, or None for the release's own.

    `cuda` is an installed toolkit's folder, None for the package registry's. `ptx` adds PTX to the cubins. `cc_prefix`
    is as in `find_compiler`. `launcher` names a compiler cache. `glibc` is "2.28", "2.34" or "host", and `codecs` says
    whose image libraries are used; None is the pinned ones, unless another option takes something of this machine.
    """

    variants: tuple[Variant, ...]
    release: Release
    torch: str | None = None
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


@dataclass(frozen=True, kw_only=True)
class ResolvedInputs:
    """Everything a build reads, found and checked."""

    source: Source
    torch: TorchSdk
    codecs: Codecs
    compiler: Compiler
    cuda: CudaSdk | None = None
    cuda_compiler: CudaCompiler | None = None
    carried: tuple[frozenset[str], frozenset[str]] | None = None  # torch's own SMs: with cubins, with PTX

    @property
    def tools(self) -> tuple[str, ...]:
        """Compilers and toolkit with their versions: what a compiler cache must tell apart."""
        found = (self.compiler.origin, self.compiler.family, self.compiler.version, *self.compiler.command)
        found += (self.cuda_compiler.origin, *self.cuda_compiler.command) if self.cuda_compiler else ()
        return found + ((str(self.cuda.root), self.cuda.origin, str(self.cuda.fatbinary)) if self.cuda else ())

    @property
    def key(self) -> str:
        """Names the build folder: builds with the same inputs share their objects."""
        codecs = (self.compiler.glibc, sorted(self.codecs.versions.items()), bool(self.codecs.sources))
        facts: tuple[object, ...] = (
            str(self.source.root),
            self.source.sha256,
            str(self.torch.root),
            self.torch.version,
            self.tools,
            codecs,
        )
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def check_buildable(variants: Sequence[Variant], release: Release) -> str:
    """The one platform of `variants`. Raises BadInput, before anything is fetched, for what cannot be built."""
    for variant in variants:
        action = f"Build {variant} of TorchVision {release.torchvision}"
        if variant.python not in release.pythons:
            raise BadInput(
                action,
                f"torch {release.torch} has no wheels for Python {variant.python[0]}.{variant.python[1:]}.",
                f"Choose --python from {', '.join(release.pythons)}, or another --torchvision.",
            )
    if not variants:
        raise BadInput("Build", "No variant was named.", "Try `build-torchvision variants`.")
    return variants[0].platform


def resolve_inputs(request: BuildRequest) -> ResolvedInputs:
    """Find and check every input of `request`, fetching what is not cached. Raises before the first compile."""
    platform = check_buildable(request.variants, request.release)
    _check_told_cuda(request)
    compiler = find_compiler(request.compiler, platform, request.cc_prefix, glibc_of(request))
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
    cuda, cuda_compiler, carried = None, None, None
    if first.cuda:
        cuda = cuda_sdk(first.track, request.cuda, platform)
        cuda_compiler = find_cuda_compiler(request.cuda_compiler, compiler, cuda, request.cuda)
        if cuda_compiler.family == "nvcc" and is_foreign(platform):
            raise BadInput(
                f"Build {first} with {cuda_compiler.origin}",
                f"Its host halves would be {host.machine()} code: only clang crosses to {platform} here.",
                "Choose --cuda-compiler clang, or leave it out.",
            )
        made = (cuda_codegen(variant) for variant in request.variants)
        check_architectures(cuda_compiler, cuda, sorted({codegen.base for codegen in made if codegen}))
    torch = torch_sdk(
        request.torch,
        request.release,
        first.python,
        platform,
        cuda=cuda is not None,
        allow_unpaired=request.allow_unpaired,
    )
    if first.cuda and torch.cuda != first.cuda:
        raise BadInput(
            f"Build track {first.track} against torch {torch.version} ({torch.origin})",
            f"That torch was built with CUDA {torch.cuda}, the track is {first.cuda}.",
            f"Name a torch built with CUDA {first.cuda}: --torch VERSION, with --allow-unpaired for another release's.",
        )
    if first.cuda:
        carried = architectures(torch.lib_dir / "libtorch_cuda.so")
        _check_covered(request, torch, carried)
    return ResolvedInputs(
        source=source,
        torch=torch,
        codecs=codecs,
        compiler=compiler,
        cuda=cuda,
        cuda_compiler=cuda_compiler,
        carried=carried,
    )


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


def _codecs(request: BuildRequest, compiler: Compiler, platform: str) -> Codecs:
    if compiler.toolchain is not None:
        return pinned_codecs(request.without)
    return find_codecs(request.without, None if platform == host.machine() else sysroot(platform))


def _check_told_cuda(request: BuildRequest) -> None:
    """Raises BadInput where the table says that the release's own torch is of another CUDA, before it is fetched."""
    first, known = request.variants[0], request.release
    if first.cuda and known.cuda and request.torch is None and first.cuda != known.cuda:
        others = [other.torch for other in releases().values() if other.cuda == first.cuda]
        raise BadInput(
            f"Build track {first.track} of TorchVision {known.torchvision}",
            f"Its torch, {known.torch}, is built with CUDA {known.cuda}, the track is {first.cuda}.",
            f"Choose track cuda{known.cuda.replace('.', '_')}, or name a torch built with CUDA {first.cuda} and take "
            f"--allow-unpaired: --torch {' or '.join(others) or 'FILE.whl'}.",
        )


def _check_covered(request: BuildRequest, torch: TorchSdk, carried: tuple[frozenset[str], frozenset[str]]) -> None:
    """Raises BadInput where torch itself has no code for a variant's SM, unless an unpaired torch is allowed."""
    lost = sorted({variant.sm for variant in request.variants if variant.sm and not serves(*carried, variant.sm)})
    if lost and not request.allow_unpaired:
        raise BadInput(
            f"Build {request.variants[0].track} for {', '.join(lost)} against torch {torch.version} ({torch.origin})",
            f"That torch has no code that runs there: it carries {carries(carried)}.",
            "Name a torch built for it with --torch, or take --allow-unpaired: the wheel, its version and its proof "
            "then say that torch does not serve this GPU.",
        )


def carries(carried: tuple[frozenset[str], frozenset[str]]) -> str:
    """(SMs with cubins, SMs with PTX) as words: "cubins for sm80, sm90 and PTX for sm90"."""
    cubins, ptx = (", ".join(sorted(sms, key=lambda sm: int(sm[2:]))) for sms in carried)
    return f"cubins for {cubins or 'nothing'} and {'PTX for ' + ptx if ptx else 'no PTX'}"


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

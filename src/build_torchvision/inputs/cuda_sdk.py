"""A CUDA toolkit to build with: assembled from the package registry's wheels, or one that is installed."""

from __future__ import annotations

import hashlib
import platform as host
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from build_torchvision.errors import BadInput, FetchFailed, MissingInput
from build_torchvision.facts import gpus, toolkits
from build_torchvision.facts.cuda_wheels import CudaWheel, cuda_wheels
from build_torchvision.inputs.cache import cache_dir
from build_torchvision.inputs.pinned import unpack_pinned
from build_torchvision.process import run

PROGRAMS = ("bin/*", "nvvm/bin/*")
LICENCE = "licences/License.txt"
HEADERS = ("cuda.h", "cuda_runtime.h", "cublas_v2.h", "cusparse.h", "cusolverDn.h", "curand.h", "nv/target")


@dataclass(frozen=True, kw_only=True)
class CudaSdk:
    """What a build reads of a toolkit. `root` is laid out as an installed toolkit: include, nvvm/libdevice, bin, lib.

    `fatbinary` may be a newer toolkit's: it only packs. `nvjpeg` is the library to link, None where its header is not.
    `licence` is the text of NVIDIA's licence, under which its libraries are passed on.
    """

    track: str
    version: str
    root: Path
    include_dirs: tuple[Path, ...]
    ptxas: Path
    fatbinary: Path
    cudart: Path
    nvjpeg: Path | None
    origin: str
    licence: Path | None = None

    @property
    def architectures(self) -> frozenset[str]:
        """The SMs that this ptxas assembles ("sm90"), asked of it."""
        text = run([self.ptxas, "--help"], action=f"asking {self.ptxas} for its architectures").stdout
        return frozenset(f"sm{number}" for number in re.findall(r"'sm_(\d+)'", text))


def cuda_sdk(track: str, given: Path | None = None, platform: str | None = None) -> CudaSdk:
    """The toolkit of `track`: the one at `given`, or the registry's pinned wheels for this machine.

    `platform` is what is built for, None for this machine's: a foreign one's libraries come from the registry too,
    while headers and tools are the same for all. Raises BadInput where the toolkit's version is not the track's or its
    ptxas disagrees with the facts' SMs, MissingInput naming what an installed one lacks, FetchFailed when the registry
    does not serve it.
    """
    sdk = _installed(track, given) if given is not None else _from_registry(track)
    if platform is not None and platform != host.machine():
        sdk = _for_platform(sdk, platform)
    known, told = sdk.architectures & gpus().keys(), frozenset(toolkits()[track].native)
    if known != told:
        surplus = [f"{sm} is in the table and not in ptxas" for sm in sorted(told - known)]
        surplus += [f"ptxas assembles {sm} and the table says it does not" for sm in sorted(known - told)]
        raise BadInput(
            f"Build track {track} with the toolkit in {sdk.origin}",
            f"Its headers say CUDA {sdk.version}, and asked, its ptxas says: {'; '.join(surplus)}. The table in "
            "facts/toolkits.toml is wrong, or ptxas and headers are of two toolkits.",
            f"Name a whole CUDA {toolkits()[track].version} toolkit with --cuda DIR, or correct the table.",
        )
    return replace(sdk, licence=_licence(track, given)) if sdk.nvjpeg else sdk


def _licence(track: str, given: Path | None) -> Path | None:
    """NVIDIA's licence as an installed toolkit holds it, or as the registry's wheel of nvJPEG does.

    None where an installed toolkit has none (images for containers leave it out) and no registry can be reached: a
    build with --cuda needs no network. Whoever packs the wheel is then warned.
    """
    installed = given / "EULA.txt" if given is not None else None
    if installed is not None and installed.is_file():
        return installed
    wheels = tuple(replace(wheel, keep=("licences",)) for wheel in cuda_wheels()[track] if "nvjpeg" in wheel.package)
    try:
        licence = _assembled(f"{track}-licence", wheels) / LICENCE
    except FetchFailed:
        if given is None:
            raise
        return None
    if not licence.is_file():
        raise MissingInput(
            f"Build track {track}",
            "The registry's wheel of nvJPEG holds no License.txt, which must go into each wheel with nvJPEG.",
            "Name an installed toolkit that has an EULA.txt with --cuda DIR.",
        )
    return licence


def _for_platform(sdk: CudaSdk, platform: str) -> CudaSdk:
    """`sdk` with the libraries of `platform` to link."""
    wheels = tuple(replace(wheel, keep=("lib",)) for wheel in cuda_wheels()[sdk.track] if "lib" in wheel.keep)
    tree = _assembled(f"{sdk.track}-libraries", wheels, platform)
    cudart = _library(tree, "libcudart")
    if cudart is None:
        raise MissingInput(
            f"Build track {sdk.track} for {platform}",
            f"The registry's wheels in {tree} hold no libcudart.",
            f"Remove {tree.parent} to fetch them anew.",
        )
    origin = f"{sdk.origin}, with {platform}'s libraries from the package registry"
    return replace(sdk, cudart=cudart, nvjpeg=_library(tree, "libnvjpeg") if sdk.nvjpeg else None, origin=origin)


def _from_registry(track: str) -> CudaSdk:
    tree = _assembled(track, cuda_wheels()[track])
    return _read(track, tree, _packer(), f"the package registry's wheels of CUDA {toolkits()[track].version}")


def _packer() -> Path:
    return _assembled("fatbinary", cuda_wheels()["fatbinary"]) / "bin" / "fatbinary"


def _assembled(name: str, wheels: tuple[CudaWheel, ...], platform: str = host.machine()) -> Path:
    pins = hashlib.sha256(repr(wheels).encode()).hexdigest()[:16]  # another pin is another entry
    entry = cache_dir() / "cuda" / (f"{name}-{pins}" if platform == "x86_64" else f"{name}-{platform}-{pins}")

    hint = "Check the network and pip's configuration, or name an installed toolkit with --cuda DIR."
    return unpack_pinned(entry, wheels, _place, platform=platform, programs=PROGRAMS, hint=hint)


def _place(wheel: CudaWheel, name: str) -> str | None:
    """`nvidia/cublas/include/cublas.h` -> `include/cublas.h`, for kept folders only; a licence -> LICENCE."""
    parts = PurePosixPath(name).parts
    if parts[0].endswith(".dist-info"):
        return LICENCE if parts[-1] == "License.txt" and "licences" in wheel.keep else None
    if len(parts) < 4 or parts[0] != "nvidia" or parts[-1] == "__init__.py":
        return None
    inside = "/".join(parts[2:])
    return inside if inside.startswith(tuple(f"{folder}/" for folder in wheel.keep)) else None


def _installed(track: str, root: Path) -> CudaSdk:
    """The toolkit at `root`; headers of libraries that it lacks come from the registry's wheels of the same track."""
    check_toolkit(track, root)
    root = root.resolve()
    fatbinary = root / "bin" / "fatbinary"
    if not _lacking(_includes(root)) and _library(root, "libcudart") is not None:
        return _read(track, root, fatbinary, str(root))
    rest = _assembled(track, cuda_wheels()[track])
    return _read(track, root, fatbinary, f"{root}, completed from the package registry", rest)


def check_toolkit(track: str, root: Path) -> None:
    """Raises BadInput where `root` is no folder of a CUDA toolkit, or its headers are of another track."""
    if not root.is_dir():
        raise BadInput(f"Use the CUDA toolkit in {root}", "There is no such folder.", "Check --cuda.")
    root = root.resolve()
    if not any((root / "include" / name).is_file() for name in ("cuda.h", "cuda_runtime.h")):
        raise BadInput(
            f"Use the CUDA toolkit in {root}",
            "It holds no include/cuda.h.",
            "Name a toolkit's own folder, such as /usr/local/cuda-12.8.",
        )
    _check_version(track, root, str(root))


def _includes(root: Path) -> tuple[Path, ...]:
    return tuple(path for path in (root / "include", root / "include" / "cccl") if path.is_dir())


def _lacking(includes: Sequence[Path]) -> list[str]:
    return [name for name in HEADERS if not any((path / name).is_file() for path in includes)]


def _library(root: Path, name: str) -> Path | None:
    found = (path for sub in ("lib", "lib64") for path in sorted((root / sub).glob(f"{name}.so.1*")))
    return next(found, None)


def _check_version(track: str, root: Path, origin: str) -> None:
    version = toolkits()[track].version
    found = re.search(
        r"#define CUDA_VERSION (\d+)", (root / "include" / "cuda.h").read_text(encoding="utf-8", errors="replace")
    )
    number = int(found[1]) if found else 0
    if f"{number // 1000}.{number % 1000 // 10}" != version:
        raise BadInput(
            f"Build track {track} with the toolkit in {origin}",
            f"It is CUDA {number // 1000}.{number % 1000 // 10}, the track is {version}.",
            f"Leave out --cuda to take CUDA {version} from the package registry, name an installed CUDA {version}, or "
            "choose the track of this one.",
        )


def _read(track: str, root: Path, fatbinary: Path, origin: str, rest: Path | None = None) -> CudaSdk:
    """The toolkit at `root`; what `rest`, a second root, has besides is used too."""
    version, action = toolkits()[track].version, f"Build track {track} with the toolkit in {origin}"
    hint = f"Leave out --cuda to use the package registry's, or name a whole CUDA {version} toolkit."
    includes = (*_includes(root), *(_includes(rest) if rest else ()))
    absent = _lacking(includes)
    tools = [path for path in (root / "bin" / "ptxas", fatbinary) if not path.is_file()]
    device = [path for path in (root / "nvvm" / "libdevice" / "libdevice.10.bc",) if not path.is_file()]
    roots = (root, rest) if rest else (root,)
    cudart = next((found for place in roots if (found := _library(place, "libcudart"))), None)
    if absent or tools or device or cudart is None:
        lacking = [*absent, *map(str, tools), *map(str, device), *([] if cudart else ["libcudart"])]
        raise MissingInput(action, f"It lacks {', '.join(lacking)}.", hint)
    _check_version(track, root, origin)
    nvjpeg = next((found for place in roots if (found := _library(place, "libnvjpeg"))), None)
    return CudaSdk(
        track=track,
        version=version,
        root=root,
        include_dirs=includes,
        ptxas=root / "bin" / "ptxas",
        fatbinary=fatbinary,
        cudart=cudart,
        nvjpeg=nvjpeg if any((path / "nvjpeg.h").is_file() for path in includes) else None,
        origin=origin,
    )

"""Check a build request as far as that goes without fetching anything: `plan`, `build` and every offer ask here."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from build_torchvision.compatibility import same_cuda_major, serves
from build_torchvision.errors import BadInput
from build_torchvision.inputs.cuda_sdk import check_toolkit
from build_torchvision.inputs.resolve import (
    BuildRequest,
    check_buildable,
    check_host_halves,
    check_source,
    check_told,
)
from build_torchvision.inputs.torch_sdk import TorchSdk, torch_sdk
from build_torchvision.reading import home_expanded, is_folder


def check_request(request: BuildRequest) -> None:
    """Raises BadInput for a request that `build` would refuse, as far as tables and a torch in a folder tell.

    Each variant has to be of a Python of the release, and the torch of the track's CUDA major version, with code for
    the variant's GPU; a source has to be known, and a toolkit in a folder be the track's.
    """
    platform = check_buildable(request.variants, request.release, torch_named=request.torch is not None)
    check_told(request)
    check_source(request)
    first = request.variants[0]
    check_host_halves(first, request.cuda_compiler)
    if request.cuda is not None and first.cuda is not None:
        check_toolkit(first.track, request.cuda)
    if request.torch is not None and is_folder(home_expanded(request.torch)):
        torch = torch_sdk(
            request.torch,
            request.release,
            first.python,
            platform,
            cuda=first.cuda is not None,
            allow_unpaired=request.allow_unpaired,
        )
        if first.cuda:
            _check_folder(request, torch)


@lru_cache(maxsize=8)
def _carried(library: Path, modified: int) -> tuple[frozenset[str], frozenset[str]]:
    """The SMs that `library`, last changed at `modified`, has cubins and PTX for: read once for all variants."""
    from build_torchvision.binary.fatbin import architectures

    return architectures(library)


def _check_folder(request: BuildRequest, torch: TorchSdk) -> None:
    first = request.variants[0]
    if not same_cuda_major(torch.cuda, first.cuda):
        raise BadInput(
            f"Build track {first.track} against torch {torch.version} ({torch.origin})",
            f"That torch was built with CUDA {torch.cuda}, the track is {first.cuda}.",
            f"Name a torch built with CUDA {first.cuda}.",
        )
    from build_torchvision.binary.fatbin import BadFatbin  # slow to import, and needed only where a torch is read

    try:
        carried = _carried(torch.lib_dir / "libtorch_cuda.so", (torch.lib_dir / "libtorch_cuda.so").stat().st_mtime_ns)
    except (OSError, ValueError, BadFatbin) as error:
        raise BadInput(
            f"Read the GPU code of torch {torch.version} ({torch.origin})",
            f"{torch.lib_dir / 'libtorch_cuda.so'} is no whole library: {error}.",
            "Install that torch again.",
        ) from error
    lost = sorted({variant.sm for variant in request.variants if variant.sm and not serves(*carried, variant.sm)})
    if lost and not request.allow_unpaired:
        raise BadInput(
            f"Build {first.track} for {', '.join(lost)} against torch {torch.version} ({torch.origin})",
            f"That torch has no code that runs there: it has cubins for {', '.join(sorted(carried[0])) or 'nothing'}.",
            "Name a torch built for it with --torch, or take --allow-unpaired.",
        )

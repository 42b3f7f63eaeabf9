"""Choose the one variant that `build --auto` builds on a machine: the best that a torch can be had for."""

from __future__ import annotations

from collections.abc import Callable

from build_torchvision.choose.ranking import choose
from build_torchvision.errors import BadInput
from build_torchvision.facts import Release
from build_torchvision.machine.report import Machine
from build_torchvision.releases import TorchBuild, newest, published_torch_serves, release_named
from build_torchvision.variants import CPU, TRACKS, Variant, enumerate_variants


def auto_variant(
    machine: Machine,
    python: str,
    *,
    torchvision: str | None = None,
    torch: TorchBuild | None = None,
    available: Callable[[Release], bool] | None = None,
) -> tuple[Variant, str | None]:
    """The best variant for `machine` and Python `python` ("313"), and why it leaves a GPU idle, None where it does not.

    With `torch` or the release `torchvision` it is one that goes with that torch's CUDA; with neither, one whose torch
    the package registry has, and of a track of which `available` says that some release's source can be had; where that
    is no track, the best. Raises BadInput where nothing fits.
    """
    cuda = torch.cuda if torch else release_named(torchvision).torch_cuda(machine.platform) if torchvision else None
    named = torch is not None or torchvision is not None

    def buildable(variant: Variant) -> bool:
        if variant.track == CPU:
            return True
        return variant.cuda == cuda if named else published_torch_serves(variant)

    variants = [variant for variant in enumerate_variants(python, TRACKS, None) if buildable(variant)]
    ranked = choose(machine, variants)
    best = ranked[0]
    if available is not None and not named:
        reach = (choice for choice in ranked if choice.fits and newest(choice.variant, available=available))
        best = next(reach, best)
    if machine.glibc is None:
        raise BadInput(
            f"Choose a variant for this {machine.platform} machine",
            f"{best.why[0].upper()}{best.why[1:]}.",
            "Build and run it where there is glibc, such as in an image of Debian.",
        )
    if not best.fits:
        raise BadInput(
            f"Choose a variant for this {machine.platform} machine",
            f"Its processor ({machine.cpu.model}) has the features of no ISA of the matrix.",
            "Install the stock wheel: `pip install torchvision`.",
        )
    if best.variant.cuda or machine.gpu is None:
        return best.variant, None
    return (
        best.variant,
        f"{machine.gpu.name} ({machine.gpu.capability}) stays idle: {_why(machine, python, cuda, named)}",
    )


def _why(machine: Machine, python: str, cuda: str | None, named: bool) -> str:
    """Why no CUDA variant is built for the machine's GPU, one sentence without its subject."""
    assert machine.gpu is not None
    every = [variant for variant in enumerate_variants(python, TRACKS, None) if variant.cuda]
    own = [choice for choice in choose(machine, every) if choice.variant.sm == machine.gpu.sm]
    fitting = [choice.variant for choice in own if choice.fits]
    if named and fitting:
        what = f"the torch that was named is built with CUDA {cuda}" if cuda else "the torch that was named is CPU-only"
        return f"{what}; {fitting[0].short}, without --torch and --torchvision, needs one of CUDA {fitting[0].cuda}."
    if fitting and published_torch_serves(fitting[0]):
        return f"the source of no release for {fitting[0].track} can be had here; name one with --source."
    if fitting:
        return f"no published torch goes with {fitting[0].short}; name one with --torch."
    return f"{own[0].why}." if own else f"no toolkit makes code for capability {machine.gpu.capability}."

"""Whether a wheel's device code runs on the GPUs that are here: judged from its images, before anything is launched."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from build_torchvision.binary.fatbin import images
from build_torchvision.compatibility import CodegenKind, Sm, support, support_of_all, toolkit_support
from build_torchvision.errors import MissingInput
from build_torchvision.facts import gpus, toolkits, version_key
from build_torchvision.flags import cuda_codegen
from build_torchvision.variants import Variant
from build_torchvision.verify.checks import Check

Group = Collection[tuple[str, str]]
"""The images of one fat binary: ("cubin", "sm90"), ("ptx", "sm80")."""


@dataclass(frozen=True, kw_only=True)
class VisibleGpu:
    """A GPU of this machine: its place in the PCI bus's order, its name, its compute capability ("9.0")."""

    index: int
    name: str
    capability: str

    def __str__(self) -> str:
        return f"{self.name} ({self.capability})"


@dataclass(frozen=True, kw_only=True)
class GpuHost:
    """The GPUs of this machine and their driver ("580.65"); `trouble` says why none is known."""

    gpus: tuple[VisibleGpu, ...] = ()
    driver: str | None = None
    trouble: str | None = None

    def visible(self, environ: Mapping[str, str]) -> GpuHost:
        """Only those that CUDA_VISIBLE_DEVICES names by number; names by UUID are left to the driver."""
        listed = environ.get("CUDA_VISIBLE_DEVICES")
        if listed is None or not all(part.strip().lstrip("-").isdigit() for part in listed.split(",") if part):
            return self
        numbers = {int(part) for part in listed.split(",") if part}
        kept = tuple(gpu for gpu in self.gpus if gpu.index in numbers)
        trouble = None if kept else self.trouble or f"CUDA_VISIBLE_DEVICES={listed} names none of them"
        return GpuHost(gpus=kept, driver=self.driver, trouble=trouble)

    def require(self, what: str) -> None:
        """Raises MissingInput where there is no GPU."""
        if not self.gpus:
            raise MissingInput(
                f"Verify {what} on a GPU",
                f"no NVIDIA GPU is known here ({self.trouble or 'the driver lists none'}).",
                "Leave out --device to verify what can be verified without one, or run this where the GPU is.",
            )


def groups_of(extensions: Mapping[str, bytes]) -> tuple[Group, ...]:
    """The images of every fat binary in the shared objects. Raises fatbin.BadFatbin."""
    return tuple(
        frozenset((image.kind, image.sm) for image in group)
        for data in extensions.values()
        for group in images(data, contents=False)
    )


def choose(groups: Sequence[Group], host: GpuHost) -> tuple[VisibleGpu, CodegenKind] | None:
    """The GPU to run on, cubins before PTX, and how it is served there; None where none of them is."""
    served = [(gpu, kind) for gpu in host.gpus if (kind := support_of_all(groups, Sm.parse(gpu.capability)))]
    return min(served, key=lambda pair: (pair[1] == "ptx", pair[0].index), default=None)


def check_gpu(
    groups: Sequence[Group], variant: Variant, host: GpuHost
) -> tuple[Check, tuple[VisibleGpu, CodegenKind] | None]:
    """(Whether a GPU and its driver run `variant`'s device code and which variant would, the choice if they do)."""
    chosen, floor = choose(groups, host), variant.driver_floor
    if chosen is None:
        words = {"ptx": "PTX", "cubin": "a cubin"}
        carried = sorted({f"{words[kind]} for {sm}" for group in groups for kind, sm in group})
        problems = [
            f"{gpu} cannot run it: it carries {' and '.join(carried) or 'no device code'}. {advice(variant, gpu)}"
            for gpu in host.gpus
        ]
        return Check.of("GPU", problems, ""), None
    gpu, kind = chosen
    if host.driver and floor and version_key(host.driver) < version_key(floor):
        problem = f"driver {host.driver} is older than {floor}, the oldest that runs {variant}; install a newer one"
        return Check(name="GPU", ok=False, detail=problem), None
    how = "runs its cubins" if kind != "ptx" else "has no cubin here: its driver compiles the PTX"
    return Check(name="GPU", ok=True, detail=f"{gpu} {how}; driver {host.driver or 'not named'}"), chosen


def advice(variant: Variant, gpu: VisibleGpu) -> str:
    """The variant like `variant` that runs on `gpu`, one sentence."""
    found = [
        ((how != "ptx", track == variant.track, Sm.parse(sm), version_key(toolkit.version), not ptx), other, ptx)
        for track, toolkit in toolkits().items()
        for sm in gpus()
        if toolkit_support(track, sm) and Sm.parse(sm) <= Sm.parse(gpu.capability)
        for other in (Variant(python=variant.python, track=track, sm=sm, isa=variant.isa),)
        for ptx in (False, True)
        if (made := cuda_codegen(other, ptx=ptx)) and (how := support(made.images, Sm.parse(gpu.capability)))
    ]
    if not found:
        return f"No variant of the matrix runs on capability {gpu.capability}."
    _, best, ptx = max(found, key=lambda item: item[0])
    return f"{best}{' built with --ptx' if ptx else ''} would run there."

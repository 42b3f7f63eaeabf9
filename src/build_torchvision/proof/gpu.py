"""Whether a wheel's device code runs on the GPUs that are here: judged from its images, before anything is launched."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from build_torchvision.codegen import cuda_codegen, driver_floor
from build_torchvision.errors import MissingInput
from build_torchvision.facts import gpus, toolkits, version_key
from build_torchvision.proof.checks import Check
from build_torchvision.proof.fatbin import images
from build_torchvision.variants import Variant, service

Way = Literal["cubin", "ptx"]
Group = Collection[tuple[str, str]]
"""The images of one fat binary: ("cubin", "sm90"), ("ptx", "sm80")."""


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU of this machine: its place in the PCI bus's order, its name, its compute capability ("9.0")."""

    index: int
    name: str
    capability: str

    def __str__(self) -> str:
        return f"{self.name} ({self.capability})"


@dataclass(frozen=True, kw_only=True)
class Host:
    """The GPUs of this machine and their driver ("580.65"); `trouble` says why none is known."""

    gpus: tuple[Gpu, ...] = ()
    driver: str | None = None
    trouble: str | None = None

    def visible(self, environ: Mapping[str, str]) -> Host:
        """Only those that CUDA_VISIBLE_DEVICES names by number; names by UUID are left to the driver."""
        listed = environ.get("CUDA_VISIBLE_DEVICES")
        if listed is None or not all(part.strip().lstrip("-").isdigit() for part in listed.split(",") if part):
            return self
        numbers = {int(part) for part in listed.split(",") if part}
        kept = tuple(gpu for gpu in self.gpus if gpu.index in numbers)
        trouble = None if kept else self.trouble or f"CUDA_VISIBLE_DEVICES={listed} names none of them"
        return Host(gpus=kept, driver=self.driver, trouble=trouble)

    def require(self, what: str) -> None:
        """Raises MissingInput where there is no GPU."""
        if not self.gpus:
            raise MissingInput(
                f"Verify {what} on a GPU",
                f"no NVIDIA GPU is known here ({self.trouble or 'the driver lists none'}).",
                "Leave out --device to prove what can be proved without one, or run this where the GPU is.",
            )


def groups_of(extensions: Mapping[str, bytes]) -> tuple[Group, ...]:
    """The images of every fat binary in the shared objects. Raises fatbin.BadFatbin."""
    return tuple(
        frozenset((image.kind, image.sm) for image in group)
        for data in extensions.values()
        for group in images(data, contents=False)
    )


def way(groups: Sequence[Group], capability: str) -> Way | None:
    """How device code is served on a GPU: by cubins, by compiling PTX, or not at all (one fat binary is enough).

    A cubin for X.y runs on X.z with z >= y and on no other major version; PTX for X.y is compiled for any capability
    >= X.y (CUDA programming guide, "Application compatibility"). Tegra's cubins and other GPUs' serve only themselves.
    Code of an SM ending in a runs on that one alone, in f in its family.
    """
    found = {_way(group, capability) for group in groups}
    if not found or None in found:
        return None
    return "ptx" if "ptx" in found else "cubin"


def _way(group: Group, capability: str) -> Way | None:
    want = version_key(capability)
    own = "sm" + capability.replace(".", "")
    cubins, texts = ({sm for kind, sm in group if kind == wanted} for wanted in ("cubin", "ptx"))
    if any(
        reaches(sm, want) and (number(sm) == want or not _tegra(sm, own)) for sm in cubins if number(sm)[0] == want[0]
    ):
        return "cubin"
    return "ptx" if any(reaches(sm, want) for sm in texts) else None


def reaches(sm: str, want: tuple[int, ...]) -> bool:
    """Whether code for `sm` may run on capability `want`: "sm90a" on 9.0 alone, "sm100f" on 10.x from 10.0."""
    if sm.endswith("a"):
        return number(sm) == want
    return number(sm) <= want and (not sm.endswith("f") or number(sm)[0] == want[0])


def _tegra(*sms: str) -> bool:
    return any(sm in gpus() and gpus()[sm].tegra for sm in sms)


def number(sm: str) -> tuple[int, int]:
    """As a capability: "sm103a" -> (10, 3)."""
    digits = sm.removeprefix("sm").rstrip("af")
    return int(digits[:-1]), int(digits[-1])


def choose(groups: Sequence[Group], host: Host) -> tuple[Gpu, Way] | None:
    """The GPU to run on, cubins before PTX, and how it is served there; None where none of them is."""
    served = [(gpu, found) for gpu in host.gpus if (found := way(groups, gpu.capability))]
    return min(served, key=lambda pair: (pair[1] != "cubin", pair[0].index), default=None)


def check_gpu(groups: Sequence[Group], variant: Variant, host: Host) -> tuple[Check, tuple[Gpu, Way] | None]:
    """(Whether a GPU and its driver run `variant`'s device code and which variant would, the choice if they do)."""
    chosen, floor = choose(groups, host), driver_floor(variant)
    if chosen is None:
        words = {"ptx": "PTX", "cubin": "a cubin"}
        carried = sorted({f"{words[kind]} for {sm}" for group in groups for kind, sm in group})
        problems = [
            f"{gpu} cannot run it: it carries {' and '.join(carried) or 'no device code'}. {advice(variant, gpu)}"
            for gpu in host.gpus
        ]
        return Check.of("GPU", problems, ""), None
    gpu, found = chosen
    if host.driver and floor and version_key(host.driver) < version_key(floor):
        problem = f"driver {host.driver} is older than {floor}, the oldest that runs {variant}; install a newer one"
        return Check(name="GPU", ok=False, detail=problem), None
    how = "runs its cubins" if found == "cubin" else "has no cubin here: its driver compiles the PTX"
    return Check(name="GPU", ok=True, detail=f"{gpu} {how}; driver {host.driver or 'not named'}"), chosen


def advice(variant: Variant, gpu: Gpu) -> str:
    """The variant like `variant` that runs on `gpu`, one sentence."""
    found = [
        ((how == "cubin", track == variant.track, number(sm), version_key(toolkit.version), not ptx), other, ptx)
        for track, toolkit in toolkits().items()
        for sm in gpus()
        if service(track, sm) and number(sm) <= version_key(gpu.capability)
        for other in (Variant(python=variant.python, track=track, sm=sm, isa=variant.isa),)
        for ptx in (False, True)
        if (made := cuda_codegen(other, ptx=ptx)) and (how := way((made.images,), gpu.capability))
    ]
    if not found:
        return f"No variant of the matrix runs on capability {gpu.capability}."
    _, best, ptx = max(found, key=lambda item: item[0])
    return f"{best}{' built with --ptx' if ptx else ''} would run there."

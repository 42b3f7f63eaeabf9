"""What to build and install on a machine: the best variant, those behind it, and the commands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from build_torchvision.choose.builds import Build, NoBuild, plan_build
from build_torchvision.choose.partner import newer_notes, partner_sentence
from build_torchvision.choose.ranking import Choice, choose, driver_is_older, goes_with, support_on
from build_torchvision.compatibility import same_cuda_major
from build_torchvision.errors import BadInput
from build_torchvision.facts import PLATFORMS, Release, gpus, toolkits, version_key
from build_torchvision.machine.cpu import missing_features, platform_isas
from build_torchvision.machine.environment import Backend, InstalledPackage
from build_torchvision.machine.report import GpuFound, Machine
from build_torchvision.variants import (
    CPU,
    DEFAULT_PYTHON,
    DEFAULT_TRACKS,
    PYTHONS,
    TRACKS,
    enumerate_variants,
)

SEED_TRACK = DEFAULT_TRACKS[0]


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A choice with the release it is built as and the commands for it; both None where `build` would refuse."""

    choice: Choice
    release: Release | None
    build: str | None
    install: str | None
    needs: str | None
    """What has to change first, or why it cannot be built, one sentence."""
    plan: Build | None = None
    """The build that `build` and `install` stand for."""


@dataclass(frozen=True, kw_only=True)
class Advice:
    """The answer to "what fits this machine".

    `seed` is the default track's offer, `called_for` that of the track which the driver and the installed torch call
    for: each may be `best` itself. All three are None where no variant runs, and `notes` says why.
    """

    python: str
    best: Offer | None
    seed: Offer | None
    called_for: Offer | None
    runners_up: tuple[Choice, ...]
    unfit: tuple[Choice, ...]
    per_gpu: tuple[tuple[GpuFound, Choice | None], ...]
    notes: tuple[str, ...]


def advise(machine: Machine, python: str | None = None) -> Advice:
    """What to build on `machine`: for its environment's Python, else `python` ("313"), else the default matrix's.

    An environment whose Python is not one of the matrix gets no variant and a note that says so. Raises BadInput where
    `python` is not one of the matrix.
    """
    version = machine.environment.python if machine.environment else python or DEFAULT_PYTHON
    if version not in PYTHONS and machine.environment is not None:
        return _without_variant(machine, version)
    if version not in PYTHONS:
        raise BadInput(
            f"Choose a variant for Python {version[0]}.{version[1:]}",
            f"the matrix has {', '.join(f'{p[0]}.{p[1:]}' for p in PYTHONS)}.",
            "Name another environment with --python.",
        )
    universe = enumerate_variants(version, TRACKS, None)
    by_gpu = {gpu.capability: (gpu, choose(machine, universe, gpu)) for gpu in machine.gpus}
    served = [gpu for gpu, ranked in by_gpu.values() if _on_gpu(ranked)]
    # Not the newest that is here: that may be served by nothing.
    chip = max(served, key=lambda gpu: version_key(gpu.capability), default=None)
    ranked = choose(machine, universe, chip)
    best = _best(machine, ranked)
    seed = _first(choose(_without_torch(machine), universe, chip), SEED_TRACK if machine.gpus else CPU)
    called = _called_for(machine, ranked, best)
    per_gpu = {capability: (gpu, _on_gpu(found)) for capability, (gpu, found) in by_gpu.items()}
    return Advice(
        python=version,
        best=_offer(machine, best),
        seed=_offer(machine, seed),
        called_for=_offer(machine, called),
        runners_up=tuple(choice for choice in ranked if choice.fits and choice is not best),
        unfit=tuple(choice for choice in ranked if not choice.fits),
        per_gpu=tuple(per_gpu.values()),
        notes=tuple(_notes(machine, best, per_gpu)),
    )


def _without_variant(machine: Machine, version: str) -> Advice:
    """The answer for an environment whose Python is not one of the matrix."""
    known = f"{PYTHONS[0][0]}.{PYTHONS[0][1:]} to {PYTHONS[-1][0]}.{PYTHONS[-1][1:]}"
    dotted = f"{version[0]}.{version[1:]}"
    notes = [f"There is no variant for Python {dotted}: they are built for {known}.", *_torch_notes(machine)]
    return Advice(
        python=version,
        best=None,
        seed=None,
        called_for=None,
        runners_up=(),
        unfit=(),
        per_gpu=tuple((gpu, None) for gpu in machine.gpus),
        notes=tuple(notes),
    )


def _on_gpu(ranked: list[Choice]) -> Choice | None:
    """The best of `ranked` where it fits and has GPU code."""
    return ranked[0] if ranked[0].fits and ranked[0].variant.cuda else None


def _without_torch(machine: Machine) -> Machine:
    if machine.environment is None:
        return machine
    return replace(machine, environment=replace(machine.environment, torch=None))


def _first(choices: list[Choice], track: str) -> Choice | None:
    return next((choice for choice in choices if choice.fits and choice.variant.track == track), None)


def _called_for(machine: Machine, ranked: list[Choice], best: Choice | None) -> Choice | None:
    """The best of the track that torch was built with; without a torch, of the newest that the driver itself is of.

    A driver runs later minor releases of its CUDA too, so where no track is as old as the driver, the oldest one that
    fits is called for.
    """
    fitting = [choice for choice in ranked if choice.fits]
    torch = machine.environment.torch if machine.environment else None
    if not fitting or torch is not None or not fitting[0].variant.cuda or machine.driver_cuda is None:
        return best
    on_gpu = [choice for choice in fitting if choice.variant.cuda]
    own = [c for c in on_gpu if c.variant.cuda and version_key(c.variant.cuda) <= version_key(machine.driver_cuda)]
    best_kind = next((choice.kind for choice in own), None)
    tracks = [choice.variant.track for choice in own if choice.kind == best_kind]
    order = list(toolkits()).index
    return _first(on_gpu, max(tracks, key=order) if tracks else min((c.variant.track for c in on_gpu), key=order))


def _offer(machine: Machine, choice: Choice | None) -> Offer | None:
    """`choice` with its commands, if `plan` accepts them; without them and with the reason where it refuses."""
    if choice is None:
        return None
    torch = machine.environment.torch if machine.environment else None
    beside = torch is None or goes_with(torch, choice.variant)
    planned = plan_build(machine, choice.variant, beside_torch=beside)
    if isinstance(planned, NoBuild):
        return Offer(choice=choice, release=None, build=None, install=None, needs=planned.reason)
    needs = None
    if not beside and torch is not None:
        needs = (
            f"It goes with torch {planned.release.torch} of CUDA {choice.variant.cuda}; torch {torch.version} is here."
        )
    return Offer(
        choice=choice,
        release=planned.release,
        build=str(planned.command),
        install=str(command) if (command := planned.install()) else None,
        needs=needs,
        plan=planned,
    )


def _best(machine: Machine, ranked: list[Choice]) -> Choice | None:
    """The first that fits; of those with GPU code the first that can also be built, if there is one."""
    fitting = [choice for choice in ranked if choice.fits]
    on_gpu: dict[tuple[str, str | None], Choice] = {}
    for choice in fitting:
        if choice.variant.cuda:
            on_gpu.setdefault((choice.variant.track, choice.variant.sm), choice)
    buildable = (choice for choice in on_gpu.values() if isinstance(plan_build(machine, choice.variant), Build))
    return next(buildable, fitting[0] if fitting else None)


def _notes(
    machine: Machine,
    best: Choice | None,
    per_gpu: dict[str, tuple[GpuFound, Choice | None]],
) -> Iterator[str]:
    environment = machine.environment
    torch = environment.torch if environment else None
    if machine.platform not in PLATFORMS:
        yield (
            f"PyTorch publishes no wheels for {machine.platform}, so there is no variant for it: torch and torchvision "
            "come from the distribution, or are built from source."
        )
    elif best is None and machine.cpu.isa is None:
        lowest = platform_isas(machine.platform)[0].name
        yield (
            f"No variant runs on this processor ({machine.cpu.model}, {machine.platform}): it lacks "
            f"{', '.join(missing_features(lowest, machine.cpu))}. Take the stock wheel"
            + (", `pip install torchvision`." if environment is None else f". {_partner(machine)}" if torch else ".")
        )
    own = environment.torchvision if environment else None
    if own is not None and best is not None and own.variant == str(best.variant):
        yield f"{own.variant} is installed there already."
    yield from _torch_notes(machine)
    if best is not None and best.variant.cuda and torch is not None and best.variant.cuda != torch.cuda:
        yield (
            f"torch {torch.version} was built with CUDA {torch.cuda}, and {best.variant.track} is the track for it: "
            "code of one CUDA major version runs beside a torch of the same."
        )
    for gpu, choice in per_gpu.values():
        yield from _unknown(gpu, choice)
        if choice is None and gpu.sm is not None:
            yield from _unserved(machine, gpu, torch)
    if len(per_gpu) > 1 and best is not None and best.variant.cuda:
        yield from _several(best, per_gpu)
    if machine.gpus and machine.driver is None:
        yield "The NVIDIA driver's version could not be read, so its floors were not checked."


def _torch_notes(machine: Machine) -> Iterator[str]:
    """What the installed torch decides, whatever the variant."""
    environment = machine.environment
    torch = environment.torch if environment else None
    if environment is None or torch is None:
        return
    yield from newer_notes(torch)
    if torch.kind not in (Backend.CPU, Backend.CUDA):
        yield f"torch {torch.version} is {torch.kind.build}, which no variant goes with. {_partner(machine)}"
        return
    if torch.kind is Backend.CUDA and not any(same_cuda_major(torch.cuda, kit.version) for kit in toolkits().values()):
        yield f"torch {torch.version} was built with CUDA {torch.cuda}, which is no track of the matrix."
    yield from idle_notes(torch, machine)
    if torch.kind is Backend.CUDA and not machine.gpus:
        yield (
            f"torch {torch.version} is built with CUDA, and no GPU is visible here. A variant without GPU code works "
            "here; on a machine with a GPU its operators stop with \"Could not run 'torchvision::nms' with arguments "
            f"from the 'CUDA' backend\". {_partner(machine)}"
        )


def idle_notes(torch: InstalledPackage, machine: Machine) -> Iterator[str]:
    """What to say of a torch without CUDA where an NVIDIA GPU is."""
    if torch.kind is Backend.CPU and machine.gpus:
        yield f"torch {torch.version} is a CPU-only build, so the GPU stays idle; a torch with CUDA would change this."


def _partner(machine: Machine) -> str:
    assert machine.environment is not None
    return partner_sentence(machine.environment, machine.platform)


def _unknown(gpu: GpuFound, choice: Choice | None) -> Iterator[str]:
    """What to know of a GPU that the tables have no row for."""
    if gpu.sm is not None:
        return
    newest = list(toolkits().values())[-1].version
    if version_key(gpu.capability) > max(version_key(row.capability) for row in gpus().values()):
        yield (
            f"{gpu.name} ({gpu.capability}) is newer than CUDA {newest}, the newest toolkit that this version knows: "
            "the track of the toolkit that first lists it will serve it natively."
        )
    if choice is not None:
        sm = choice.variant.sm
        yield f"{gpu.name} ({gpu.capability}) is not in the tables; {sm} code runs there as {choice.kind}."
    elif version_key(gpu.capability)[0] <= max(version_key(row.capability)[0] for row in gpus().values()):
        yield f"{gpu.name} ({gpu.capability}) is served by no track: none makes code that runs there."


def _unserved(machine: Machine, gpu: GpuFound, torch: InstalledPackage | None) -> Iterator[str]:
    """Why a GPU that the tables know gets no variant; that torch is no CUDA build is a note of its own."""
    floors = [
        floor
        for variant in enumerate_variants(python=DEFAULT_PYTHON, tracks=TRACKS, sms=(gpu.sm or "",))
        if (floor := variant.driver_floor)
    ]
    lowest = min(floors, key=version_key, default=None)
    if lowest and machine.driver and driver_is_older(machine, lowest):
        yield f"Driver {machine.driver} is too old for every track: {gpu.name} needs {lowest} or newer."
    elif torch is None:
        yield f"{gpu.name} ({gpu.capability}) is served by no track that runs here."
    elif torch.kind is Backend.CUDA:
        assert machine.environment is not None
        variants = enumerate_variants(machine.environment.python, TRACKS, (gpu.sm or "",))
        bare = choose(_without_torch(machine), variants, gpu)
        versions = sorted({one.variant.cuda for one in bare if one.fits and one.variant.cuda}, key=version_key)
        yield f"{gpu.name} ({gpu.capability}) gets no variant beside torch {torch.version} of CUDA {torch.cuda}" + (
            f": a torch of CUDA {', '.join(versions)} would change this." if versions else "."
        )


def _several(best: Choice, per_gpu: dict[str, tuple[GpuFound, Choice | None]]) -> Iterator[str]:
    first = next(gpu for gpu, choice in per_gpu.values() if choice and choice.variant.sm == best.variant.sm)
    yield f"This machine has several kinds of GPU; the choice is for the most capable, {first.name}."
    for gpu, choice in per_gpu.values():
        kind = support_on(best.variant, gpu)
        if gpu is first or choice is None:
            continue
        if kind is None:
            yield f"{best.variant.sm} code does not run on {gpu.name} ({gpu.capability}): take {choice.variant} there."
        else:
            yield f"On {gpu.name} ({gpu.capability}) {best.variant.sm} code runs as {kind}."
    shared = [
        choice.variant
        for _, choice in per_gpu.values()
        if choice and all(support_on(choice.variant, gpu) for gpu, _ in per_gpu.values())
    ]
    if shared and shared[0] != best.variant:
        yield f"{shared[0]} runs on all of them."
    elif not shared:
        yield "No one variant runs on all of them: a cubin runs on one major version only."


def advice_json(advice: Advice) -> dict[str, Any]:
    """The advice as `detect --json` prints it: the documented, stable shape."""
    return {
        "python": advice.python,
        "best": _offer_json(advice.best),
        "seed": _offer_json(advice.seed),
        "called_for": _offer_json(advice.called_for),
        "per_gpu": [
            {"gpu": gpu.name, "capability": gpu.capability, "variant": choice and str(choice.variant)}
            for gpu, choice in advice.per_gpu
        ],
        "runners_up": [_choice_json(choice) for choice in advice.runners_up],
    }


def _offer_json(offer: Offer | None) -> dict[str, Any] | None:
    if offer is None:
        return None
    return {
        **_choice_json(offer.choice),
        "torchvision": offer.release and offer.release.torchvision,
        "torch": offer.release and offer.release.torch,
        "build": offer.build,
        "install": offer.install,
        "needs": offer.needs,
    }


def _choice_json(choice: Choice) -> dict[str, Any]:
    return {"variant": str(choice.variant), "kind": choice.kind, "why": choice.why}

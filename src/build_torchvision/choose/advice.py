"""What to build and install on a machine: the best variant, those behind it, and the commands."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace

from build_torchvision.choose.ranking import Choice, choose, driver_is_older, support_on
from build_torchvision.errors import BadInput
from build_torchvision.facts import Release, gpus, releases, toolkits, version_key
from build_torchvision.machine.report import GpuFound, Machine
from build_torchvision.releases import newest
from build_torchvision.spec import local_version
from build_torchvision.variants import (
    CPU,
    DEFAULT_PYTHON,
    DEFAULT_TRACKS,
    PYTHONS,
    TRACKS,
    Variant,
    enumerate_variants,
)

SEED_TRACK = DEFAULT_TRACKS[0]


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A choice with the release it is built as (None: no published torch goes with it) and the commands for it."""

    choice: Choice
    release: Release | None
    build: str
    install: str
    needs: str | None
    """What has to change first, one sentence."""


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

    Raises BadInput where the Python is not one of the matrix.
    """
    version = machine.environment.python if machine.environment else python or DEFAULT_PYTHON
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
    best = ranked[0] if ranked[0].fits else None
    seed = _first(choose(_without_torch(machine), universe, chip), SEED_TRACK if machine.gpus else CPU)
    called = _called_for(machine, ranked)
    per_gpu = {capability: (gpu, _on_gpu(found)) for capability, (gpu, found) in by_gpu.items()}
    return Advice(
        python=version,
        best=_offer(machine, best),
        seed=_offer(machine, seed),
        called_for=_offer(machine, called),
        runners_up=tuple(choice for choice in ranked[1:] if choice.fits),
        unfit=tuple(choice for choice in ranked if not choice.fits),
        per_gpu=tuple(per_gpu.values()),
        notes=tuple(_notes(machine, best, per_gpu)),
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


def _called_for(machine: Machine, ranked: list[Choice]) -> Choice | None:
    """The best of the track that torch was built with; without a torch, of the newest that the driver itself is of.

    A driver runs later minor releases of its CUDA too, so where no track is as old as the driver, the oldest one that
    fits is called for.
    """
    fitting = [choice for choice in ranked if choice.fits]
    torch = machine.environment.torch if machine.environment else None
    if not fitting or torch is not None or not fitting[0].variant.cuda or machine.driver_cuda is None:
        return fitting[0] if fitting else None
    on_gpu = [choice for choice in fitting if choice.variant.cuda]
    own = [c for c in on_gpu if c.variant.cuda and version_key(c.variant.cuda) <= version_key(machine.driver_cuda)]
    best_kind = next((choice.kind for choice in own), None)
    tracks = [choice.variant.track for choice in own if choice.kind == best_kind]
    order = list(toolkits()).index
    return _first(on_gpu, max(tracks, key=order) if tracks else min((c.variant.track for c in on_gpu), key=order))


def _offer(machine: Machine, choice: Choice | None) -> Offer | None:
    if choice is None:
        return None
    release, needs = _release_for(machine, choice.variant)
    python = _python_command(machine, choice.variant)
    default = newest(choice.variant)
    shown = release or default or list(releases().values())[-1]
    local = local_version(choice.variant, paired=True)
    tag = f"cp{choice.variant.python}"
    named = [] if shown is default else ["--torchvision", shown.torchvision]
    build = ["build-torchvision", "build", str(choice.variant), *named]
    return Offer(
        choice=choice,
        release=release,
        build=shlex.join(build) + ("" if release else " --torch SITE_PACKAGES"),
        install=f"{python} -m pip install dist/torchvision-{shown.torchvision}+{local}-{tag}-{tag}-*.whl",
        needs=needs,
    )


def _python_command(machine: Machine, variant: Variant) -> str:
    if machine.environment is not None:
        return shlex.quote(str(machine.environment.executable))
    return f"python{variant.python_version}"


def _release_for(machine: Machine, variant: Variant) -> tuple[Release | None, str | None]:
    """The release to build `variant` as, and what is missing for it."""
    usable = [row for row in releases().values() if variant.python in row.pythons and row.sha256]
    torch = machine.environment.torch if machine.environment else None
    if torch is not None and variant.cuda in (None, torch.cuda):  # a CPU variant goes with a CUDA torch too
        paired = next((row for row in usable if row.torch == torch.public), None)
        if paired is not None:
            return paired, None
    if variant.cuda is None and torch is None:
        return newest(variant) or usable[-1], None
    fitting = [row for row in usable if variant.cuda is None or row.torch_cuda(variant.platform) == variant.cuda]
    if not fitting:
        return None, (
            f"No torch for {variant.platform} with CUDA {variant.cuda} is in the registry: name one with --torch."
        )
    chosen = fitting[-1]
    if torch is None:
        return chosen, None
    return chosen, (
        f"torch {torch.version} does not go with it: first `{_python_command(machine, variant)} -m pip install "
        f"torch=={chosen.torch}`."
    )


def _notes(
    machine: Machine,
    best: Choice | None,
    per_gpu: dict[str, tuple[GpuFound, Choice | None]],
) -> Iterator[str]:
    environment = machine.environment
    torch = environment.torch if environment else None
    if best is None:
        yield (
            f"No variant runs on this processor ({machine.cpu.model}, {machine.platform}): "
            "take the stock wheel, `pip install torchvision`."
        )
    own = environment.torchvision if environment else None
    if own is not None and best is not None and own.variant == str(best.variant):
        yield f"{own.variant} is installed there already."
    if torch is not None and torch.cuda and not any(row.version == torch.cuda for row in toolkits().values()):
        yield f"torch {torch.version} was built with CUDA {torch.cuda}, which is no track of the matrix."
    if torch is not None and not torch.cuda and machine.gpus:
        yield f"torch {torch.version} is a CPU-only build, so the GPU stays idle; a torch with CUDA would change this."
    for gpu, choice in per_gpu.values():
        yield from _unknown(gpu, choice)
        if choice is None and gpu.sm is not None:
            yield from _unserved(machine, gpu, torch is not None)
    if len(per_gpu) > 1 and best is not None and best.variant.cuda:
        yield from _several(best, per_gpu)
    if machine.gpus and machine.driver is None:
        yield "The NVIDIA driver's version could not be read, so its floors were not checked."


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


def _unserved(machine: Machine, gpu: GpuFound, has_torch: bool) -> Iterator[str]:
    """Why a GPU that the tables know gets no variant; a torch that decides it is a note of its own."""
    floors = [
        floor
        for variant in enumerate_variants(python=DEFAULT_PYTHON, tracks=TRACKS, sms=(gpu.sm or "",))
        if (floor := variant.driver_floor)
    ]
    lowest = min(floors, key=version_key, default=None)
    if lowest and machine.driver and driver_is_older(machine, lowest):
        yield f"Driver {machine.driver} is too old for every track: {gpu.name} needs {lowest} or newer."
    elif not has_torch:
        yield f"{gpu.name} ({gpu.capability}) is served by no track that runs here."


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

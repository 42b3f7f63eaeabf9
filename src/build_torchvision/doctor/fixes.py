"""Plan the one command that mends an environment: which TorchVision belongs there, and how to get it there.

A torch keeps its version and its kind wherever it can. A build is offered only where `plan` accepts it
(`choose.builds`), a wheel only where the tables name its release and its index (`choose.partner`). Where no command
helps, the remedy says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

from packaging.utils import canonicalize_name

from build_torchvision.choose.advice import advise
from build_torchvision.choose.builds import Build, plan_build
from build_torchvision.choose.commands import Command, install
from build_torchvision.choose.partner import (
    REPLACE,
    NoPartner,
    Partner,
    conda_install,
    install_partner,
    pair_of_line,
    partner_of,
)
from build_torchvision.choose.ranking import driver_is_older, goes_with
from build_torchvision.compatibility import serves, toolkit_support
from build_torchvision.errors import BadInput
from build_torchvision.facts import Release, releases, toolkits
from build_torchvision.facts.driver_packages import driver_packages
from build_torchvision.facts.wheel_indexes import wheel_index
from build_torchvision.machine.cpu import missing_features
from build_torchvision.machine.distributions import (
    MOST_REQUIREMENTS,
    Distribution,
    applies,
    find_distributions,
    parsed_requirement,
)
from build_torchvision.machine.environment import Backend, InstalledPackage, PythonEnvironment
from build_torchvision.machine.report import GpuFound, Machine
from build_torchvision.variants import parse

CUDA_TOOLKIT = "cuda-toolkit"
"""The package that pins the toolkit's libraries for torch from 2.11 on, those whose names have no suffix -cu13."""
IN_STORE = (
    "It lies in a Nix store, where nothing can be installed: put torch and torchvision of one package set into the "
)
IN_STORE += "environment, such as python3.withPackages (ps: [ ps.torch ps.torchvision ])."


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """What mends a fault: a command, or None where none helps; `note` says why, or what else to know about it."""

    command: Command | None
    note: str | None = None


def nothing(note: str) -> Remedy:
    """No command helps, and why."""
    return Remedy(command=None, note=note)


def run(*words: str, note: str | None = None) -> Remedy:
    """One command of these words."""
    return Remedy(command=Command.of(*words), note=note)


def matching_torchvision(machine: Machine, *, installed: str | None = None) -> Remedy:
    """A TorchVision for the torch that is there, which stays.

    `installed` is the variant that this project built and that is to be replaced, if it did: then one is built again.
    Else it is the published wheel, from torch's own index; beside a CUDA torch on a machine with a GPU a variant, where
    no published wheel has GPU code.
    """
    environment = _environment(machine)
    torch = environment.torch
    assert torch is not None
    partner = partner_of(torch, machine.platform)
    if environment.installer == "none":
        return nothing(IN_STORE)
    own = _editable(environment)
    if own is not None:
        return own
    wheel = _wheel(environment, partner)
    if torch.kind not in (Backend.CPU, Backend.CUDA):
        return wheel
    on_gpu = torch.kind is Backend.CUDA and bool(machine.gpus)
    build = _same_variant(machine, torch, installed) if installed else None
    build = build or _best_build(machine, on_gpu=on_gpu)
    if build is None:
        return _same_line(machine, torch, wheel)
    bare = on_gpu and isinstance(partner, Partner) and not partner.gpu_code
    if installed or bare or (wheel.command is None and (on_gpu or torch.kind is Backend.CPU)):
        return _built(build)
    return _same_line(machine, torch, wheel)


def variant_for(machine: Machine, *, wheel_helps: bool) -> Remedy:
    """Build and install the variant that fits this machine and the environment's torch.

    Where none can be built it is the published wheel, if that has not the same fault (`wheel_helps`).
    """
    environment = _environment(machine)
    torch = environment.torch
    assert torch is not None
    if environment.installer == "none":
        return nothing(IN_STORE)
    on_gpu = torch.kind is Backend.CUDA and bool(machine.gpus)
    build = _best_build(machine, on_gpu=on_gpu)
    if build is not None:
        return _built(build)
    if wheel_helps:
        return _wheel(environment, partner_of(torch, machine.platform))
    return nothing(f"No variant can be built here: {_why_not(machine)} The published wheel has the same fault.")


def both(machine: Machine) -> Remedy:
    """torch and TorchVision, where neither is there: a variant for this machine, with the torch that it requires."""
    environment = _environment(machine)
    if environment.installer == "none":
        return nothing(IN_STORE)
    best = advise(machine).best
    if best is not None and best.plan is not None:
        command = best.plan.install()
        if command is not None:
            return Remedy(command=best.plan.command.then(command))
    return _pair(machine, lambda row: True) or nothing(f"No release has wheels for this Python. {_why_not(machine)}")


def torch_for(machine: Machine, found: InstalledPackage) -> Remedy:
    """The torch that an installed TorchVision was published for, from the index of its own local version."""
    environment = _environment(machine)
    row = releases().get(found.public)
    if environment.installer == "none":
        return nothing(IN_STORE)
    if row is None:
        return nothing(f"torchvision {found.version} is no listed release: its torch is not known.")
    index = wheel_index(found.local) if found.local and not found.variant else None
    options = ("--index-url", index.index) if index is not None and index.index else ()
    return Remedy(command=install(environment, [f"torch=={row.torch}"], options=options))


def torch_again(machine: Machine) -> Remedy:
    """The torch that is there once more, from its own index."""
    environment = _environment(machine)
    torch = environment.torch
    assert torch is not None
    if environment.installer == "none":
        return nothing(IN_STORE)
    partner = partner_of(torch, machine.platform)
    if isinstance(partner, NoPartner):
        return nothing(partner.reason)
    if partner.conda:
        return Remedy(command=conda_install(environment, partner, "--force-reinstall", partner.torch))
    return Remedy(command=install(environment, [partner.torch], options=("--force-reinstall", *partner.options)))


def other_pair(machine: Machine, gpu: GpuFound) -> Remedy:
    """The newest pair of torch and TorchVision whose torch has code for `gpu` and whose driver floor is met here."""
    environment = _environment(machine)
    torch = environment.torch
    if environment.installer == "none":
        return nothing(IN_STORE)
    if torch is not None:
        partner = partner_of(torch, machine.platform)
        if isinstance(partner, Partner) and not partner.pinned and "--pre" in partner.options:
            words = ("--upgrade", *partner.options)
            return Remedy(
                command=install(environment, ["torch", "torchvision"], options=words),
                note="The newest nightly build; where that has none either, torch has to be built for this GPU.",
            )
    pair = _pair(machine, lambda row: _serves(machine, row, gpu))
    return pair or nothing(
        f"No published torch for Python {environment.python_version} on {machine.platform} has code for {gpu.name} "
        f"({gpu.capability})."
    )


def older_pair(machine: Machine) -> Remedy | None:
    """The newest pair whose CUDA the machine's driver serves; None where no pair is old enough."""
    gpu = machine.gpu
    return _pair(machine, lambda row: gpu is None or _serves(machine, row, gpu))


def driver(machine: Machine, floor: str) -> Remedy:
    """A driver of at least `floor`, as this distribution packages it."""
    branch = floor.split(".")[0]
    if machine.wsl:
        return nothing(f"Install driver {floor} or newer on Windows: WSL2 has none of its own.")
    if machine.container:
        return nothing(f"Install driver {floor} or newer on the host of this container: it has none of its own.")
    if any(gpu.tegra for gpu in machine.gpus):
        return nothing("On a Jetson the driver comes with JetPack: install a newer JetPack.")
    distribution = machine.distribution
    rows = driver_packages()
    row = next((rows[name] for name in distribution.ids if name in rows), None) if distribution else None
    if distribution is None or row is None:
        return nothing(f"Install driver {floor} or newer, as this distribution packages it.")
    newest = row.newest.get(distribution.version.partition(".")[0])
    if newest is not None and int(newest) < int(branch):
        return nothing(
            f"{distribution.name} itself has driver {newest}: take {branch} or newer from NVIDIA's repository."
        )
    return Remedy(command=Command.of(*row.command.format(branch=branch).split()))


def packages(machine: Machine, *names: str) -> Remedy:
    """Packages that are missing, from the registry; nothing else changes."""
    environment = _environment(machine)
    if environment.installer == "none":
        return nothing(IN_STORE)
    torch = environment.torch
    wanted = list(names)
    options: tuple[str, ...] = ()
    if environment.installer == "venv" and torch is not None:
        partner = partner_of(torch, machine.platform)
        if isinstance(partner, Partner):
            return Remedy(command=install_partner(environment, partner), note="It brings what it requires.")
    return Remedy(command=install(environment, wanted, options=options))


def libraries(machine: Machine, *names: str) -> Remedy:
    """Wheels of libraries that torch needs, at the versions that torch's metadata names; what is damaged once more."""
    environment = _environment(machine)
    torch = environment.torch
    assert torch is not None
    if environment.installer in ("none", "venv"):
        return packages(machine, *names)
    required = _requirements(torch, environment.python)
    lost, damaged = list[str](), list[str]()
    for name in names:
        installed = find_distributions(name, environment.paths)
        own = required.get(name) or (
            required.get(CUDA_TOOLKIT) if re.fullmatch(r"nvidia-.*(?<!-cu\d\d)", name) else None
        )
        if installed:
            damaged.append(f"{name}=={installed[0].version}")
        else:
            lost.append(own or name)
    steps = [install(environment, list(dict.fromkeys(lost)))] if lost else []
    steps += [install(environment, damaged, options=REPLACE)] if damaged else []
    return Remedy(command=reduce(Command.then, filter(None, steps)))


def _requirements(torch: InstalledPackage, python: str) -> dict[str, str]:
    """Package -> the requirement on it in torch's metadata, without its marker."""
    if torch.info is None:
        return {}
    stated = Distribution(name="torch", version=torch.version, info=torch.info, location=torch.folder.parent).requires
    parsed = [one for text in stated[:MOST_REQUIREMENTS] if (one := parsed_requirement(text)) and applies(one, python)]
    return {canonicalize_name(one.name): str(one).partition(";")[0].strip() for one in parsed}


def uninstall(environment: PythonEnvironment, name: str) -> Command | None:
    """The command that takes away the copy of package `name` that Python finds first."""
    python = str(environment.executable)
    if environment.installer == "pip":
        return Command.of(python, "-m", "pip", "uninstall", "--yes", name)
    return Command.of("uv", "pip", "uninstall", "--python", python, name) if environment.installer == "uv" else None


def renew_environment(environment: PythonEnvironment) -> Remedy:
    """A virtual environment whose Python is not where its link leads: made again around what is in it."""
    prefix = environment.prefix or environment.executable.parent.parent
    if environment.installer == "uv":
        return run("uv", "venv", "--allow-existing", "--python", environment.python_version, str(prefix))
    return run(f"python{environment.python_version.rstrip('t')}", "-m", "venv", "--upgrade", str(prefix))


def rebuild(environment: PythonEnvironment, source: Path) -> Remedy:
    """An editable install, compiled again in its source folder against the torch that is there."""
    command = install(environment, [str(source)], options=("--no-build-isolation", "--no-deps", "--editable"))
    return Remedy(command=command, note="It is imported from its source folder, and has to be compiled there again.")


def _environment(machine: Machine) -> PythonEnvironment:
    assert machine.environment is not None
    return machine.environment


def _editable(environment: PythonEnvironment) -> Remedy | None:
    found = environment.torchvision
    if found is None or not found.editable:
        return None
    return rebuild(environment, found.folder.parent)


def _wheel(environment: PythonEnvironment, partner: Partner | NoPartner) -> Remedy:
    if isinstance(partner, NoPartner):
        return nothing(partner.reason)
    command = install_partner(environment, partner)
    found = environment.torchvision
    if command is not None and found is not None and _on_its_own_path(found):
        first = uninstall(environment, "torchvision")  # a copy that Python finds first would stay in the way
        command = first.then(command) if first is not None else command
    return Remedy(command=command)


def _same_line(machine: Machine, torch: InstalledPackage, wheel: Remedy) -> Remedy:
    """`wheel`; where there is none, a listed pair of torch's own line and kind."""
    pair = pair_of_line(torch, machine.platform) if wheel.command is None else None
    if pair is None:
        return wheel
    command = install(_environment(machine), [pair.torch, pair.torchvision], options=pair.options)
    return Remedy(command=command, note=wheel.note)


def _on_its_own_path(found: InstalledPackage) -> bool:
    """Whether a folder of its own on sys.path holds it, as an egg does."""
    return found.folder.parent.suffix == ".egg"


def _best_build(machine: Machine, *, on_gpu: bool) -> Build | None:
    best = advise(machine).best
    if best is None or best.plan is None or best.needs:
        return None
    return best.plan if best.plan.variant.cuda or not on_gpu else None


def _same_variant(machine: Machine, torch: InstalledPackage, name: str) -> Build | None:
    """The build of the variant that was installed, where it still goes with the torch and the processor."""
    environment = _environment(machine)
    try:
        variant = parse(name)
    except BadInput:
        return None
    usable = (
        variant.python == environment.python
        and variant.platform == machine.platform
        and goes_with(torch, variant)
        and not missing_features(variant.isa, machine.cpu)
    )
    if not usable or (machine.gpus and (variant.cuda is None) == (torch.kind is Backend.CUDA)):
        return None
    if machine.gpu is not None and variant.sm is not None and variant.sm != machine.gpu.sm:
        return None
    planned = plan_build(machine, variant)
    return planned if isinstance(planned, Build) else None


def _built(build: Build) -> Remedy:
    command = build.install(*REPLACE)
    assert command is not None, "a store was ruled out before"
    return Remedy(command=build.command.then(command))


def _why_not(machine: Machine) -> str:
    advice = advise(machine)
    reasons = [advice.best.needs] if advice.best is not None and advice.best.needs else list(advice.notes)
    return " ".join(reasons[:1])


def _pair(machine: Machine, accepts: Callable[[Release], bool]) -> Remedy | None:
    """The newest listed pair from the package registry that `accepts` takes; of torch's own kind, if there is one."""
    environment = _environment(machine)
    torch = environment.torch
    for row in reversed(list(releases().values())):
        cuda = row.torch_cuda(machine.platform)
        if environment.python not in row.pythons or not accepts(row):
            continue
        if torch is not None and (torch.kind is Backend.CUDA) != (cuda is not None):
            continue
        command = install(environment, [f"torch=={row.torch}", f"torchvision=={row.torchvision}"])
        return Remedy(command=command) if command is not None else None
    return None


def _serves(machine: Machine, row: Release, gpu: GpuFound) -> bool:
    """Whether the published torch of `row` has code for `gpu`, and the driver is new enough for it."""
    cuda = row.torch_cuda(machine.platform)
    kit = next((kit for kit in toolkits().values() if kit.version == cuda), None)
    if kit is None or gpu.sm is None:
        return False
    if machine.driver and driver_is_older(machine, kit.driver):
        return False
    cubins = row.torch_cubins.get(machine.platform)
    if cubins is None:
        way = toolkit_support(kit.track, gpu.sm)
        return way is not None and way.kind == "native"
    return serves(cubins, (), gpu.sm)

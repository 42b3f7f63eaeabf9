"""The one command that mends an environment: which torch and TorchVision belong together, and how to get them there."""

from __future__ import annotations

import shlex

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from build_torchvision.choose.advice import advise
from build_torchvision.facts import Release, releases, toolkits, version_key
from build_torchvision.machine.environment import InstalledPackage, PythonEnvironment
from build_torchvision.machine.report import Machine


def pip(environment: PythonEnvironment, *arguments: str) -> str:
    """`PYTHON -m pip install ARGUMENTS`, quoted for a shell."""
    return shlex.join([str(environment.executable), "-m", "pip", "install", *arguments])


def reinstall(environment: PythonEnvironment, found: InstalledPackage) -> str:
    """The same TorchVision once more, its dependencies left alone."""
    return pip(environment, "--force-reinstall", "--no-deps", f"torchvision=={found.version}")


def pair_of(torch: InstalledPackage, python: str) -> Release | None:
    """The newest release whose TorchVision goes with `torch`, for Python `python`; None where none is known."""
    fitting = [
        row
        for row in releases().values()
        if python in row.pythons and SpecifierSet(row.torch_requirement).contains(torch.public, prereleases=True)
    ]
    return fitting[-1] if fitting else None


def wanted_torch(requirement: str | None) -> Release | None:
    """The release whose torch meets `requirement` ("==2.6.0")."""
    try:
        specifier = SpecifierSet(requirement or "")
    except InvalidSpecifier:
        return None
    fitting = [row for row in releases().values() if specifier.contains(row.torch, prereleases=True)]
    return fitting[-1] if fitting and requirement else None


def matching_torchvision(machine: Machine, environment: PythonEnvironment, requirement: str | None = None) -> str:
    """A TorchVision for the torch that is there; where no release goes with it, a torch for the TorchVision.

    The registry's wheel where it was built for this torch's CUDA, else a variant built here.
    """
    torch = environment.torch
    assert torch is not None
    pair = pair_of(torch, environment.python)
    if pair is None:
        other = (
            wanted_torch(requirement) or [row for row in releases().values() if environment.python in row.pythons][-1]
        )
        return pip(environment, f"torch=={other.torch}", f"torchvision=={other.torchvision}")
    if torch.cuda == pair.torch_cuda(machine.platform):
        return pip(environment, "--force-reinstall", "--no-deps", f"torchvision=={pair.torchvision}")
    if pair.sha256 and (torch.cuda is None or any(kit.version == torch.cuda for kit in toolkits().values())):
        return variant_for(machine)
    return pip(environment, "--force-reinstall", f"torch=={pair.torch}", f"torchvision=={pair.torchvision}")


def variant_for(machine: Machine, *, deps: bool = False) -> str:
    """Build and install the variant that fits this machine and the environment's torch; with `deps` that torch too."""
    options = [] if deps else ["--force-reinstall", "--no-deps"]
    best = advise(machine).best
    if best is None:
        assert machine.environment is not None
        return pip(machine.environment, *options, "torchvision")
    return f"{best.build} && {best.install.replace('pip install', ' '.join(['pip install', *options]))}"


def older_pair(machine: Machine, environment: PythonEnvironment) -> str | None:
    """The newest pair whose CUDA the machine's driver serves; None where no pair is old enough."""
    for row in reversed(list(releases().values())):
        cuda = row.torch_cuda(machine.platform)
        kit = next((kit for kit in toolkits().values() if kit.version == cuda), None)
        if kit and environment.python in row.pythons and version_key(kit.driver) <= version_key(machine.driver or "0"):
            return pip(environment, f"torch=={row.torch}", f"torchvision=={row.torchvision}")
    return None

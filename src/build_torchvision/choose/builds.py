"""Plan the build of a variant for an environment: which release, against which torch, with which command.

A build is offered only if the checks of `plan` and `build` pass (`inputs.precheck`): they run here, before the command
is printed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from build_torchvision.choose.commands import Command, Pattern, install
from build_torchvision.choose.partner import Partner, partner_of, release_index, torch_build
from build_torchvision.errors import BadInput
from build_torchvision.facts import Release
from build_torchvision.inputs.precheck import check_request
from build_torchvision.inputs.resolve import BuildRequest
from build_torchvision.machine.environment import Backend, PythonEnvironment
from build_torchvision.machine.report import Machine
from build_torchvision.reading import is_folder
from build_torchvision.releases import select_release
from build_torchvision.spec import local_version, python_tags
from build_torchvision.variants import Variant


@dataclass(frozen=True, kw_only=True)
class Build:
    """A build that `plan` accepts. `torch` is the folder that --torch names, None for the release's own torch."""

    variant: Variant
    release: Release
    torch: Path | None
    environment: PythonEnvironment | None
    beside_torch: bool = True
    """Whether it is for the environment's torch; else the wheel's own requirement brings another."""

    @property
    def command(self) -> Command:
        """The command that builds it."""
        words = ["build-torchvision", "build", str(self.variant), "--torchvision", self.release.torchvision]
        return Command.of(*words, *(["--torch", str(self.torch)] if self.torch else []))

    @property
    def wheel(self) -> Pattern:
        """The file that comes out, as a pattern: its platform tag is known only then."""
        local = local_version(self.variant, paired=True)
        serves_all = self.release.any_python or self.release.stable_abi
        tags = "-".join(python_tags(self.variant, any_python=serves_all))
        return Pattern(f"dist/torchvision-{self.release.torchvision}+{local}-{tags}-*_{self.variant.platform}.whl")

    def install(self, *options: str) -> Command | None:
        """The command that installs it into the environment, or into a Python of its version where there is none."""
        if self.environment is None:
            return Command.of(f"python{self.variant.python_version}", "-m", "pip", "install", *options, self.wheel)
        torch = self.environment.torch
        found = partner_of(torch, self.variant.platform) if torch is not None else None
        first, index = tuple[str, ...](), tuple[str, ...]()
        if isinstance(found, Partner) and not found.conda:
            first, index = (found.torch,), found.options
        elif (
            torch is not None and self.beside_torch
        ):  # a new environment does not get this very torch: it gets the release's
            cuda = self.variant.cuda or (self.release.cuda if torch.kind is Backend.CUDA else None)
            first = (f"torch=={self.release.torch}",)
            index = release_index(self.release, cuda, self.variant.platform)
        return install(self.environment, [self.wheel], options=options, first=first, first_options=index)


@dataclass(frozen=True, kw_only=True)
class NoBuild:
    """Why `build` would refuse: one sentence."""

    reason: str


def plan_build(machine: Machine, variant: Variant, *, beside_torch: bool = True) -> Build | NoBuild:
    """The build of `variant` for the environment of `machine`, against its torch; without one, against the release's.

    With `beside_torch` false the environment's torch is left out of account.
    """
    environment = machine.environment
    torch = environment.torch if environment is not None and beside_torch else None
    try:
        if torch is None:
            selection = select_release(variant)
            if selection.needs_source:
                return NoBuild(reason=f"No source of TorchVision {selection.release.torchvision} can be fetched.")
            build = Build(
                variant=variant,
                release=selection.release,
                torch=None,
                environment=environment,
                beside_torch=beside_torch,
            )
        else:
            if torch.kind not in (Backend.CPU, Backend.CUDA):
                return NoBuild(reason=f"torch {torch.version} is {torch.kind.build}, which no variant goes with.")
            known = torch_build(torch)
            if known is None:
                return NoBuild(reason=f"The version of torch, {torch.version!r}, is no version.")
            release = select_release(variant, torch=known).release
            same = release.torch == known.version and release.torch_cuda(variant.platform) == torch.cuda
            fetched = variant.python in release.pythons  # else only the torch that is there has this Python
            plain = variant.cuda is None and known.local != "cpu.cxx11.abi" and fetched
            folder = None if same or plain else torch.folder.parent
            if folder is not None and not is_folder(torch.folder):
                return NoBuild(reason=f"{torch.folder} is not there to build against.")
            build = Build(variant=variant, release=release, torch=folder, environment=environment)
        check_request(
            BuildRequest(variants=(variant,), release=build.release, torch=str(build.torch) if build.torch else None)
        )
    except BadInput as error:
        return NoBuild(reason=f"{error.problem} {error.hint}")
    return build

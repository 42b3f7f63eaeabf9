"""Find the published TorchVision that belongs to a torch, and the index that serves it.

A torch keeps its kind and its version: the release is that of its own version (`releases`), the index that of its local
version (facts/wheel_indexes.toml). Where the tables do not know the release, the installer's own resolver is left to
find the TorchVision that requires this very torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from packaging.version import InvalidVersion, Version

from build_torchvision.choose.commands import Command, install
from build_torchvision.facts import Release, releases
from build_torchvision.facts.wheel_indexes import wheel_index
from build_torchvision.machine.environment import Backend, InstalledPackage, PythonEnvironment
from build_torchvision.releases import TorchBuild, newer_than_known, pairs


@dataclass(frozen=True, kw_only=True)
class Partner:
    """A TorchVision that can be installed beside a torch. `torchvision` and `torch` are requirements."""

    torchvision: str
    torch: str
    options: tuple[str, ...]
    """pip's options that name the index; empty for the package registry."""
    where: str
    """The index in words, such as "PyTorch's index for cu130"."""
    pinned: bool
    """Whether `torchvision` names one version; else `torch` has to be named in the same command."""
    gpu_code: bool
    """Whether that wheel is known to have code for NVIDIA GPUs."""
    conda: bool = False
    """Whether both are packages of a conda channel, which `options` name; else they are wheels."""


@dataclass(frozen=True, kw_only=True)
class NoPartner:
    """Why no published TorchVision is named for a torch, one sentence."""

    reason: str


def torch_build(torch: InstalledPackage) -> TorchBuild | None:
    """The torch of an environment as `releases` takes it; None where its version is no version."""
    try:
        version = Version(torch.version)
    except InvalidVersion:
        return None
    return TorchBuild(version=version.public, local=version.local, cuda=torch.cuda)


def newer_notes(torch: InstalledPackage) -> Iterator[str]:
    """What to say of a torch that is newer than the table of releases, as a sentence; nothing of another."""
    build = torch_build(torch)
    newer = newer_than_known(build) if build else None
    if newer:
        yield newer[0].upper() + newer[1:]


def release_of(torch: InstalledPackage, platform: str) -> Release | None:
    """The release that `torch` was published with; of several the one of its own version, then of its own CUDA."""
    build = torch_build(torch)
    if build is None or newer_than_known(build):
        return None
    own = Version(build.version).release[:2]
    fitting = [row for row in releases().values() if pairs(row, build)]

    def worth(row: Release) -> tuple[object, ...]:
        line = Version(row.torch).release[:2] == own
        return row.torch == build.version, line, row.torch_cuda(platform) == torch.cuda, Version(row.torchvision)

    return max(fitting, key=worth, default=None)


def partner_of(torch: InstalledPackage, platform: str) -> Partner | NoPartner:
    """The TorchVision to install beside `torch` on `platform` ("x86_64")."""
    build = torch_build(torch)
    if build is None:
        return NoPartner(reason=f"The version of this torch, {torch.version!r}, is no version (PEP 440).")
    newer = newer_than_known(build)
    if newer is not None:
        return NoPartner(reason=newer[0].upper() + newer[1:])
    version = Version(build.version)
    if version.is_devrelease:
        return _nightly(torch, build)
    row = release_of(torch, platform)
    oldest = min(Version(known.torch) for known in releases().values())
    if row is None and (version.is_prerelease or version >= oldest):
        return NoPartner(
            reason=f"No published TorchVision belongs to torch {torch.version}, a build of its maker's own: take "
            "torchvision from where this torch came from."
        )
    return _published(torch, build, row, platform)


REPLACE = ("--force-reinstall", "--no-deps")


def conda_install(environment: PythonEnvironment, partner: Partner, *packages: str) -> Command:
    """The command that installs `packages` of the channel of `partner` into the conda environment."""
    prefix = environment.prefix or environment.executable.parent.parent
    return Command.of("conda", "install", "--prefix", str(prefix), "--yes", *partner.options, *packages)


def install_partner(environment: PythonEnvironment, partner: Partner) -> Command | None:
    """The command that puts `partner` beside the torch of `environment`; None where nothing can be installed."""
    if partner.conda:
        command = conda_install(environment, partner, partner.torchvision, partner.torch)
        found = environment.torchvision
        if found is not None and not found.channel:  # a wheel, whose files conda would leave there
            remove = Command.of(str(environment.executable), "-m", "pip", "uninstall", "--yes", "torchvision")
            command = remove.then(command)
        return command
    if environment.installer == "venv":
        return install(environment, [partner.torch, partner.torchvision], options=partner.options)
    if partner.pinned:
        return install(environment, [partner.torchvision], options=(*REPLACE, *partner.options))
    return install(environment, [partner.torchvision, partner.torch], options=("--upgrade", *partner.options))


def partner_sentence(environment: PythonEnvironment, platform: str) -> str:
    """Where the TorchVision of the environment's torch comes from, with the command that installs it."""
    assert environment.torch is not None
    partner = partner_of(environment.torch, platform)
    if isinstance(partner, NoPartner):
        return partner.reason
    command = install_partner(environment, partner)
    return f"Its own torchvision comes from {partner.where}" + (f": `{command}`." if command else ".")


def pair_of_line(torch: InstalledPackage, platform: str) -> Partner | None:
    """The listed pair of the same line (2.8 for a torch 2.8.1 that was never published), of the torch's own kind."""
    build = torch_build(torch)
    if build is None or Version(build.version).is_prerelease:
        return None
    own = Version(build.version).release[:2]
    rows = [row for row in releases().values() if Version(row.torch).release[:2] == own]
    if not rows:
        return None
    version = f"{rows[-1].torch}+{torch.local}" if torch.local else rows[-1].torch
    found = partner_of(replace(torch, version=version), platform)
    return found if isinstance(found, Partner) and not found.conda else None


def release_index(release: Release, cuda: str | None, platform: str) -> tuple[str, ...]:
    """pip's options for the index that has the torch of `release` built with `cuda`, None for a CPU-only one."""
    row = wheel_index(f"cu{cuda.replace('.', '')}" if cuda else "cpu")
    if row is None or row.index is None or release.torch_cuda(platform) == cuda:
        return ()
    return "--index-url", row.index


def _nightly(torch: InstalledPackage, build: TorchBuild) -> Partner | NoPartner:
    index = wheel_index(build.local) if build.local else None
    if index is None or index.nightly is None:
        return NoPartner(
            reason=f"torch {torch.version} is a nightly build, and {_unknown_index(torch, build)}: take torchvision "
            "of the same day from there."
        )
    return Partner(
        torchvision="torchvision",
        torch=f"torch=={torch.version}",
        options=("--pre", "--index-url", index.nightly),
        where=f"{index.maker}'s nightly index for {build.local}",
        pinned=False,
        gpu_code=torch.kind is Backend.CUDA,
    )


def _published(torch: InstalledPackage, build: TorchBuild, row: Release | None, platform: str) -> Partner | NoPartner:
    if torch.channel and row is not None and torch.local is None and torch.kind in (Backend.CPU, Backend.CUDA):
        kind = "cuda*" if torch.kind is Backend.CUDA else "cpu*"  # how their build strings begin
        return Partner(
            torchvision=f"torchvision={row.torchvision}={kind}",
            torch=f"pytorch={torch.public}={kind}",
            options=("--channel", torch.channel),
            where=f"the conda channel {torch.channel}",
            pinned=True,
            gpu_code=torch.kind is Backend.CUDA,
            conda=True,
        )
    requirement = f"torchvision=={row.torchvision}" if row else "torchvision"
    options: tuple[str, ...] = ()
    where = "the package registry"
    index = wheel_index(build.local) if build.local else None
    if index is not None and index.kind != torch.kind:
        index = None
    if torch.kind is Backend.MPS or (row is not None and _in_registry(torch, row, platform)):
        pass
    elif index is not None and index.index is not None:
        options, where = ("--index-url", index.index), f"{index.maker}'s index for {build.local}"
    elif index is not None and index.links is not None and row is not None:
        # AMD's builds of a release may be of another patch version.
        requirement = f"torchvision=={row.torchvision.rpartition('.')[0]}.*"
        options, where = ("--no-index", "--find-links", index.links), f"{index.maker}'s listing for {build.local}"
    elif torch.kind is Backend.CPU and build.local is None:
        cpu = wheel_index("cpu")
        assert cpu is not None
        assert cpu.index is not None
        options, where = ("--index-url", cpu.index), f"{cpu.maker}'s index for cpu"
    else:
        return NoPartner(
            reason=f"torch {torch.version} is {torch.kind.build}, and {_unknown_index(torch, build)}: take its "
            "partner from where this torch came from."
        )
    return Partner(
        torchvision=requirement,
        torch=f"torch=={torch.version if options else torch.public}",
        options=options,
        where=where,
        pinned=row is not None,
        gpu_code=torch.kind is Backend.CUDA and (platform == "x86_64" or bool(row and row.cuda_aarch64)),
    )


def _in_registry(torch: InstalledPackage, row: Release, platform: str) -> bool:
    """Whether the package registry's TorchVision for `platform` is of this torch's kind and CUDA."""
    if torch.kind is Backend.CUDA:
        return row.torch_cuda(platform) == torch.cuda
    return torch.kind is Backend.CPU and row.torch_cuda(platform) is None


def _unknown_index(torch: InstalledPackage, build: TorchBuild) -> str:
    index = wheel_index(build.local) if build.local else None
    if index is not None:
        return f"{index.maker} publishes it on an index that its version does not name"
    return "its version does not name the index that it came from"

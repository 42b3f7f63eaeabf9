"""Verify a package: read its files, then run it beside its torch, on a CPU, emulated or on a GPU."""

from __future__ import annotations

import logging
import platform as host
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from build_torchvision.compatibility import CodegenKind
from build_torchvision.errors import BadInput, FetchFailed
from build_torchvision.facts import Release, releases
from build_torchvision.inputs.emulator import PROCESSORS, emulator, is_foreign
from build_torchvision.inputs.source import fetch_source
from build_torchvision.inputs.torch_sdk import read_version, torch_sdk
from build_torchvision.reading import home_expanded
from build_torchvision.releases import TorchBuild, pairs, release_named, unlisted_release
from build_torchvision.variants import Variant
from build_torchvision.verify.checks import Report
from build_torchvision.verify.decoding import scan_wheels_ahead
from build_torchvision.verify.environments import environments_folder
from build_torchvision.verify.gpu import GpuHost, VisibleGpu, check_gpu, groups_of
from build_torchvision.verify.installed import InstalledTree
from build_torchvision.verify.package import Package, parse_file_name
from build_torchvision.verify.processor import check_processor, features_of
from build_torchvision.verify.runtime import probe_installed, run_in_place, run_in_venv
from build_torchvision.verify.static import (
    audit_package,
    audit_tree,
    claimed_variant,
    scans_of,
    torch_facts,
    variant_of,
)
from build_torchvision.verify.target import PythonTarget, existing

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """How to verify a wheel. `torch` is as in `BuildRequest`, by default the one that the wheel was built for.

    `static_only` installs and runs nothing. With `python`, an existing environment, the wheel is laid over its packages
    and its torch is the one. With `gpus`, those of this machine, CUDA operators are run there too. `source` holds
    upstream's tests instead of the download, and `time_box` ends them after so many seconds. `emulate` runs another
    platform's wheels, and `processor` names one on which the package should run.
    """

    torch: str | None = None
    static_only: bool = False
    upstream_tests: bool = False
    time_box: float | None = None
    emulate: bool = False
    processor: str | None = None
    python: Path | None = None
    gpus: GpuHost | None = None
    source: Path | None = None


def verify_wheel(
    wheel: Path,
    variant: Variant | None = None,
    options: VerifyOptions = VerifyOptions(),
    *,
    environments: Path | None = None,
) -> Report:
    """Check that `wheel` is `variant` (None: the one its file name claims), statically and then beside its torch.

    `environments` is a folder where the environment with torch is kept for the next wheel. What runs code waits until
    the static part holds, and a wheel that no GPU of `options` runs is refused before anything is fetched or launched.
    A folder is an installed tree, such as a Nix store path or a link to one. Raises BadInput for what is no wheel of a
    known variant, MissingInput where there is no GPU.
    """
    check_verifiable(wheel, variant, options)
    if wheel.is_dir():
        if options.python or options.gpus:
            raise BadInput(
                f"Verify {wheel}",
                "an installed tree runs with its own Python, on the CPU.",
                "Leave out --python and --device, or name a wheel.",
            )
        tree = InstalledTree(wheel)
        report = audit_tree(tree, variant, home_expanded(options.torch) if options.torch else None)
        return report if options.static_only or not report.ok else report + probe_installed(tree)
    package = Package(wheel)
    variant = variant or variant_of(package)
    known = release_of(package)
    judged, gpu = (
        _judge_gpu(package, variant, options.gpus) if options.gpus else (Report(variant=str(variant), checks=()), None)
    )
    if options.gpus and gpu is None:
        return judged
    found = _existing(options.python, package, variant, known) if options.python else None
    if found:
        _check_pair(found, package, known)
    built_for = package.descriptor.torch.version if package.descriptor else None
    try:
        sdk = torch_sdk(
            str(found.site) if found else options.torch or built_for,
            known,
            variant.python,
            variant.platform,
            cuda=variant.cuda is not None,
            allow_unpaired=package.descriptor is not None and not package.descriptor.paired,
        )
    except FetchFailed as error:
        if not options.static_only or options.torch:
            raise
        log.warning("%s: its torch cannot be had, so symbols are not resolved: %s", wheel.name, error.action)
        return audit_package(package, variant) + judged
    report = audit_package(package, variant, torch_facts(sdk)) + judged
    if options.processor:
        report += Report(
            variant=report.variant, checks=(check_processor(variant, options.processor, scans_of(package)),)
        )
    if options.static_only or not report.ok:
        return report
    upstream = fetch_source(known, options.source).root if options.upstream_tests else None
    if found:
        return report + run_in_place(package, known, found, upstream=upstream, gpu=gpu)
    emulated = options.emulate and variant.isa in PROCESSORS
    return report + run_in_venv(
        package,
        known,
        torch_requirement=f"=={sdk.version}",
        python=variant.python,
        cache=environments,
        upstream=upstream,
        gpu=gpu,
        emulator=emulator(variant.platform, variant.python) if emulated else None,
        processors=PROCESSORS[variant.isa] if emulated else (),
        time_box=options.time_box,
    )


def check_verifiable(wheel: Path, variant: Variant | None, options: VerifyOptions) -> None:
    """Raises BadInput, before any work, for what `verify_wheel` could not do here."""
    if options.processor:
        features_of(options.processor)
    if wheel.is_dir():
        return
    if not wheel.is_file():
        raise BadInput(f"Verify {wheel}", "There is no such file.", "Check the path; `build` prints it.")
    variant = variant or _claimed_by_name(wheel) or claimed_variant(wheel)
    foreign = is_foreign(variant.platform)
    if foreign and not options.static_only and not (options.emulate and variant.isa in PROCESSORS):
        way = "Add --emulate to run it under qemu, or" if variant.isa in PROCESSORS else "Add"
        raise BadInput(
            f"Run {wheel.name}",
            f"{variant.isa} is {variant.platform}, and this machine is {host.machine()}.",
            f"{way} --static to read it only.",
        )


def _claimed_by_name(wheel: Path) -> Variant | None:
    """The variant that the file name alone names, without opening the wheel."""
    name = parse_file_name(wheel.name)
    claim = name.claim()
    return claim.variant if claim is not None and not name.any_python else None


def release_of(package: Package) -> Release:
    """The release that a wheel was built from: its row of the table, or, where none lists it, what its descriptor says.

    An unlisted one is judged as far as possible. Raises BadInput for one without a descriptor, naming the nearest ones.
    """
    version = package.file_name.version.partition("+")[0]
    if version in releases() or package.descriptor is None:
        return release_named(version)
    return unlisted_release(version, package.descriptor.torch.build)


def verify_all(wheels: Sequence[tuple[Path, Variant | None]], options: VerifyOptions) -> Iterator[Report]:
    """`verify_wheel` each wheel, one after the other; those of one Python and torch share an environment."""
    for wheel, variant in wheels:
        check_verifiable(wheel, variant, options)
    scan_wheels_ahead(wheel for wheel, _ in wheels if wheel.is_file())
    if options.static_only:
        yield from (verify_wheel(wheel, variant, options) for wheel, variant in wheels)
        return
    with environments_folder() as folder:
        for wheel, variant in wheels:
            yield verify_wheel(wheel, variant, options, environments=folder)


def _judge_gpu(
    package: Package, variant: Variant, host: GpuHost
) -> tuple[Report, tuple[VisibleGpu, CodegenKind] | None]:
    if variant.cuda is None:
        raise BadInput(f"Verify {variant} on a GPU", "It has no CUDA operators.", "Leave out --device.")
    host.require(package.path.name)
    check, gpu = check_gpu(groups_of(package.extensions), variant, host)
    return Report(variant=str(variant), checks=(check,)), gpu


def _existing(python: Path, package: Package, variant: Variant, release: Release) -> PythonTarget:
    """The environment of `python`, where `package` can be laid over it: a wheel for every Python over any of them."""
    found = existing(python)
    served: tuple[str, ...] = (variant.python,)
    if package.file_name.any_python:
        served = release.pythons if release.listed else (found.version,)
    if found.version not in served:
        names = ", ".join(f"{each[0]}.{each[1:]}" for each in served)
        raise BadInput(
            f"Verify {package.path.name} with {python}",
            f"That is Python {found.version[0]}.{found.version[1:]}, the wheel is for {names}.",
            "Name an environment of such a Python, or leave --python out.",
        )
    return found


def _check_pair(found: PythonTarget, package: Package, release: Release) -> None:
    """Raises BadInput where the environment's torch is none of those that the wheel is for."""
    version, cuda = read_version(found.site / "torch")
    torch = TorchBuild(version=version.public, local=version.local, cuda=cuda)
    paired = package.descriptor is None or package.descriptor.paired
    if paired and not pairs(release, torch):
        raise BadInput(
            f"Verify {package.path.name} with {found.python}",
            f"It has torch {torch}, and TorchVision {release.torchvision} needs torch {release.torch_requirement}.",
            "Name an environment that has such a torch, or leave --python out.",
        )

"""GitHub Actions workflows: pull request, nightly, release; the matrix is grouped by the work that variants share."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from build_torchvision.facts import releases, toolkits, version_key
from build_torchvision.facts.actions import actions
from build_torchvision.inputs.torch_sdk import CUDA_ON_ARM
from build_torchvision.recipes.text import render
from build_torchvision.variants import CPU, DEFAULT_RELEASE, Variant, enumerate_variants

# Hosted runners by platform (GitHub docs, "Choosing the runner for a job"): Ubuntu 24.04, one of the README's systems.
RUNNERS = {"x86_64": "ubuntu-24.04", "aarch64": "ubuntu-24.04-arm"}
WORKFLOWS = ("pull-request", "nightly", "release")


@dataclass(frozen=True, kw_only=True)
class Group:
    """Variants of one track and platform: one graph compiles each of their shared actions once."""

    track: str
    platform: str
    isas: tuple[str, ...]
    count: int

    @property
    def job(self) -> str:
        """The job's name in a workflow."""
        return f"build-{self.track}-{self.platform}"

    @property
    def torch_variable(self) -> str | None:
        """The repository variable that must name a torch wheel, where the package registry has none for the group."""
        torch = _torch(self.track)
        if self.track == CPU or self.platform != "aarch64" or version_key(torch) >= version_key(CUDA_ON_ARM):
            return None
        return f"TORCH_{self.track}_{self.platform}".upper()

    @property
    def command(self) -> str:
        """What builds the group: the default release with its own torch, or with one of the track's CUDA."""
        pattern = shlex.quote(f"{self.track}-*{{{','.join(self.isas)}}}")
        torch = "torch-wheel/*.whl" if self.torch_variable else _torch(self.track)
        unpaired = (
            "" if _torch(self.track) == releases()[DEFAULT_RELEASE].torch else f" --torch {torch} --allow-unpaired"
        )
        return f"build-torchvision build {pattern}{unpaired}"


def _torch(track: str) -> str:
    """The torch to build `track` against: the default release's own pair, else the oldest of the track's CUDA."""
    pair = releases()[DEFAULT_RELEASE]
    if track == CPU or pair.cuda == toolkits()[track].version:
        return pair.torch
    return next(known.torch for known in releases().values() if known.cuda == toolkits()[track].version)


def groups(variants: list[Variant] | None = None) -> list[Group]:
    """The default matrix (or `variants`) by track and platform, in the matrix's order."""
    found: dict[tuple[str, str], list[Variant]] = {}
    for variant in variants if variants is not None else enumerate_variants():
        found.setdefault((variant.track, variant.platform), []).append(variant)
    return [
        Group(
            track=track,
            platform=platform,
            isas=tuple(dict.fromkeys(variant.isa for variant in members)),
            count=len(members),
        )
        for (track, platform), members in found.items()
    ]


def files() -> dict[str, str]:
    """All workflows, by path."""
    return {
        f".github/workflows/{name}.yml": render(
            f"{name}.yml",
            runners=RUNNERS,
            groups=groups(),
            variants=[variant for variant in enumerate_variants() if variant.hardware_exists],
            uses=lambda action: actions()[action].reference,
        )
        for name in WORKFLOWS
    }

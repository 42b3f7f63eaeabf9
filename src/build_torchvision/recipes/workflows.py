"""GitHub Actions workflows: pull request, nightly, release, facts; jobs are grouped by the work that variants share."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from build_torchvision.facts.actions import actions
from build_torchvision.recipes.text import render
from build_torchvision.releases import newest, torch_covers
from build_torchvision.variants import Variant, enumerate_variants

# Hosted runners by platform (GitHub docs, "Choosing the runner for a job"): Ubuntu 24.04, one of the README's systems.
RUNNERS = {"x86_64": "ubuntu-24.04", "aarch64": "ubuntu-24.04-arm"}
WORKFLOWS = ("pull-request", "nightly", "release", "facts")


@dataclass(frozen=True, kw_only=True)
class Group:
    """Variants of one track and platform: one graph compiles each of their shared actions once."""

    track: str
    platform: str
    isas: tuple[str, ...]
    count: int
    published: bool
    """Whether the package registry has a torch for it."""

    @property
    def job(self) -> str:
        """The job's name in a workflow."""
        return f"build-{self.track}-{self.platform}"

    @property
    def index_variable(self) -> str | None:
        """The repository variable that must name an index with torch, where the package registry has none for it."""
        return None if self.published else "TORCH_INDEX"

    @property
    def command(self) -> str:
        """What builds the group: each variant against its release's own torch."""
        pattern = shlex.quote(f"{self.track}-*{{{','.join(self.isas)}}}")
        index = f' --torch-index "${self.index_variable}"' if self.index_variable else ""
        return f"build-torchvision build {pattern}{index}"


def _served(variant: Variant) -> bool:
    """Whether the variant's torch has code for its GPU, as far as the table tells; `build` leaves out the others."""
    release = newest(variant, any_index=True)
    return release is None or torch_covers(release, variant) is not False


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
            count=sum(_served(variant) for variant in members),
            published=newest(members[0]) is not None,
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

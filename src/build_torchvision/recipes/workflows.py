"""GitHub Actions workflows: pull request, nightly, release, facts. The jobs that build are those of the fleet."""

from __future__ import annotations

from build_torchvision.facts.actions import actions
from build_torchvision.fleet import RUNNERS, fleet
from build_torchvision.recipes.text import render
from build_torchvision.variants import enumerate_variants

WORKFLOWS = ("pull-request", "nightly", "release", "facts")


def files() -> dict[str, str]:
    """All workflows, by path."""
    return {
        f".github/workflows/{name}.yml": render(
            f"{name}.yml",
            runners=RUNNERS,
            jobs=fleet(enumerate_variants(), any_index=True),
            variants=[variant for variant in enumerate_variants() if variant.hardware_exists],
            uses=lambda action: actions()[action].reference,
        )
        for name in WORKFLOWS
    }

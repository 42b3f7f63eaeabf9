"""Generate GitHub Actions workflows and the reusable action. The jobs that build are those of the fleet."""

from __future__ import annotations

from build_torchvision.facts.actions import actions
from build_torchvision.fleet import RUNNERS, fleet
from build_torchvision.recipes.text import render
from build_torchvision.variants import enumerate_variants

WORKFLOWS = ("pull-request", "nightly", "release", "facts", "tool")
ACTION = "action.yml"  # the reusable action of this repository


def files() -> dict[str, str]:
    """All workflows and the reusable action, by path."""
    paths = {f".github/workflows/{name}.yml": f"{name}.yml" for name in WORKFLOWS} | {ACTION: ACTION}
    return {
        path: render(
            template,
            runners=RUNNERS,
            jobs=fleet(enumerate_variants(), any_index=True),
            variants=[variant for variant in enumerate_variants() if variant.hardware_exists],
            uses=lambda action: actions()[action].reference,
        )
        for path, template in paths.items()
    }

"""The jobs of a fleet: every variant that a torch serves is built by exactly one of them, with one command."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from typing import Any

import pytest
from _commands import refusal

from build_torchvision.cli.main import make_app
from build_torchvision.fleet import RUNNERS, fleet
from build_torchvision.releases import newest, torch_covers
from build_torchvision.variants import TRACKS, enumerate_variants, select


def test_the_default_matrix_is_three_jobs_and_one_more_with_an_index() -> None:
    jobs = fleet(enumerate_variants())
    assert [(job.name, len(job.variants)) for job in jobs] == [
        ("cuda12_8-x86_64-0.25.0", 32),
        ("cpu-x86_64-0.29.1", 4),
        ("cpu-aarch64-0.29.1", 2),
    ]
    more = fleet(enumerate_variants(), any_index=True)
    assert [job.name for job in more if job.needs_index] == ["cuda12_8-aarch64-0.25.0"]


@pytest.mark.parametrize("any_index", [False, True])
@pytest.mark.parametrize("python", ["310", "313", "313t", "314", "315"])
def test_every_variant_that_can_be_built_is_in_exactly_one_job(python: str, any_index: bool) -> None:
    universe = enumerate_variants(python, TRACKS)
    built = Counter(variant for job in fleet(universe, any_index=any_index) for variant in job.variants)
    expected = set()
    for variant in universe:
        row = newest(variant, any_index=any_index)
        if row is not None and row.sha256 and torch_covers(row, variant) is not False:
            expected.add(variant)
    assert built == Counter(expected)


def test_the_command_of_a_job_builds_its_variants_and_no_other() -> None:
    universe = enumerate_variants("313", TRACKS)
    for job in fleet(universe, any_index=True):
        words = shlex.split(job.command)
        assert words[:2] == ["build-torchvision", "build"]
        assert refusal(words[1:]) is None
        assert set(select([words[2]], universe)) == set(job.variants)
        assert ("--torch-index" in words) == job.needs_index
        assert job.to_json()["runner"] == RUNNERS[job.platform]


def test_variants_matrix_prints_what_a_ci_matrix_takes(capsys: pytest.CaptureFixture[str]) -> None:
    make_app()(["variants", "--matrix"], result_action="return_value")
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    matrix: dict[str, list[dict[str, Any]]] = json.loads(printed)
    assert list(matrix) == ["include"]
    assert [row["name"] for row in matrix["include"]] == [job.name for job in fleet(enumerate_variants())]
    assert all(row["command"].startswith("build-torchvision build ") for row in matrix["include"])
    make_app()(["variants", "cuda13_0-sm90-*", "--track", "cuda13_0", "--matrix"], result_action="return_value")
    rows = json.loads(capsys.readouterr().out)["include"]
    assert [(row["torchvision"], row["platform"], row["variants"]) for row in rows] == [
        ("0.29.1", "x86_64", 4),
        ("0.29.1", "aarch64", 2),
    ]

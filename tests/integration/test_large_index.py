"""An index of 2,000 wheels by the command itself: what it costs, what ten more cost, and what an installer reads."""

from __future__ import annotations

import json
import platform
import resource
import time
from pathlib import Path

import pytest
from _fleet import clone
from _sealed import sealed
from _serve import serve
from conftest import OWN, build_torchvision

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.loopback,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the wheels made from bytes hold x86-64 code"),
]
MANY, MORE = 2000, 10
SECONDS = 15  # processor time of the run that adds MORE
LEAST_READ = 300_000  # bytes that `install --from` may read beside the wheel
ISAS = ("avx2", "avx512")


def timed(dist: Path, site: Path) -> float:
    """Processor seconds of `index`."""
    before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    ran = build_torchvision("index", dist, "--out", site)
    assert ran.code == 0, ran.err
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    count = len(list(dist.glob("*.whl")))
    print(f"index of {count} wheels: {seconds:.1f} s of processor time, {time.perf_counter() - wall:.1f} s")
    return seconds


def test_two_thousand_wheels_and_ten_more(tmp_path: Path, env: Path) -> None:
    """Prints what it costs. The wheels are two, cloned under other versions, each with its own metadata and report."""
    dist, site = tmp_path / "dist", tmp_path / "site"
    dist.mkdir()
    bases = [sealed(tmp_path / "base", f"torchvision-python{OWN}-cpu-{isa}") for isa in ISAS]
    for number in range(MANY):
        clone(bases[number % len(bases)], dist, f"1.{number}.0")
    timed(dist, site)
    for number in range(MANY, MANY + MORE):
        clone(bases[number % len(bases)], dist, f"1.{number}.0")
    assert timed(dist, site) <= SECONDS
    assert timed(dist, site) <= SECONDS  # nothing is new
    assert len(json.loads((site / "index.json").read_text())["wheels"]) == MANY + MORE
    for name in ("index.json", "index.json.gz", "index.html", "simple/torchvision/index.html"):
        print(f"{name}: {(site / name).stat().st_size / 1000:.0f} kB")
    with serve(site) as served:
        ran = build_torchvision(
            "install", "cpu-avx2", "--from", served.url, "--python", env, "--no-deps", "--torchvision", "1.1000.0"
        )
    assert ran.code == 0, ran.err
    beside = {path: size for path, size in served.sent.items() if not path.endswith(".whl")}
    print(f"install read {sum(beside.values()) / 1000:.0f} kB beside the wheel: {beside}")
    assert sum(beside.values()) <= LEAST_READ

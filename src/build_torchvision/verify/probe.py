"""The probe, started and read: every operator of an installed torchvision called in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

from build_torchvision.process import run
from build_torchvision.verify.checks import Check
from build_torchvision.verify.target import Place

PROBE = Path(__file__).with_name("_runtime_probe.py")


def probe(
    place: Place,
    codecs: Collection[str],
    *,
    device: Mapping[str, object] | None = None,
    label: str = "runs",
    timeout: float = 900,
) -> tuple[tuple[Check, ...], dict[str, str]]:
    """Call every operator of the torchvision at `place`; `codecs` are those it should have. `timeout` in seconds.

    With `device`, the probe's options of that name, the operators are called on the GPU. `label` begins each check's
    name. Returns the checks, and of each a digest of the results' bits.
    """
    with tempfile.TemporaryDirectory(prefix="probe-") as scratch:
        results = Path(scratch, "results.jsonl")
        done = run(
            place.command(PROBE, results, json.dumps({"codecs": sorted(codecs), "device": device})),
            action="calling every operator",
            cwd=Path(scratch),  # not a folder with a torchvision/ of its own
            env={**os.environ, **place.env},
            check=False,
            timeout=timeout,
        )
        text = results.read_text(encoding="utf-8") if results.exists() else ""
        return read_results(text, done, label), read_digests(text)


def read_digests(text: str) -> dict[str, str]:
    """What the probe says of the bits that each check saw: check -> digest."""
    return {row["name"]: row["digest"] for row in map(json.loads, text.splitlines()) if row.get("digest")}


def read_results(text: str, done: subprocess.CompletedProcess[str], label: str = "runs") -> tuple[Check, ...]:
    """The probe's lines as checks. A probe that died becomes a failing check, with what it was doing."""
    checks: list[Check] = []
    doing = "starting"
    for line in text.splitlines():
        row = json.loads(line)
        if "start" in row:
            doing = row["start"]
        else:
            checks.append(Check(name=f"{label}: {row['name']}", ok=row["ok"], detail=row["detail"]))
            doing = "ending"
    if done.returncode not in (0, 1) or not checks or (done.returncode == 1 and all(check.ok for check in checks)):
        checks.append(Check(name=f"{label}: to the end", ok=False, detail=f"at {doing}: {death(done)}"))
    return tuple(checks)


def death(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode == -signal.SIGILL:
        return "stopped by SIGILL: the CPU here lacks an instruction of the package. Verify it on a CPU of its ISA."
    if done.returncode < 0:
        return f"stopped by {signal.Signals(-done.returncode).name}"
    return f"ended with exit code {done.returncode}: {' '.join(done.stderr.strip().splitlines()[-3:])}"

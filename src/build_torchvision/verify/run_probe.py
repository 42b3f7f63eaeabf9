"""Start the probe and read its results: every operator of an installed torchvision called in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from build_torchvision.errors import MissingInput
from build_torchvision.process import run
from build_torchvision.progress import waiting
from build_torchvision.verify.checks import Check, Part
from build_torchvision.verify.target import Place

PROBE = Path(__file__).with_name("probe") / "__main__.py"


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """One check of the probe. `digest` is of every bit that the operators returned, empty where they returned nothing.

    `error` is the largest error relative to the reference's largest value. `kernels` is what a profiler saw on the GPU,
    and `lists_kernels` whether this is the check that asked it.
    """

    check: Check
    digest: str = ""
    error: float | None = None
    kernels: tuple[str, ...] = ()
    lists_kernels: bool = False


def probe(
    place: Place,
    codecs: Collection[str],
    *,
    expected: Collection[str] | None = None,
    device: Mapping[str, object] | None = None,
    label: str = "runs",
    part: Part = "cpu",
    timeout: float = 900,
) -> tuple[ProbeResult, ...]:
    """Call every operator of the torchvision at `place`; `codecs` are those it should have. `timeout` in seconds.

    `expected` are the operators that the release registers, None where that is not known. With `device`, the probe's
    options of that name, the operators are called on the GPU. `label` begins each check's name, `part` says which part
    of the verification the checks are. Raises MissingInput where torch cannot be imported there.
    """
    options = {
        "codecs": sorted(codecs),
        "expected": None if expected is None else sorted(expected),
        "device": device,
    }
    with waiting("Call every operator"), tempfile.TemporaryDirectory(prefix="probe-") as scratch:
        results = Path(scratch, "results.jsonl")
        done = run(
            place.command(PROBE, results, json.dumps(options)),
            action="calling every operator",
            cwd=Path(scratch),  # not a folder with a torchvision/ of its own
            env={**os.environ, **place.env},
            check=False,
            timeout=timeout,
        )
        if not results.exists():  # it is made when torch has been imported
            raise MissingInput(
                "Call every operator",
                f"torch cannot be imported there, so nothing was learned of the package: {death(done)}.",
                f"See `{place.python} -c 'import torch'`; under emulation a newer qemu may know what this torch needs.",
            )
        return read_results(results.read_text(encoding="utf-8"), done, label=label, part=part)


def read_results(
    text: str, done: subprocess.CompletedProcess[str], *, label: str = "runs", part: Part = "cpu"
) -> tuple[ProbeResult, ...]:
    """The probe's lines as checks. A probe that died becomes a failing check, with what it was doing."""
    results: list[ProbeResult] = []
    doing = "starting"
    for line in text.splitlines():
        row = json.loads(line)
        if "start" in row:
            doing = row["start"]
            continue
        check = Check(name=f"{label}: {row['name']}", ok=row["ok"], detail=row["detail"], part=part)
        results.append(
            ProbeResult(
                check=check,
                digest=row.get("digest", ""),
                error=row.get("error"),
                kernels=tuple(row.get("kernels") or ()),
                lists_kernels="kernels" in row,
            )
        )
        doing = "ending"
    if done.returncode not in (0, 1) or not results or (done.returncode == 1 and all(r.check.ok for r in results)):
        detail = f"at {doing}: {death(done)}"
        results.append(ProbeResult(check=Check(name=f"{label}: to the end", ok=False, detail=detail, part=part)))
    return tuple(results)


def digests(results: Collection[ProbeResult]) -> dict[str, str]:
    """Of each check that saw any, a digest of the results' bits: the check's name without its label -> digest."""
    return {result.check.name.partition(": ")[2]: result.digest for result in results if result.digest}


def death(done: subprocess.CompletedProcess[str]) -> str:
    """Why a process ended, for a check's detail."""
    if done.returncode == -signal.SIGILL:
        return "stopped by SIGILL: the CPU here lacks an instruction of the package. Verify it on a CPU of its ISA."
    if done.returncode < 0:
        return f"stopped by {signal.Signals(-done.returncode).name}"
    return f"ended with exit code {done.returncode}: {' '.join(done.stderr.strip().splitlines()[-3:])}"

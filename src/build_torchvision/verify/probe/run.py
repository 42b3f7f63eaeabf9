"""Run the checks in order and write a row for each."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import torch

from . import images, operators
from .gpu import check_device, kernels, refusals
from .harness import Outcome, Probe, Wrong
from .images import nvjpeg
from .loading import check_all_called, check_all_called_on_gpu, check_import

Named = tuple[str, Callable[[], Outcome]]
FIRST = ("import", "device")
"""Checks after whose failure nothing else is asked."""


def covered() -> frozenset[str]:
    """Every operator that some check calls: the test suite compares it with what each release registers."""
    return operators.covered() | images.covered()


def main(results: Path, options: Mapping[str, Any]) -> int:
    """Write the results; 0 if every check holds. `options` are those of `__main__`."""
    torch.manual_seed(20)
    torch.set_num_threads(2)
    expected = frozenset(options["expected"]) if options.get("expected") is not None else None
    probe = Probe()
    with results.open("w", encoding="utf-8", buffering=1) as out:
        run = partial(perform, out, probe)
        if not all(run([("import", partial(check_import, probe))])):
            return 1
        device = options.get("device")
        held = _on_cpu(run, probe, options, expected) if device is None else _on_gpu(run, probe, device)
        return 0 if all(held) else 1


def _on_cpu(
    run: Callable[[Sequence[Named]], list[bool]],
    probe: Probe,
    options: Mapping[str, Any],
    expected: frozenset[str] | None,
) -> list[bool]:
    held = run(operators.checks(probe))
    held += run(images.checks(probe, frozenset(options["codecs"])))
    return held + run([("every operator", partial(check_all_called, probe, expected))])


def _on_gpu(run: Callable[[Sequence[Named]], list[bool]], probe: Probe, device: Mapping[str, Any]) -> list[bool]:
    probe.on_gpu = True
    held = run([("device", partial(check_device, device["capability"]))])
    if not all(held):
        return held
    if device["refused"]:
        return run(refusals(probe))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        held = run(operators.checks(probe))
        if set(nvjpeg.OPERATORS) & probe.registered:
            held += run([("nvJPEG", partial(nvjpeg.check if device["nvjpeg"] else nvjpeg.check_absent, probe))])
        held += run([("every operator", partial(check_all_called_on_gpu, probe))])
    return held + run([("kernels", partial(kernels, profile))])


def perform(out: TextIO, probe: Probe, checks: Sequence[Named]) -> list[bool]:
    """Run the checks and write what each gave; those after a failed import or an unusable GPU are left out."""
    held = []
    for name, check in checks:
        probe.seen.clear()
        out.write(json.dumps({"start": name}) + "\n")
        row: dict[str, Any] = {"name": name, "ok": False}
        try:
            outcome = check()
        except Wrong as error:
            row["detail"] = str(error)
        except Exception:
            row["detail"] = traceback.format_exc().strip().splitlines()[-1]
        else:
            row |= {"ok": True, "detail": outcome.detail, "error": outcome.error}
            if outcome.kernels is not None:
                row["kernels"] = outcome.kernels
        out.write(json.dumps({**row, "digest": probe.digest()}) + "\n")
        held.append(row["ok"])
        if name in FIRST and not row["ok"]:
            break
    return held

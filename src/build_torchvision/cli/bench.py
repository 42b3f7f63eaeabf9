"""`bench`: how much faster a variant is on this machine."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from build_torchvision.bench.comparison import arena, comparison, import_seconds, versions
from build_torchvision.bench.picture import draw
from build_torchvision.bench.report import markdown, to_json, where_of
from build_torchvision.cli.options import (
    ERR,
    INPUTS,
    OUTPUT,
    RUN,
    WHAT,
    Json,
    Quiet,
    Verbose,
    above_zero,
    flag,
    log_to_stderr,
)
from build_torchvision.cli.verify import present
from build_torchvision.errors import BadInput
from build_torchvision.machine.cpu import read_cpu
from build_torchvision.machine.sources import this_machine
from build_torchvision.releases import release_named
from build_torchvision.verify.gpu import VisibleGpu, choose, groups_of
from build_torchvision.verify.gpu_run import on
from build_torchvision.verify.package import Package, parse_file_name
from build_torchvision.verify.target import Place, existing


def bench(
    *wheels: Annotated[Path, Parameter(help="Wheels of one release, for this machine.")],
    seconds: Annotated[float, Parameter(group=RUN, validator=above_zero)] = 2.0,
    only: Annotated[str | None, Parameter(group=WHAT)] = None,
    threads: Annotated[str, Parameter(group=RUN)] = "1,all",
    device: Annotated[Literal["auto", "cpu", "cuda"], Parameter(group=RUN)] = "auto",
    beside_installed: Annotated[bool, Parameter(negative=(), group=WHAT)] = False,
    python: Annotated[Path | None, Parameter(group=INPUTS)] = None,
    out: Annotated[Path | None, Parameter(group=OUTPUT)] = None,
    picture: Annotated[bool, flag(OUTPUT, "Also draw it; needs the extra `bench`.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Time WHEELS against the published wheel of their release: every operator and codec, with intervals.

    Parameters
    ----------
    seconds
        How long each case of each wheel is timed; more narrows the intervals.
    only
        Time only cases whose name contains one of these words: nms,roi_align/typical.
    threads
        How many threads on the CPU: a number, all, or several of them.
    device
        cpu; cuda: the operators on the first GPU; auto: the CPU, and the GPU too where it runs the wheels.
    beside_installed
        Compare with the torchvision of --python, of whatever release, in place of the published wheel.
    python
        An environment that has the wheels' torch, numpy and Pillow. Default: one in the cache, about 5 GB.
    out
        A folder for bench.json and bench.md, and with --picture for bench.svg and bench.png.
    """
    log_to_stderr(quiet=quiet, verbose=verbose)
    if not wheels:
        raise BadInput("bench", "no wheel was named.", "Try `build-torchvision bench dist/*.whl`.")
    if picture and out is None:
        raise BadInput("bench --picture", "it has nowhere to go.", "Add --out FOLDER.")
    if beside_installed and python is None:
        raise BadInput("bench --beside-installed", "no environment was named.", "Add --python FOLDER.")
    counts = _counts(threads)
    version = parse_file_name(wheels[0].name).version.partition("+")[0]
    environment = existing(python) if python else None
    gpu = None if device == "cpu" else _gpu(wheels, required=device == "cuda")
    common: dict[str, Any] = {
        "seconds": seconds,
        "only": only.split(",") if only else [],
        "report": lambda key: None if quiet else ERR.print(key, highlight=False),
    }
    with arena(
        wheels,
        torch=release_named(version).torch,
        python=environment.python if environment else None,
        installed=environment if beside_installed else None,
    ) as (interpreter, contenders):
        timings = []
        for count in () if device == "cuda" else counts:
            timings += comparison(interpreter, contenders, threads=count, **common)
        if gpu:
            env = on(Place(python=interpreter), gpu, jit=True).env
            timings += comparison(interpreter, contenders, device="cuda", env=env, **common)
        if not timings:
            raise BadInput(f"--only {only}", "no case has such a name.", "Leave it out to see them all.")
        cpu, said = read_cpu(this_machine()), versions(interpreter, contenders[0])
        about = {
            "torchvision": version,
            "stock": said["torchvision"],
            "torch": said["torch"],
            "machine": f"{cpu.model} ({cpu.microarchitecture}), {len(os.sched_getaffinity(0))} cores",
            "gpu": gpu.name if gpu else None,
        }
        result = to_json(timings, contenders, import_seconds(interpreter, contenders), about)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "bench.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        (out / "bench.md").write_text(markdown(result), encoding="utf-8")
        if picture:
            draw(result, out / "bench", where=where_of(result["cases"][0]))
    print(json.dumps(result, indent=2) if as_json else markdown(result))


def _counts(threads: str) -> list[int]:
    """Numbers of threads, each once, of "1,all"."""
    counts = []
    for word in threads.split(","):
        if word != "all" and not (word.isdigit() and int(word) >= 1):
            raise BadInput(f"--threads {threads}", f"{word!r} is no number of threads.", "Try --threads 1,all.")
        counts.append(len(os.sched_getaffinity(0)) if word == "all" else int(word))
    return list(dict.fromkeys(counts))


def _gpu(wheels: Sequence[Path], *, required: bool) -> VisibleGpu | None:
    """The GPU that runs every one of `wheels`; None without one, where it is not `required`."""
    host = present()
    if required:
        host.require("bench --device cuda")
    gpus = []
    for wheel in wheels:
        served = choose(groups_of(Package(wheel).extensions), host)
        if served is None and required:
            hint = "Leave it out, or try --device cpu."
            raise BadInput("bench --device cuda", f"{wheel.name} has no code for a GPU here.", hint)
        if served is None:
            return None
        gpus.append(served[0])
    return gpus[0]

"""`bench`: whether a variant is worth it on this machine."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from build_torchvision.bench.contest import arena, contest, import_seconds
from build_torchvision.bench.picture import draw
from build_torchvision.bench.report import markdown, to_json
from build_torchvision.cli.options import ERR, Json, Quiet, Verbose, log_to_stderr
from build_torchvision.errors import BadInput
from build_torchvision.facts import release
from build_torchvision.machine.cpu import read_cpu
from build_torchvision.machine.sources import this_machine
from build_torchvision.proof.package import parse_file_name


def bench(
    *wheels: Path,
    seconds: float = 2.0,
    only: str | None = None,
    threads: str = "1,all",
    python: Path | None = None,
    out: Path | None = None,
    picture: Annotated[bool, Parameter(negative=())] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Time WHEELS beside the stock wheel of their release: every operator and codec, in turns, with intervals.

    Parameters
    ----------
    seconds
        For a case and contender; more narrows the intervals.
    only
        Cases whose name holds one of these words: nms,roi_align/typical.
    threads
        1, a number, all, or several of them.
    python
        An interpreter that has the release's torch, numpy and Pillow; default: an environment in the cache, 5 GB.
    out
        A folder for bench.json and bench.md, and with --picture bench.svg and bench.png.
    picture
        Also draw it (needs the extra `bench`).
    """
    log_to_stderr(quiet=quiet, verbose=verbose)
    if not wheels:
        raise BadInput("bench", "no wheel was named.", "Try `build-torchvision bench dist/*.whl`.")
    if picture and out is None:
        raise BadInput("bench --picture", "it has nowhere to go.", "Add --out FOLDER.")
    cores = len(os.sched_getaffinity(0))
    counts = []
    for word in threads.split(","):
        if word != "all" and not (word.isdigit() and int(word) >= 1):
            raise BadInput(f"--threads {threads}", f"{word!r} is no number of threads.", "Try --threads 1,all.")
        counts.append(cores if word == "all" else int(word))
    version = parse_file_name(wheels[0].name).version.partition("+")[0]
    torch = release(version).torch
    words = only.split(",") if only else []
    with arena(wheels, torch=torch, python=python) as (interpreter, contenders):
        timings = []
        for count in dict.fromkeys(counts):
            timings += contest(
                interpreter,
                contenders,
                threads=count,
                seconds=seconds,
                only=words,
                report=lambda key: None if quiet else ERR.print(key, highlight=False),
            )
        if not timings:
            raise BadInput(f"--only {only}", "no case has such a name.", "Leave it out to see them all.")
        cpu = read_cpu(this_machine())
        machine = f"{cpu.model} ({cpu.microarchitecture}), {cores} cores"
        about = {"torchvision": version, "torch": torch, "machine": machine}
        result = to_json(timings, contenders, import_seconds(interpreter, contenders), about)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "bench.json").write_text(json.dumps(result, indent=1) + "\n")
        (out / "bench.md").write_text(markdown(result))
        if picture:
            draw(result, out / "bench", threads=timings[0].threads)
    print(json.dumps(result, indent=2) if as_json else markdown(result))

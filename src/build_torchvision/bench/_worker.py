"""Executed in an environment of its own, not imported: times one torchvision, on demand.

    python -I _worker.py FOLDER THREADS DEVICE

FOLDER holds `torchvision/`; DEVICE is "cpu" or "cuda". Commands are JSON lines on standard input, answers JSON lines
on standard output: {"list": true} -> [[name, size, direction, group], ...]; {"make": key} readies a case;
{"time": runs} -> seconds of CPU and of wall clock for that many calls, and until a GPU has finished them;
{"save": path}, {"compare": path} -> the largest error relative to the other contender's result; {"about": true} ->
versions.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

FOLDER, THREADS, DEVICE = str(Path(sys.argv[1]).resolve()), int(sys.argv[2]), sys.argv[3]
sys.path.insert(0, FOLDER)
sys.path.append(str(Path(__file__).parent))  # last: statistics.py lies there too, and torch imports Python's

import torch  # noqa: E402

torch.set_num_threads(THREADS)
if DEVICE != "cpu":  # the CPU is torch's own default; said, every call passes a Python function first: 2.4 us
    torch.set_default_device(DEVICE)

import torchvision  # noqa: E402
from _cases import cases  # noqa: E402

if not str(torchvision.__file__).startswith(FOLDER):
    sys.exit(f"{torchvision.__file__} was imported, not the torchvision of {FOLDER}")
for module in Path(FOLDER, "torchvision").glob("image*.so"):  # image_stable.so from 0.29 on
    torch.ops.load_library(str(module))
CASES = {case.key: case for case in cases(DEVICE)}
SEED = 20


def flat(result: Any) -> list[torch.Tensor]:
    found = [result] if isinstance(result, torch.Tensor) else list(result)
    return [(tensor.int_repr() if tensor.is_quantized else tensor).detach().cpu() for tensor in found]


def error(mine: list[torch.Tensor], other: list[torch.Tensor]) -> float:
    """The largest difference relative to the largest value of the other's; infinity for another shape or NaN."""
    worst = 0.0
    for a, b in zip(mine, other, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            return float("inf")
        if a.numel():
            gap = float((a.double() - b.double()).abs().max()) / max(float(b.double().abs().max()), 1e-30)
            worst = max(worst, gap if gap == gap else float("inf"))
    return worst


def finish() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def rest() -> None:
    """Wait until this process's threads sleep, half a second at most.

    After a loop they spin for some milliseconds in wait of the next one, on the cores that the next contender's turn
    is timed on.
    """
    for _ in range(100):
        cpu = time.process_time()
        time.sleep(0.005)
        if time.process_time() - cpu < 0.001:
            return


def main() -> None:
    call: Any = None
    for line in sys.stdin:
        command = json.loads(line)
        answer: Any = None
        if "list" in command:
            answer = [[case.name, case.size, case.direction, case.group] for case in CASES.values()]
        elif "about" in command:
            answer = {"torch": torch.__version__, "torchvision": torchvision.__version__}
        elif "make" in command:
            case = CASES[command["make"]]
            torch.manual_seed(SEED)
            call = case.make(case.size)
            call()
        elif "save" in command:
            torch.save(flat(call()), command["save"])
        elif "compare" in command:
            answer = error(flat(call()), torch.load(command["compare"]))
        else:
            runs = command["time"]
            if THREADS > 1:
                call()  # wakes the threads, as the calls before it do in a program
            finish()
            wall, cpu = time.perf_counter(), time.thread_time()
            for _ in range(runs):
                call()
            finish()
            answer = [time.thread_time() - cpu, time.perf_counter() - wall]
            if THREADS > 1:
                rest()
        print(json.dumps(answer), flush=True)


main()

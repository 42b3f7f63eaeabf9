"""Time the kernels that operators launch on a GPU, without what the CPU spends on launching them.

    python benchmarks/gpu_kernels.py FOLDER... [--rounds 7] [--calls 20] [--only large]

FOLDERs each hold a torchvision/ package for the Python that runs this; the first one is the baseline. A process each
is asked in turns. Torch's profiler gives the time of every kernel, copy and fill on the GPU. Printed are the GPU time
of one call in microseconds (median of the rounds, and the quartiles), the baseline's over it, and the kernels of more
than a tenth of the call.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from statistics import median, quantiles

CASES = Path(__file__).parents[1] / "src" / "build_torchvision" / "bench"
WORKER = """
import json, sys, warnings
warnings.simplefilter("ignore")
folder, cases_folder = sys.argv[1:]
sys.path.insert(0, folder)
import torch
torch.set_default_device("cuda")
import torchvision
assert torchvision.__file__.startswith(folder), torchvision.__file__
sys.path.append(cases_folder)
from _cases import cases
from torch.profiler import ProfilerActivity, profile
known = {case.key: case for case in cases("cuda")}
print(json.dumps(list(known)), flush=True)
for line in sys.stdin:
    key, calls = json.loads(line)
    if key is not None:
        torch.manual_seed(20)
        call = known[key].make(known[key].size)
    call(), call()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        for _ in range(calls):
            call()
        torch.cuda.synchronize()
    times = {}
    for event in profiled.events():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            times[event.name] = times.get(event.name, 0) + event.time_range.elapsed_us() / calls
    print(json.dumps(times), flush=True)
"""


def short(kernel: str) -> str:
    """The name of a kernel without its type, namespaces, template arguments and parameters."""
    plain = kernel.replace("(anonymous namespace)::", "").removeprefix("void ")
    return re.split(r"[<(]", plain)[0].split("::")[-1].strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--only", default="large", help="cases whose name holds one of these words")
    options = parser.parse_args()
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(folder.resolve()), str(CASES)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for folder in options.folders
    ]

    def answer(worker: subprocess.Popen[str]) -> list[str] | dict[str, float]:
        assert worker.stdout is not None
        return json.loads(worker.stdout.readline())

    keys, *_ = [answer(worker) for worker in workers]
    print(f"| case | {' | '.join(folder.name for folder in options.folders)} |")
    print(f"| --- |{' --- |' * len(workers)}")
    for key in keys:
        if not any(word in key for word in options.only.split(",")):
            continue
        whole: list[list[float]] = [[] for _ in workers]
        parts: list[dict[str, list[float]]] = [defaultdict(list) for _ in workers]
        for turn in range(options.rounds):
            for i, worker in enumerate(workers):
                assert worker.stdin is not None
                worker.stdin.write(json.dumps([key if turn == 0 else None, options.calls]) + "\n")
                worker.stdin.flush()
                times = answer(worker)
                whole[i].append(sum(times.values()))
                for kernel, time in times.items():
                    parts[i][short(kernel)].append(time)
        cells = []
        for times, kernels in zip(whole, parts, strict=True):
            low, middle, high = quantiles(times, n=4)
            shown = {name: median(values) for name, values in kernels.items() if median(values) > middle / 10}
            each = ", ".join(f"{name} {value:.1f}" for name, value in sorted(shown.items(), key=lambda kv: -kv[1]))
            cells.append(f"{middle:.1f} ({low:.1f}-{high:.1f}) **{median(whole[0]) / middle:.2f}** {each}")
        print(f"| {key} | {' | '.join(cells)} |", flush=True)
    for worker in workers:
        worker.communicate()


if __name__ == "__main__":
    main()

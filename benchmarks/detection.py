"""Time a detector with random weights on a CPU in two packages: operators, post-processing and heads, and the whole.

    python benchmarks/detection.py STOCK_PYTHON OUR_PYTHON [--threads 1] [--rounds 5] [--library OURS.so]

STOCK_PYTHON and OUR_PYTHON are Pythons that have the torchvision to measure; with --library the second one loads
operators from that file. Rounds alternate between the two; printed are the smallest times in milliseconds. The time in
operators is what torch's profiler counts for `torchvision::`, of one call. Post-processing and heads are
`rpn.filter_proposals` and `roi_heads`, without the backbone and the head of the region proposal network.
"""

from __future__ import annotations

import argparse
import json
import subprocess

# Random weights score all classes alike: the threshold lets about as many boxes through as a street scene has before
# the last suppression.
WORKER = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
import torch, torchvision
from torchvision.models import detection
name, threads, library = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if library:
    torch.ops.load_library(library)
torch.set_num_threads(threads)
torch.manual_seed(1)
model = getattr(detection, name)(weights=None, weights_backbone=None, box_score_thresh=0.012).eval()
image = [torch.rand(3, 800, 1088)]
with torch.inference_mode():
    found = len(model(image)[0]["boxes"])
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        model(image)
heads = [0.0]
def timed(module, name):
    function = getattr(module, name)
    def call(*arguments, **options):
        start = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            heads[0] += time.perf_counter() - start
    setattr(module, name, call)
timed(model.rpn, "filter_proposals")
timed(model.roi_heads, "forward")
rows = [row for row in profile.key_averages() if row.key.startswith("torchvision::")]
print(json.dumps([found, sum(row.cpu_time_total for row in rows) / 1000, sum(row.count for row in rows)]), flush=True)
for line in sys.stdin:
    heads[0], start = 0.0, time.perf_counter()
    with torch.inference_mode():
        model(image)
    print(json.dumps([(time.perf_counter() - start) * 1000, heads[0] * 1000]), flush=True)
"""
MODELS = ("fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pythons", nargs=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--library", default="")
    options = parser.parse_args()
    parts = ("operators", "post-processing and heads", "whole")
    print(f"| model | threads | boxes | {' | '.join(f'{part}, stock ms | ours ms | ' for part in parts)} |")
    print(f"| --- | --- | ---{' | --- | --- | ---' * len(parts)} |")
    for model in MODELS:
        workers, said = [], []
        for python, library in zip(options.pythons, ("", options.library), strict=True):
            worker = subprocess.Popen(
                [python, "-c", WORKER, model, str(options.threads), library],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert worker.stdout is not None
            said.append(json.loads(worker.stdout.readline()))
            workers.append(worker)
        rounds: list[list[tuple[float, float]]] = [[], []]
        for _ in range(options.rounds):
            for times, worker in zip(rounds, workers, strict=True):
                assert worker.stdin is not None
                assert worker.stdout is not None
                worker.stdin.write("\n")
                worker.stdin.flush()
                times.append(json.loads(worker.stdout.readline()))
        for worker in workers:
            worker.communicate()
        assert said[0][0] == said[1][0], "the two do not find the same number of boxes"
        operators = [row[1] for row in said]
        whole, heads = ([min(each[part] for each in times) for times in rounds] for part in (0, 1))
        cells = [f"{stock:.1f} | {ours:.1f} | {stock / ours:.2f}x" for stock, ours in (operators, heads, whole)]
        print(f"| {model} | {options.threads} | {said[0][0]} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

"""Executed inside an environment, not imported: time TorchVision's CUDA operators on request, one line of JSON each.

    python -I _gpu_worker.py

Reads {"op": "nms", "direction": "forward", "samples": 5} from standard input and answers {"ms": [...]}: milliseconds a
call, by CUDA events around enough calls to last several milliseconds. The first line it writes says what it times.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import cache

import torch
import torchvision
from torch import Tensor

SAMPLE_MS = 8.0  # one sample lasts about so long
OPS = torch.ops.torchvision
Case = tuple[Callable[[], Tensor], list[Tensor]]


def boxes(count: int, images: int) -> Tensor:
    """(count, 5): image, then corners in a picture of 800 x 1088, with sides of 16 to 400."""
    size = 16 * 25 ** torch.rand(count, 2)
    corner = torch.rand(count, 2) * (torch.tensor([1088.0, 800.0]) - size)
    index = (torch.arange(count) % images).float()[:, None]
    return torch.cat([index, corner, corner + size], dim=1).cuda()


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape).cuda().requires_grad_()


@cache
def case(op: str) -> Case:
    """The forward call of `op`, and what its gradients are taken of."""
    torch.manual_seed(7)
    if op == "nms":
        rows, scores = boxes(8000, 1)[:, 1:].contiguous(), torch.rand(8000).cuda()
        return (lambda: OPS.nms(rows, scores, 0.5)), []
    if op == "deform_conv2d":
        x, weight, bias = draw(4, 64, 100, 136), draw(64, 64, 3, 3), draw(64)
        offset, mask = draw(4, 18, 100, 136), draw(4, 9, 100, 136)
        leaves = [x, weight, offset, mask, bias]
        return (lambda: OPS.deform_conv2d(*leaves, 1, 1, 1, 1, 1, 1, 1, 1, True)), leaves
    rois = boxes(1000, 2)
    if op.startswith("ps_"):  # 10 classes of 7 x 7 parts, at a sixteenth of the picture
        x = draw(2, 490, 50, 68)
        ratio = (2,) if op == "ps_roi_align" else ()
        return (lambda: getattr(OPS, op)(x, rois, 1 / 16, 7, 7, *ratio)[0]), [x]
    x = draw(2, 256, 200, 272)  # at a quarter of the picture: 111 MB, more than the GPU's cache holds
    if op == "roi_align":
        return (lambda: OPS.roi_align(x, rois, 0.25, 7, 7, 2, True)), [x]
    return (lambda: OPS.roi_pool(x, rois, 0.25, 7, 7)[0]), [x]


@cache
def timed(op: str, direction: str) -> tuple[Callable[[], object], int]:
    """What one call does, and how many of them make a sample."""
    forward, leaves = case(op)
    call: Callable[[], object] = forward
    if direction == "backward":
        out = forward()
        grad = torch.randn_like(out)
        call = lambda: torch.autograd.grad(out, leaves, grad, retain_graph=True)  # noqa: E731
    for _ in range(5):
        call()
    once = elapsed(call, 5)
    return call, max(1, round(SAMPLE_MS / once))


def elapsed(call: Callable[[], object], count: int) -> float:
    """Milliseconds a call."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    for _ in range(count):
        call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / count


def main() -> None:
    said = {
        "torchvision": torchvision.__version__,
        "file": torchvision.__file__,
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name(0),
    }
    print(json.dumps(said), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        call, count = timed(asked["op"], asked["direction"])
        print(json.dumps({"ms": [elapsed(call, count) for _ in range(asked["samples"])]}), flush=True)


if __name__ == "__main__":
    main()

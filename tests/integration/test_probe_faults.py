"""A numerical fault planted in an operator turns the probe's check of it red."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import OWN, Build

from build_torchvision.verify.environments import environment
from build_torchvision.verify.run_probe import PROBE
from build_torchvision.verify.target import Place

pytestmark = [pytest.mark.compiler, pytest.mark.torch]

PLANT = '''\
"""The probe with one operator of torch.ops spoiled: python PLANT.py PROBE RESULTS OPTIONS OPERATOR FAULT."""
import json, runpy, sys
from pathlib import Path

import torch

probe, results, options, operator, fault = sys.argv[1:]
run = runpy.run_path(probe, run_name="probe")["load"]()
namespace, short = operator.split("::")
true = None


def value(result):
    """The first number of the first tensor, off by a thousandth of the largest, or by one where it is whole."""
    if isinstance(result, (tuple, list)):
        return type(result)([value(result[0]), *result[1:]])
    if not isinstance(result, torch.Tensor):
        return result + 1
    spoiled = result.clone()
    first = spoiled.reshape(-1)[:1]
    step = result.abs().max() * 1e-3 if result.is_floating_point() else 1
    return torch.cat([first + step, spoiled.reshape(-1)[1:]]).reshape(result.shape).to(result.dtype)


def gradient(result):
    first = result[0] if isinstance(result, (tuple, list)) else result
    if isinstance(first, torch.Tensor) and first.requires_grad:
        first.register_hook(lambda grad: grad * 1.001)
    return result


def spoiled(*arguments, **named):
    result = true(*arguments, **named)
    return value(result) if fault == "value" else gradient(result)


def plant():
    global true
    space = getattr(torch.ops, namespace)
    true = getattr(space, short)
    setattr(space, short, spoiled)


loading = sys.modules["build_torchvision_probe.run"].check_import


def imported(probe):
    outcome = loading(probe)
    plant()
    return outcome


sys.modules["build_torchvision_probe.run"].check_import = imported
sys.exit(run.main(Path(results), json.loads(options)))
'''
# operator, kind of fault, the checks that must turn red
FAULTS = [
    ("torchvision::nms", "value", {"nms", "nms of many boxes"}),
    ("torchvision::roi_align", "value", {"roi_align"}),
    ("torchvision::roi_align", "gradient", {"roi_align"}),
    ("torchvision::_roi_align_backward", "value", {"_roi_align_backward"}),
    ("torchvision::roi_pool", "value", {"roi_pool"}),
    ("torchvision::roi_pool", "gradient", {"roi_pool"}),
    ("torchvision::_roi_pool_backward", "value", {"_roi_pool_backward"}),
    ("torchvision::ps_roi_align", "value", {"ps_roi_align"}),
    ("torchvision::_ps_roi_align_backward", "value", {"_ps_roi_align_backward"}),
    ("torchvision::ps_roi_pool", "value", {"ps_roi_pool"}),
    ("torchvision::_ps_roi_pool_backward", "value", {"_ps_roi_pool_backward"}),
    ("torchvision::deform_conv2d", "value", {"deform_conv2d"}),
    ("torchvision::deform_conv2d", "gradient", {"deform_conv2d"}),
    ("torchvision::_deform_conv2d_backward", "value", {"_deform_conv2d_backward"}),
    ("torchvision::box_iou_rotated", "value", {"box_iou_rotated"}),
    ("torchvision::qnms", "value", {"quantized operators"}),
    ("torchvision::qroi_align", "value", {"quantized operators"}),
    ("image::decode_png", "value", {"PNG"}),
    ("image::decode_gif", "value", {"GIF"}),
    ("image::decode_webp", "value", {"WEBP"}),
    ("image::read_file", "value", {"files"}),
]


def checks_with(place: Place, folder: Path, operator: str, fault: str) -> dict[str, bool]:
    """check -> whether it holds, with `fault` in `operator`; empty where the release has no such operator."""
    folder.mkdir(parents=True, exist_ok=True)
    plant, results = folder / "plant.py", folder / "results.jsonl"
    plant.write_text(PLANT, encoding="utf-8")
    options = json.dumps({"codecs": ["jpeg", "png", "webp"], "expected": None, "device": None})
    done = subprocess.run(
        [*map(str, place.command(plant, PROBE, results, options, operator, fault))],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    if "has no attribute" in done.stderr or not results.is_file():
        return {}
    rows = map(json.loads, results.read_text(encoding="utf-8").splitlines())
    return {row["name"]: row["ok"] for row in rows if "name" in row}


@pytest.fixture(scope="module")
def place(built: Build) -> Iterator[Place]:
    with environment(built.wheels["avx2", OWN], torch_requirement="==2.6.0", python=OWN) as venv:
        yield Place(python=venv / "bin" / "python")


@pytest.mark.parametrize(
    ("operator", "fault", "red"), FAULTS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_numerical_fault_is_seen(operator: str, fault: str, red: set[str], place: Place, tmp_path: Path) -> None:
    checks = checks_with(place, tmp_path, operator, fault)
    if not checks.get("import", False):
        pytest.skip(f"this release has no {operator}")
    failed = {name for name, ok in checks.items() if not ok}
    assert red <= failed, failed
    module = operator.partition("::")[2].strip("_").removesuffix("_backward")
    callers = red | {"float16", "every operator", module, f"_{module}_backward"}
    callers |= {"quantized operators"} if module in ("nms", "roi_align") else set()  # called with quantized tensors too
    assert failed <= callers, "only checks that call it fail"

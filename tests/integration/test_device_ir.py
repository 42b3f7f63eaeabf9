"""A CUDA unit's device half, parsed once for all SMs: the same PTX as when each SM's is parsed, or it is refused."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from build_torchvision.execute.scripts import ONE_DEVICE_IR
from build_torchvision.flags import cuda_codegen
from build_torchvision.graph.actions import EACH_SM, Action
from build_torchvision.graph.cuda_clang import ClangPlanner
from build_torchvision.graph.device import CudaBuild, CudaUnit
from build_torchvision.graph.tools import Tools, clang_tools
from build_torchvision.inputs.compiler import find_compiler
from build_torchvision.inputs.cuda_compiler import Clang
from build_torchvision.inputs.cuda_sdk import cuda_sdk
from build_torchvision.variants import parse

SMS = ("sm80", "sm90", "sm103", "sm110", "sm120")  # sm103 and sm110 need newer PTX than clang writes by itself
SOURCE = """\
template <typename T> __global__ void gather(int n, const T* from, const int* index, float* sums) {
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
    float sum = 0;
    for (int k = 0; k < index[i] % 7; k++) sum += static_cast<float>(from[index[i + k]]) * sqrtf(sum + k);
    unsigned all = __ballot_sync(0xffffffff, sum > 0);
    atomicAdd(&sums[index[i]], sum + all);
  }
}
template __global__ void gather<float>(int, const float*, const int*, float*);
template __global__ void gather<double>(int, const double*, const int*, float*);
"""
ASKS = SOURCE.replace("float sum = 0;", "float sum = __CUDA_ARCH__ >= 900 ? 1 : 0;")


def actions(folder: Path, text: str, one_ir: Sequence[str]) -> list[Action]:
    """Those that lead to PTX, with what they need written into `folder`."""
    clang, tools = find_compiler("clang", "x86_64"), Tools("x86_64")
    codegens = {sm: cuda_codegen(parse(f"torchvision-python313-cuda13_0-{sm}-avx2")) for sm in SMS}
    build = CudaBuild(
        sdk=cuda_sdk("cuda13_0"),
        compiler=Clang(compiler=clang),
        sms={sm: codegen for sm, codegen in codegens.items() if codegen},
        splice=("splice",),
        one_ir=one_ir,
    )
    unit = CudaUnit(
        stem="_C/gather",
        source="gather.cu",
        platform="x86_64",
        settings=(),
        flags=(),
        common=("-std=c++17", "-O3", "-fPIC", "-w"),
        key=None,
    )
    made = ClangPlanner(build).plan(unit)
    for name, content in {**made.files, **clang_tools(clang, tools), "gather.cu": text}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
        (folder / name).chmod(0o755)
    by_output = {action.output: action for action in made.actions}
    wanted = [output for output in by_output if output.endswith(".ptx")]
    for output in wanted:
        wanted += [path for path in by_output[output].inputs if path in by_output and path not in wanted]
    return [action for action in made.actions if action.output in wanted]


def run(folder: Path, action: Action) -> subprocess.CompletedProcess[str]:
    (folder / action.output).parent.mkdir(parents=True, exist_ok=True)
    return subprocess.run(action.command, cwd=folder, capture_output=True, text=True, check=False)


def code(text: str) -> list[str]:
    """Lines of PTX without comments, in which clang names its blocks."""
    return [line for line in (re.sub(r"//.*", "", line).rstrip() for line in text.splitlines()) if line]


def test_one_parse_gives_each_sm_the_code_that_its_own_gives(tmp_path: Path) -> None:
    found: list[dict[str, list[str]]] = []
    for name, one_ir in (("each", ()), ("once", ONE_DEVICE_IR)):
        folder = tmp_path / name
        planned = actions(folder, SOURCE, one_ir)
        assert len(planned) == (len(SMS) if not one_ir else 2 + 1 + len(SMS))
        for action in planned:
            done = run(folder, action)
            assert done.returncode == 0, done.stderr
        found.append({path.parts[-3]: code(path.read_text()) for path in sorted(folder.glob("x86_64/*/_C/*.ptx"))})
    assert found[0].keys() == set(SMS)
    assert found[1] == found[0]
    assert all(f".target sm_{sm.removeprefix('sm')}" in text for sm, text in found[1].items())


def test_a_unit_that_asks_for_the_sm_is_refused(tmp_path: Path) -> None:
    failed = [action for action in actions(tmp_path, ASKS, ONE_DEVICE_IR) if run(tmp_path, action).returncode]
    assert failed[0].unit == f"_C/gather{EACH_SM}"
    assert "different programs" in run(tmp_path, failed[0]).stderr


@pytest.mark.parametrize("text", ["", "define void @f() { ret void }\n"])
def test_ir_of_another_format_is_refused(text: str, tmp_path: Path) -> None:
    for name in ("a.ll", "b.ll"):
        (tmp_path / name).write_text(text)
    done = subprocess.run([*ONE_DEVICE_IR, "a.ll", "b.ll", "c.ll"], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 1
    assert b"another format" in done.stderr
    assert not (tmp_path / "c.ll").exists()

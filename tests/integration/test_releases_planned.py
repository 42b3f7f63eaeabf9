"""Every listed release is asked what it builds, and its graph is planned: CPU and CUDA, with clang and with nvcc.

Nothing is compiled. Sources are in the folder that BUILD_TORCHVISION_SOURCES names, each as `vision-VERSION` or
`torchvision-VERSION`; a release that is not there is fetched where this machine can reach its archive.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from build_torchvision.errors import BuildTorchvisionError
from build_torchvision.facts import Release, releases, toolkits
from build_torchvision.flags import cuda_codegen, tuning_for
from build_torchvision.graph.actions import ActionKind, Graph
from build_torchvision.graph.device import CudaBuild
from build_torchvision.graph.plan import GraphInputs, plan_graph
from build_torchvision.inputs.codecs import Codec, Codecs
from build_torchvision.inputs.compiler import Compiler
from build_torchvision.inputs.cuda_compiler import Clang, CudaCompiler, Nvcc
from build_torchvision.inputs.cuda_sdk import CudaSdk
from build_torchvision.inputs.source import fetch_source
from build_torchvision.inputs.torch_sdk import TorchSdk
from build_torchvision.inputs.upstream import TARGET_MACRO, ask_upstream
from build_torchvision.variants import parse

pytestmark = pytest.mark.nightly

CODECS = ("jpeg", "png", "webp")
CLANG = Compiler(
    family="clang", version="22.1.8", command=("c++",), c_command=("cc",), linker=("g++",), origin="system"
)


def source_of(known: Release) -> Path:
    """The unpacked source of `known`; skips, with the reason, where this machine has none."""
    named = os.environ.get("BUILD_TORCHVISION_SOURCES")
    places = [Path(named, f"{name}-{known.torchvision}") for name in ("vision", "torchvision")] if named else []
    for place in places:
        if (place / "setup.py").is_file():
            return place
    try:
        return fetch_source(known).root
    except BuildTorchvisionError as error:
        pytest.skip(f"no source of {known.torchvision}: BUILD_TORCHVISION_SOURCES is {named}, and {error.problem}")


def planned(known: Release, root: Path, compiler: CudaCompiler | None) -> Graph:
    assert known.cuda is not None, "every listed release has one"
    track = "cuda" + known.cuda.replace(".", "_")
    codegen = cuda_codegen(parse(f"torchvision-python312-{track}-sm90-avx2"))
    assert codegen is not None
    sdk = CudaSdk(
        track=track,
        version=known.cuda,
        root=Path("/cuda"),
        include_dirs=(Path("/cuda/include"),),
        ptxas=Path("/cuda/bin/ptxas"),
        fatbinary=Path("/cuda/bin/fatbinary"),
        cudart=Path("/cuda/lib/libcudart.so"),
        nvjpeg=Path("/cuda/lib/libnvjpeg.so"),
        origin="a test",
    )
    return plan_graph(
        GraphInputs(
            upstream=ask_upstream(
                root,
                version=known.torchvision,
                torch=known.torch,
                cuda=known.cuda if compiler else None,
                codecs=frozenset(CODECS),
            ),
            source_root=root,
            torch=TorchSdk(
                root=Path("/torch"),
                version=known.torch,
                local=None,
                cuda=known.cuda,
                cxx11_abi=True,
                cxx_standard=f"c++{known.cxx_standard}",
                include_dirs=(Path("/torch/include"),),
                lib_dir=Path("/torch/lib"),
                origin="a test",
            ),
            codecs=Codecs(
                found={
                    name: Codec(name=name, version="1", cflags=(f"-D{name}",), libs=(f"-l{name}",)) for name in CODECS
                }
            ),
            compiler=CLANG,
            isas={"avx2": ("-march=x86-64-v3",)},
            platform="x86_64",
            transform_ir=("/transform_ir.py",),
            shared=Path("/shared"),
            device=CudaBuild(sdk=sdk, compiler=compiler, sms={"sm90": codegen}, splice=("splice",))
            if compiler
            else None,
            tuning=tuning_for("x86_64"),
        )
    )


@pytest.mark.parametrize("family", [None, "clang", "nvcc"])
@pytest.mark.parametrize("known", releases().values(), ids=releases().keys())
def test_a_release_is_planned_whole(known: Release, family: str | None) -> None:
    root = source_of(known)
    compiler: CudaCompiler | None = None
    if family is not None:
        nvcc = Nvcc(program=Path("/nvcc"), version=known.cuda, host="g++", track="", splices=True)
        compiler = Clang(compiler=CLANG) if family == "clang" else nvcc
    graph = planned(known, root, compiler)
    (modules,) = graph.extensions.values()
    listed = set(known.extensions)
    # Between two releases upstream's sources are in part in the old module and in part in the new one.
    assert listed <= set(modules) <= listed | {"_C"}, "the row says otherwise, or the tree is not this release"
    words = {word for action in graph.actions for word in action.command}
    sources = {str(path) for path in root.rglob("*.cpp")} | {str(path) for path in root.rglob("*.cu")}
    units = "".join(graph.files.values())
    for action in graph.actions:
        if action.kind not in (ActionKind.COMPILE, ActionKind.FRONTEND, ActionKind.DEVICE):
            continue
        module = action.output.split("/")[2]
        stable = any(TARGET_MACRO in word for word in action.command)
        assert stable == module.endswith("_stable"), f"{action.label}: the release's row and its arguments differ"
    for module in ("ops/nms.cpp", "ops/cpu/nms_kernel.cpp", *(("ops/cuda/nms_kernel.cu",) if compiler else ())):
        path = f"{root}/torchvision/csrc/{module}"
        assert path in sources
        assert path in words or f'"{path}"' in units, f"{module} is in no unit"
    assert ("-DWITH_CUDA" in words) == (compiler is not None)
    assert bool([action for action in graph.actions if action.kind is ActionKind.DEVICE]) == (compiler is not None)


def test_every_track_of_a_release_has_a_toolkit() -> None:
    assert {f"cuda{known.cuda}".replace(".", "_") for known in releases().values()} <= toolkits().keys()

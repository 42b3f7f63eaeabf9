"""A release's setup.py is asked for everything that it says about a compile, and the graph passes all of it on."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from build_torchvision.flags import cuda_codegen, tuning_for
from build_torchvision.graph.actions import Action, ActionKind, Graph
from build_torchvision.graph.cuda_clang import for_clang, host_math
from build_torchvision.graph.device import CudaBuild
from build_torchvision.graph.plan import GraphInputs, plan_graph
from build_torchvision.inputs.codecs import Codec, Codecs
from build_torchvision.inputs.compiler import Compiler, find_compiler
from build_torchvision.inputs.cuda_compiler import Clang, CudaCompiler, Nvcc
from build_torchvision.inputs.cuda_sdk import CudaSdk
from build_torchvision.inputs.identity import codec_digest, tree_digest
from build_torchvision.inputs.torch_sdk import TorchSdk, read_sdk
from build_torchvision.inputs.upstream import Upstream, ask_upstream
from build_torchvision.variants import parse

SETUP = """
from setuptools import setup
import os
from torch.utils.cpp_extension import BuildExtension, CppExtension, CUDAExtension, CUDA_HOME
cuda = os.getenv("FORCE_CUDA") == "1"
Extension = CUDAExtension if cuda else CppExtension
target = "-DTORCH_TARGET_VERSION=0x020e000000000000"
setup(
    name="torchvision",
    ext_modules=[
        Extension(
            "torchvision._C",
            ["csrc/old.cpp", "csrc/ops/cpu/a.cpp", "csrc/ops/cpu/b.cpp"] + ["csrc/cuda/old.cu"] * cuda,
            define_macros=[("WITH_CUDA", None)] * cuda,
            undef_macros=["NDEBUG"], extra_link_args=["-Wl,-x"], libraries=["z"],
        ),
        Extension(
            "torchvision._C_stable", ["csrc/new.cpp", "csrc/ops/cpu/c.cpp", "csrc/ops/cpu/d.cpp"]
            + ["csrc/cuda/new.cu"] * cuda,
            extra_compile_args={"cxx": ["-g0", target], "nvcc": [target, "-DUSE_CUDA", "--ptxas-options=-v"]},
        ),
        CppExtension(
            "torchvision.list", ["csrc/list.cpp"], extra_compile_args=["-std=c++23", os.getenv("DEBUG", "-DQUIET")]
        ),
    ],
)
"""
STABLE = "-DTORCH_TARGET_VERSION=0x020e000000000000"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("old.cpp", "ops/cpu/a.cpp", "ops/cpu/b.cpp", "list.cpp", "cuda/old.cu"):
        path = tmp_path / "csrc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#include <ATen/ATen.h>\n", encoding="utf-8")
    for name, header in (("new.cpp", "library"), ("ops/cpu/c.cpp", "library"), ("ops/cpu/d.cpp", "ops")):
        text = f"#include <vector>\n#include <torch/csrc/stable/{header}.h>\n"
        (tmp_path / "csrc" / name).write_text(text, encoding="utf-8")
    (tmp_path / "csrc" / "cuda" / "new.cu").write_text("#include <torch/csrc/stable/ops.h>\n", encoding="utf-8")
    (tmp_path / "setup.py").write_text(SETUP, encoding="utf-8")
    return tmp_path


def ask(root: Path, cuda: str | None = None) -> Upstream:
    return ask_upstream(root, version="1.0", torch="2.14.0", cuda=cuda, codecs=frozenset())


def test_every_argument_of_setup_py_is_asked_for(root: Path) -> None:
    old, new, listed = ask(root, "13.0").extensions
    assert (old.module, new.module, listed.module) == ("_C", "_C_stable", "list")
    assert old.macros == ("-DWITH_CUDA", "-UNDEBUG")
    assert (old.libraries, old.link_flags) == (("z",), ("-Wl,-x",))
    assert new.cxx_flags == ("-g0", STABLE)
    assert new.nvcc_flags == (STABLE, "-DUSE_CUDA", "--ptxas-options=-v")
    assert (old.torch_target, new.torch_target) == (None, "0x020e000000000000")
    assert listed.nvcc_flags == listed.cxx_flags == ("-std=c++23", "-DQUIET"), "a list is for both compilers"


def test_the_users_environment_has_no_say_in_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEBUG", "-O0")
    assert ask(root).extensions[2].cxx_flags == ("-std=c++23", "-DQUIET")


def test_what_setup_py_writes_is_kept_and_the_source_stays_as_it_is(root: Path) -> None:
    (root / "setup.py").write_text(
        "from pathlib import Path\nwith open('a.py', 'w') as file: file.write('A')\n"
        "Path(__file__).with_name('b.py').write_text('B')\n" + SETUP,
        encoding="utf-8",
    )
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert ask(root).written == {"a.py": "A", "b.py": "B"}
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def torch(standard: str = "c++20") -> TorchSdk:
    return TorchSdk(
        root=Path("/torch"),
        version="2.14.0",
        local=None,
        cuda="13.0",
        cxx11_abi=True,
        cxx_standard=standard,
        include_dirs=(Path("/torch/include"),),
        lib_dir=Path("/torch/lib"),
        origin="a test",
    )


def compiler(family: str = "clang") -> Compiler:
    return Compiler(
        family="clang" if family == "clang" else "gcc",
        version="22.1.8",
        command=("c++",),
        c_command=("cc",),
        linker=("g++",),
        origin="system",
    )


def nvcc() -> Nvcc:
    return Nvcc(program=Path("/cuda/bin/nvcc"), version="13.0", host="g++", track="cuda13_0", splices=True)


def device(compiler: CudaCompiler) -> CudaBuild:
    sdk = CudaSdk(
        track="cuda13_0",
        version="13.0",
        root=Path("/cuda"),
        include_dirs=(Path("/cuda/include"),),
        ptxas=Path("/cuda/bin/ptxas"),
        fatbinary=Path("/cuda/bin/fatbinary"),
        cudart=Path("/cuda/lib/libcudart.so.13"),
        nvjpeg=None,
        origin="a test",
    )
    codegen = cuda_codegen(parse("torchvision-python313-cuda13_0-sm90-avx512"))
    assert codegen is not None
    return CudaBuild(sdk=sdk, compiler=compiler, sms={"sm90": codegen}, splice=("splice",))


def inputs(root: Path, family: str = "clang", cuda: CudaBuild | None = None) -> GraphInputs:
    return GraphInputs(
        upstream=ask(root, "13.0" if cuda else None),
        source_root=root,
        torch=torch(),
        codecs=Codecs(found={}),
        compiler=compiler(family),
        isas={"avx512": ("-march=x86-64-v4",)},
        platform="x86_64",
        transform_ir=("/transform_ir.py",),
        shared=Path("/shared"),
        device=cuda,
    )


def of(graph: Graph, module: str, *kinds: ActionKind) -> list[Action]:
    """The actions of one module that run a compiler over source."""
    return [action for action in graph.actions if f"/{module}/" in action.output and action.kind in kinds]


SOURCES = (ActionKind.COMPILE, ActionKind.FRONTEND, ActionKind.DEVICE)


@pytest.mark.parametrize("family", ["clang", "gcc"])
def test_setup_pys_arguments_reach_every_unit_of_its_module_alone(root: Path, family: str) -> None:
    graph = plan_graph(inputs(root, family))
    stable, old = of(graph, "_C_stable", *SOURCES), of(graph, "_C", *SOURCES)
    assert len(stable) == 3
    assert all(STABLE in action.command and "-g0" in action.command for action in stable)
    assert len(old) == 3
    assert not any(word.startswith("-DTORCH_TARGET_VERSION") for action in old for word in action.command)
    assert all("-UNDEBUG" in action.command for action in old)
    (link,) = (action for action in graph.actions if action.output.endswith("/_C.so"))
    assert "-lz" in link.command
    assert link.command[-1] == "-Wl,-x"


@pytest.mark.parametrize(("platform", "isa"), [("x86_64", "avx512"), ("aarch64", "armv9")])
def test_code_that_arm_isas_share_may_use_what_both_have(root: Path, platform: str, isa: str) -> None:
    """Its headers too: clang refuses a precompiled header that was made for another CPU."""
    graph = plan_graph(replace(inputs(root), platform=platform, isas={isa: ("-march=of-the-isa",)}))
    kinds = (ActionKind.COMPILE, ActionKind.FRONTEND, ActionKind.PCH)
    cpp = [action for action in graph.actions if action.kind in kinds and "-O3" in action.command]
    assert {action.kind for action in cpp} == set(kinds)
    for action in cpp:
        assert ("-march=armv8.2-a" in action.command) == (platform == "aarch64"), action.label
        assert "-march=of-the-isa" not in action.command, "each ISA is code generation alone"


@pytest.mark.parametrize("family", ["clang", "gcc"])
def test_stable_units_share_a_precompiled_header_of_their_own(root: Path, family: str) -> None:
    """With the target version defined, ATen's headers stop with #error, and what its units share is another text."""
    graph = plan_graph(inputs(root, family))
    headers = {action.output: action for action in graph.actions if action.kind is ActionKind.PCH}

    def used(action: Action) -> list[Action]:
        return [headers[name] for name in action.inputs if name in headers]

    def text(header: Action) -> str:
        return graph.files[header.inputs[0]]

    stable = [header for action in of(graph, "_C_stable", *SOURCES) for header in used(action)]
    old = [header for action in of(graph, "_C", *SOURCES) for header in used(action)]
    assert {text(header) for header in stable} == {"#include <torch/csrc/stable/library.h>\n"}
    assert all(STABLE in header.command for header in stable)
    assert all("ATen/ATen.h" in text(header) and STABLE not in header.command for header in old)
    # gcc's header is of one ISA: there the dispatch unit is alone, and parses for itself.
    assert (len(stable), len(old)) == ((3, 3) if family == "clang" else (2, 2))
    assert len(headers) == 2
    (alone,) = of(graph, "list", *SOURCES)
    assert not used(alone), "one reader does not pay for a header"


@pytest.mark.parametrize("cuda", [Clang(compiler=compiler()), nvcc()])
def test_cuda_units_get_the_arguments_for_nvcc_and_not_those_for_cxx(root: Path, cuda: CudaCompiler) -> None:
    graph = plan_graph(inputs(root, cuda=device(cuda)))
    halves = [action for action in of(graph, "_C_stable", *SOURCES) if "cuda" in action.command[-1] + action.label]
    assert len(halves) >= 2, "a host half and a device half"
    for action in halves:
        assert {STABLE, "-DUSE_CUDA"} <= set(action.command)
        assert "-g0" not in action.command
    spoken = any("--ptxas-options=-v" in note for note in graph.notes)
    assert spoken == (cuda.family == "clang"), "what clang does not know is left out, and said"
    assert all(("--ptxas-options=-v" in action.command) == (cuda.family == "nvcc") for action in halves)


def test_the_standard_is_torchs_unless_setup_py_names_one(root: Path) -> None:
    for standard in ("c++17", "c++20"):
        graph = plan_graph(replace(inputs(root), torch=torch(standard)))
        for module, wanted in (("_C", standard), ("_C_stable", standard), ("list", "c++23")):
            for action in of(graph, module, *SOURCES):
                assert [word for word in action.command if word.startswith("-std=")] == [f"-std={wanted}"]


@pytest.mark.parametrize(
    ("rules", "header", "standard"),
    [
        ("cflags = ['-sycl-std=2020']\ncommon = ['-std=c++17', '-fPIC']", "", "c++17"),
        ('def f():\n    """As in\n    >>> load(["-std=c++20"])\n    """\n    return ["-std=c++17"]', "", "c++17"),
        ("print 'an older or newer Python'", "#if __cplusplus < 202002L\n#error C++20\n", "c++20"),
        ('cflags += ["-std=c++20"]', "#if !defined(_MSC_VER) && __cplusplus < 201703L\n", "c++20"),
        (None, "#if !defined(_MSC_VER) && __cplusplus < 202002L\n#error C++20\n", "c++20"),
        ("cflags += ['-std=c++17']", "#if __cplusplus < 202002L\n#error C++20\n", "c++20"),
        (None, "", "c++17"),
    ],
)
def test_the_standard_is_read_from_the_torch_given(
    rules: str | None, header: str, standard: str, tmp_path: Path
) -> None:
    package = tmp_path / "torch"
    for name, text in (
        ("version.py", "__version__ = '2.14.0'\n"),
        ("include/ATen/ATen.h", header),
        ("utils/cpp_extension.py", rules),
    ):
        if text is not None:
            (package / name).parent.mkdir(parents=True, exist_ok=True)
            (package / name).write_text(text, encoding="utf-8")
    assert read_sdk(tmp_path, "a test").cxx_standard == standard


def test_tuning_can_be_left_out_and_the_arguments_of_setup_py_stay(root: Path) -> None:
    source = root / "csrc" / "ops" / "cpu" / "roi_align_kernel.cpp"
    source.touch()
    text = (
        (root / "setup.py")
        .read_text(encoding="utf-8")
        .replace("csrc/ops/cpu/c.cpp", "csrc/ops/cpu/roi_align_kernel.cpp")
    )
    (root / "setup.py").write_text(text, encoding="utf-8")
    tuned = {
        word
        for action in plan_graph(replace(inputs(root), tuning=tuning_for("x86_64"))).actions
        for word in action.command
    }
    plain = {word for action in plan_graph(inputs(root)).actions for word in action.command}
    assert {"-fassociative-math", "-fno-vectorize", "--multiply"} <= tuned - plain
    assert STABLE in plain


def test_arguments_for_nvcc_are_translated_for_clang() -> None:
    taken, left = for_clang(("-DA", "-Xcompiler", "-fopenmp", "-I", "x", "--use_fast_math", "-Xcompiler=-a,-b"))
    assert taken == ("-DA", "-fopenmp", "-I", "x", "-a", "-b")
    assert left == ("--use_fast_math",)


def test_host_code_gets_one_min_and_max_for_each_pair_of_types() -> None:
    lines = [line.partition("{")[0].strip() for line in host_math().splitlines() if line.startswith("HOST")]
    assert len(lines) == len(set(lines)) == 2 * (3 * 4 + 4)
    assert "HOST int min(int a, int b)" in lines
    assert "HOST unsigned long max(unsigned long a, long b)" in lines


def test_everything_is_compiled_anew_when_what_compilers_read_is_another(root: Path) -> None:
    for cuda in (None, device(Clang(compiler=compiler())), device(nvcc())):
        graph = plan_graph(replace(inputs(root, cuda=cuda), identity="1234"))
        assert graph.files["x86_64/inputs.txt"] == "1234\n"
        for action in graph.actions:
            reads = action.kind in (ActionKind.PCH, *SOURCES)
            assert ("x86_64/inputs.txt" in action.inputs) == reads, action.label


def test_a_digest_is_of_contents_and_not_of_places(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    copy = tmp_path_factory.mktemp("elsewhere") / "copy"
    shutil.copytree(root, copy)
    names = ("setup.py", "csrc")
    assert tree_digest(copy / name for name in names) == tree_digest(root / name for name in names)
    os.utime(copy / "csrc" / "old.cpp", (0, 0))
    assert tree_digest([copy]) == tree_digest([root])
    (copy / "csrc" / "old.cpp").rename(copy / "csrc" / "other.cpp")
    assert tree_digest([copy]) != tree_digest([root])
    (copy / "csrc" / "other.cpp").rename(copy / "csrc" / "old.cpp")
    (copy / "csrc" / "old.cpp").write_text("#include <ATen/Aten.h>\n", encoding="utf-8")
    assert tree_digest([copy]) != tree_digest([root])


@pytest.mark.compiler
def test_the_codecs_digest_is_of_what_their_headers_say(tmp_path: Path) -> None:
    texts = ("int version();\n", "int version(); // a comment\n", "long version();\n")
    digests = []
    for number, text in enumerate(texts):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "png.h").write_text(text, encoding="utf-8")
        codec = Codec(name="png", version="1.6", cflags=(f"-I{folder}",), libs=())
        digests.append(codec_digest(find_compiler("gcc"), Codecs(found={"png": codec})))
    assert digests[0] == digests[1] != digests[2]

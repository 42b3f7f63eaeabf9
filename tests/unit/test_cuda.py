"""CUDA builds: compilers held to the tables, halves that fit, one graph for many variants. No compiler is run."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pytest
from _wheels import record_of, wheel_of

from build_torchvision.errors import BadInput, FetchFailed, MissingInput
from build_torchvision.execute.patch_fatbin import splice
from build_torchvision.facts import gpus, toolkits
from build_torchvision.facts.cuda_wheels import CudaWheel
from build_torchvision.flags import cuda_codegen
from build_torchvision.graph.actions import EACH_SM, ActionKind
from build_torchvision.graph.cuda_clang import ptx_feature, ptx_version
from build_torchvision.graph.cuda_nvcc import SAME_NAMES
from build_torchvision.graph.device import CudaBuild
from build_torchvision.graph.plan import GraphInputs, plan_graph, plan_graphs
from build_torchvision.graph.units import isolated_text, plan_units
from build_torchvision.inputs import cuda_compiler, cuda_sdk, parts, resolve
from build_torchvision.inputs.codecs import Codecs
from build_torchvision.inputs.compiler import Compiler
from build_torchvision.inputs.cuda_compiler import Clang, CudaCompiler, Nvcc, check_architectures, find_cuda_compiler
from build_torchvision.inputs.registry import RegistryFile
from build_torchvision.inputs.resolve import BuildRequest
from build_torchvision.inputs.torch_sdk import TorchSdk
from build_torchvision.inputs.upstream import Extension, Upstream
from build_torchvision.releases import release_named
from build_torchvision.spec import SourceIdentity, TorchIdentity, WheelSpec
from build_torchvision.variants import Variant, enumerate_variants, parse, select

WRAPPER = (
    "@__cuda_fatbin_wrapper = internal constant { i32, i32, ptr, ptr } { i32 1180844977, i32 1, ptr @45, ptr null }, "
    'section ".nvFatBinSegment", align 8\n'
)
CONSTANT = '@45 = private constant [12 x i8] c"placeholder\\0A", section ".nv_fatbin", align 8\n'


def test_the_halves_of_a_unit_meet_at_a_symbol() -> None:
    text = splice(CONSTANT + WRAPPER, "code")
    assert "@code = external hidden constant i8\n" in text
    assert "i32 1, ptr @code, ptr null" in text
    assert "@45" not in text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (WRAPPER, "0 fat binaries"),
        (CONSTANT + CONSTANT.replace("@45", "@46") + WRAPPER, "2 fat binaries"),
        (CONSTANT.replace("private", "linkonce_odr") + WRAPPER, "0 fat binaries"),
        (CONSTANT, "0 wrappers"),
        (CONSTANT + WRAPPER + WRAPPER.replace("_wrapper", "_wrapper_"), "1 wrappers"),
        (CONSTANT + WRAPPER.replace("1180844977", "1180844978"), "magic 0x466243b2"),
        (CONSTANT + WRAPPER.replace("@45", "@46"), "points at @46"),
        (CONSTANT + WRAPPER.replace("align 8", "align 4"), "aligned to 4 bytes"),
        (CONSTANT + WRAPPER + "@x = global ptr @45\n", "2 references"),
        (CONSTANT + WRAPPER + "@code = global i32 1\n", "name of the unit itself"),
    ],
)
def test_halves_that_would_not_fit_are_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        splice(text, "code")


def sdk(track: str = "cuda12_8", root: Path = Path("/sdk")) -> cuda_sdk.CudaSdk:
    return cuda_sdk.CudaSdk(
        track=track,
        version=toolkits()[track].version,
        root=root,
        include_dirs=(root / "include",),
        ptxas=root / "bin" / "ptxas",
        fatbinary=root / "bin" / "fatbinary",
        cudart=root / "lib" / "libcudart.so.12",
        nvjpeg=root / "lib" / "libnvjpeg.so.12",
        origin="a test",
    )


def compiler(family: Literal["clang", "gcc"] = "clang", version: str = "22.1.8") -> Compiler:
    return Compiler(
        family=family, version=version, command=("c++",), c_command=("cc",), linker=("g++",), origin="system"
    )


@dataclass(frozen=True, kw_only=True)
class Told:
    """A CUDA compiler that says what it is told to."""

    knows: frozenset[str]
    table: frozenset[str]
    family: Literal["clang", "nvcc"] = "clang"
    version: str = "19.1.0"
    command: tuple[str, ...] = ("c++",)
    origin: str = "the system's clang 19.1.0"
    splices: bool = True

    def architectures(self) -> frozenset[str]:
        return self.knows

    def promised(self) -> frozenset[str]:
        return self.table


def test_a_compiler_too_old_for_the_sm_is_refused_naming_the_first_that_will_do() -> None:
    told: CudaCompiler = Told(knows=frozenset({"sm80", "sm90"}), table=frozenset({"sm80", "sm90"}))
    check_architectures(told, sdk(), ["sm80", "sm90"])
    with pytest.raises(BadInput, match="does not compile for sm120; clang 20 is the first"):
        check_architectures(told, sdk(), ["sm80", "sm120"])


@pytest.mark.parametrize(
    ("knows", "table", "why"),
    [
        ({"sm80", "sm90"}, {"sm80"}, "it compiles for sm90 and the table says it does not"),
        ({"sm80"}, {"sm80", "sm90"}, "the table says it compiles for sm90 and it does not"),
    ],
)
def test_a_table_that_a_compiler_contradicts_about_another_sm_is_warned_of(
    knows: set[str], table: set[str], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    check_architectures(Told(knows=frozenset(knows), table=frozenset(table)), sdk(), ["sm80"])
    (record,) = caplog.records
    assert f"{why} (facts/gpus.toml (clang))" in record.getMessage()


def test_the_compilers_own_word_decides_about_the_sm_that_is_asked_for() -> None:
    both, one = frozenset({"sm80", "sm90"}), frozenset({"sm80"})
    check_architectures(Told(knows=both, table=one), sdk(), ["sm90"])
    with pytest.raises(BadInput, match=r"does not compile for sm90, and the table in facts/gpus.toml .* says"):
        check_architectures(Told(knows=one, table=both), sdk(), ["sm90"])


@pytest.mark.parametrize(
    ("sm", "isa"), [("sm75", None), ("sm90", None), ("sm121", None), ("sm110", "90"), ("sm88", "90")]
)
def test_clang_is_told_the_ptx_version_only_where_its_own_is_too_old(sm: str, isa: str | None) -> None:
    assert ptx_feature(sm) == (() if isa is None else (f"--cuda-feature=+ptx{isa}",))


def test_the_tables_say_what_each_clang_compiles_for() -> None:
    promised = {major: Clang(compiler=compiler(version=f"{major}.1.0")).promised() for major in (16, 20, 21, 22, 24)}
    assert promised[20] - promised[16] == {"sm100", "sm120"}
    assert promised[21] - promised[20] == {"sm103", "sm121"}
    assert promised[22] - promised[21] == {"sm88", "sm110"}
    assert promised[24] - promised[22] == {"sm107"}
    assert promised[24] == set(gpus())


def program(folder: Path, name: str, script: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


NVCC = 'case $1 in --version) echo "Cuda compilation tools, release {}, V0";; *) echo "--frandom-seed";; esac'


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH of one empty folder."""
    folder = tmp_path / "path"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CUDA_HOME", raising=False)
    return folder


def test_nvcc_is_taken_where_its_version_is_the_tracks(path: Path, tmp_path: Path) -> None:
    program(path, "g++", "echo 13.2.0")
    program(path, "nvcc", NVCC.format("12.4"))
    named = program(tmp_path / "cuda" / "bin", "nvcc", NVCC.format("12.8"))
    found = find_cuda_compiler("nvcc", compiler(), sdk(), tmp_path / "cuda")
    assert isinstance(found, Nvcc)
    assert (found.program, found.host, found.splices) == (named, "g++", True)
    with pytest.raises(MissingInput, match=r"nvcc is 12\.4.*--cuda DIR.*/usr/local/cuda-12\.8"):
        find_cuda_compiler("nvcc", compiler(), sdk())


def test_a_host_gcc_that_nvcc_does_not_take_is_named_with_the_bound(path: Path) -> None:
    program(path, "nvcc", NVCC.format("12.8"))
    program(path, "g++", "echo 15.2.0")
    with pytest.raises(MissingInput, match=r"takes gcc up to 14 \(g\+\+ is 15\.2\.0\).*apt-get install g\+\+-14"):
        find_cuda_compiler("nvcc", compiler(), sdk())
    program(path, "g++-13", "echo 13.3.0")
    found = find_cuda_compiler("nvcc", compiler(), sdk())
    assert found.command[-2:] == ("-ccbin", "g++-13")


def test_without_any_cuda_compiler_every_way_to_get_one_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(choice: str) -> Compiler:
        raise MissingInput("Find a C++ compiler", "There is no clang.", "Install one.")

    monkeypatch.setattr(cuda_compiler, "find_compiler", none)
    with pytest.raises(MissingInput, match=r"No nvcc 12\.8 is here\..*--cuda DIR or CUDA_HOME"):
        find_cuda_compiler("auto", compiler("gcc", "12.2.0"), sdk())
    with pytest.raises(MissingInput, match="There is no clang"):
        find_cuda_compiler("clang", compiler("gcc", "12.2.0"), sdk())
    with pytest.raises(BadInput, match="Choose auto, clang or nvcc"):
        find_cuda_compiler("hipcc", compiler(), sdk())


@pytest.fixture
def one_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUILD_TORCHVISION_CACHE", str(tmp_path / "cache"))
    wheels = {track: (wheel_pinned("include"),) for track in toolkits()}
    monkeypatch.setattr(cuda_sdk, "cuda_wheels", lambda: wheels)
    nowhere = RegistryFile(url="file:///nowhere", sha256=None)
    monkeypatch.setattr(parts, "locate", lambda *_, **__: nowhere)


PROGRAMS = {f"nvidia/cu13/{name}": b"x" for name in ("bin/nvcc", "nvvm/bin/cicc", "include/x.h")}


def wheel_pinned(*keep: str) -> CudaWheel:
    record = hashlib.sha256(record_of(PROGRAMS, "nvidia_x-1").encode()).hexdigest()
    return CudaWheel(package="nvidia-x", version="1", keep=keep, records=dict.fromkeys(("x86_64", "aarch64"), record))


def test_a_truncated_toolkit_wheel_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_wheel: None
) -> None:
    def truncated(requirement: str, folder: Path, **_: object) -> Path:
        wheel = wheel_of(folder, PROGRAMS, "nvidia_x-1")
        wheel.write_bytes(wheel.read_bytes()[:-30])
        return wheel

    monkeypatch.setattr(parts, "download", truncated)
    with pytest.raises(BadInput, match="truncated"):
        cuda_sdk.cuda_sdk("cuda12_8")
    assert [path for path in (tmp_path / "cache" / "cuda").iterdir() if not path.name.endswith(".lock")] == []


@pytest.mark.parametrize("member", ["nvidia_x-1.dist-info/License.txt", "nvidia_x-1.dist-info/licenses/License.txt"])
def test_nvidias_licence_is_taken_from_the_toolkit_or_the_registrys_wheel(
    member: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = {**PROGRAMS, member: b"NVIDIA's terms"}
    record = hashlib.sha256(record_of(members, "nvidia_x-1").encode()).hexdigest()
    records = dict.fromkeys(("x86_64", "aarch64"), record)
    wheel = CudaWheel(package="nvidia-nvjpeg", version="1", keep=("include", "lib"), records=records)
    monkeypatch.setenv("BUILD_TORCHVISION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cuda_sdk, "cuda_wheels", lambda: dict.fromkeys(toolkits(), (wheel,)))
    monkeypatch.setattr(CudaWheel, "stem", "nvidia_x")
    monkeypatch.setattr(parts, "locate", lambda *_, **__: RegistryFile(url="file:///nowhere", sha256=None))
    monkeypatch.setattr(parts, "download", lambda _, folder, **__: wheel_of(folder, members, "nvidia_x-1"))
    registrys = cuda_sdk._licence("cuda12_8", None)
    assert registrys is not None
    assert registrys.read_bytes() == b"NVIDIA's terms"
    (tmp_path / "EULA.txt").write_text("as installed")
    assert cuda_sdk._licence("cuda12_8", tmp_path) == tmp_path / "EULA.txt"


def test_an_installed_toolkit_without_a_licence_needs_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> RegistryFile:
        raise FetchFailed("Fetch", "There is no network.", "Check it.")

    monkeypatch.setenv("BUILD_TORCHVISION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(parts, "locate", unreachable)
    assert cuda_sdk._licence("cuda12_8", tmp_path) is None
    with pytest.raises(FetchFailed):
        cuda_sdk._licence("cuda12_8", None)


def test_a_toolkits_programs_can_be_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_wheel: None) -> None:
    def whole(requirement: str, folder: Path, **_: object) -> Path:
        return wheel_of(folder, PROGRAMS, "nvidia_x-1")

    monkeypatch.setattr(parts, "download", whole)
    tree = cuda_sdk._assembled("x", (wheel_pinned("bin", "nvvm", "include"),))
    runs = {
        str(path.relative_to(tree)): bool(path.stat().st_mode & 0o111) for path in tree.rglob("*") if path.is_file()
    }
    assert runs == {"bin/nvcc": True, "nvvm/bin/cicc": True, "include/x.h": False}


def test_without_a_network_an_installed_toolkit_is_asked_for(monkeypatch: pytest.MonkeyPatch, one_wheel: None) -> None:
    def offline(requirement: str, folder: Path, *, action: str, hint: str, **_: object) -> Path:
        raise FetchFailed(action, "No address.", hint)

    monkeypatch.setattr(parts, "download", offline)
    with pytest.raises(FetchFailed, match="--cuda DIR"):
        cuda_sdk.cuda_sdk("cuda12_8")


def test_a_toolkit_of_another_version_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "cuda.h").write_text("#define CUDA_VERSION 13000\n")
    with pytest.raises(BadInput, match=r"It is CUDA 13\.0, the track is 12\.8"):
        cuda_sdk.cuda_sdk("cuda12_8", tmp_path)
    with pytest.raises(BadInput, match="no such folder"):
        cuda_sdk.cuda_sdk("cuda12_8", tmp_path / "nowhere")


def test_an_sm_that_the_toolkit_lacks_is_no_variant() -> None:
    with pytest.raises(BadInput, match=r"no longer compiles for Volta.*cuda12_8-sm70"):
        parse("torchvision-python313-cuda13_0-sm70-avx2")


def torch(version: str = "2.8.0") -> TorchSdk:
    return TorchSdk(
        root=Path("/torch"),
        version=version,
        local=None,
        cuda="12.8",
        cxx11_abi=True,
        cxx_standard="c++17",
        include_dirs=(Path("/torch/include"),),
        lib_dir=Path("/torch/lib"),
        origin="a test",
    )


def specs(*variants: Variant) -> list[WheelSpec]:
    identity = TorchIdentity(
        version="2.8.0",
        local=None,
        cuda="12.8",
        cxx11_abi=True,
        cubins=("sm80", "sm90", "sm100", "sm120"),
        ptx=("sm120",),
    )
    source = SourceIdentity(version="0.23.0", sha256="0", origin="archive")
    known = release_named("0.23.0")
    return [
        WheelSpec(variant=variant, release=known, source=source, torch=identity, compiler="clang 22.1.8")
        for variant in variants
    ]


def test_a_torch_that_does_not_serve_the_gpu_is_refused_with_what_it_carries() -> None:
    thor, hopper = (parse(f"torchvision-python313-cuda12_8-{sm}-avx2") for sm in ("sm110", "sm90"))
    known = release_named("0.23.0")
    served = specs(hopper)
    assert resolve._covered(BuildRequest(variants=(hopper,), release=known), torch(), served) == served
    with pytest.raises(BadInput, match=r"for sm110 .* it carries cubins for sm80, sm90, sm100, sm120 and PTX"):
        resolve._covered(BuildRequest(variants=(thor, hopper), release=known), torch(), specs(thor, hopper))
    allowed = BuildRequest(variants=(thor,), release=known, allow_unpaired=True)
    assert len(resolve._covered(allowed, torch(), specs(thor))) == 1
    assert [spec.paired for spec in specs(thor, hopper)] == [False, True]


def test_what_a_pattern_named_is_left_out_where_torch_does_not_serve_it(caplog: pytest.LogCaptureFixture) -> None:
    thor, hopper = (parse(f"torchvision-python313-cuda12_8-{sm}-avx2") for sm in ("sm110", "sm90"))
    known = release_named("0.23.0")
    both = BuildRequest(variants=(thor, hopper), release=known, optional=frozenset({thor, hopper}))
    assert resolve._covered(both, torch(), specs(thor, hopper)) == specs(hopper)
    assert "left out: cuda12_8-sm110-avx2: That torch has no code that runs there" in caplog.text
    exact = replace(both, optional=frozenset({hopper}))
    with pytest.raises(BadInput, match="for sm110"):
        resolve._covered(exact, torch(), specs(thor, hopper))
    with pytest.raises(BadInput, match="for sm110"):
        resolve._covered(replace(both, variants=(thor,)), torch(), specs(thor))


KERNELS = ("torchvision/csrc/ops/cuda/a_kernel.cu", "torchvision/csrc/ops/cuda/b_kernel.cu")
EXTENSION = Extension(
    name="torchvision._C",
    sources=(*KERNELS, "torchvision/csrc/ops/cpu/a_kernel.cpp", "torchvision/csrc/ops/a.cpp", "torchvision/csrc/b.cpp"),
    macros=("-DWITH_CUDA",),
    libraries=(),
    include_dirs=("torchvision/csrc",),
    includes={
        KERNELS[0]: ("<ATen/ATen.h>", '"torchvision/csrc/ops/cuda/helpers.h"'),
        KERNELS[1]: ("<ATen/ATen.h>", "<float.h>"),
    },
)


def ingredients(pattern: str, cuda: CudaCompiler | None = None, *, ptx: bool = False) -> GraphInputs:
    variants = select([pattern], [found for found in enumerate_variants() if found.platform == "x86_64"])
    sms = {variant.sm or "": codegen for variant in variants if (codegen := cuda_codegen(variant, ptx=ptx))}
    return GraphInputs(
        upstream=Upstream(
            extensions=(EXTENSION,),
            metadata={},
            long_description="",
            requires=(),
            extras={},
            packages=(),
            package_data={},
        ),
        source_root=Path("/source"),
        torch=torch(),
        codecs=Codecs(found={}),
        compiler=compiler(),
        isas={variant.isa: ("-march=x",) for variant in variants},
        platform="x86_64",
        transform_ir=("/rewrite.py",),
        shared=Path("/shared"),
        device=CudaBuild(sdk=sdk(), compiler=cuda or Clang(compiler=compiler()), sms=sms, splice=("splice",)),
    )


def test_nothing_that_variants_share_is_done_twice() -> None:
    graph = plan_graph(ingredients("cuda12_8-*-avx*"))
    assert len(graph.extensions) == 36
    assert Counter(action.kind for action in graph.actions) == {
        ActionKind.PCH: 1,
        ActionKind.FRONTEND: 2,  # the CPU kernel and the host half
        ActionKind.REWRITE: 2,
        ActionKind.OPTIMISE: 1,  # for the three ISAs with AVX-512
        ActionKind.CODEGEN: 4 + 1,
        ActionKind.COMPILE: 1,
        ActionKind.DEVICE: 6,  # sm103 takes sm100's cubin, sm121 sm120's; sm110 takes PTX of compute_100
        ActionKind.ASSEMBLE: 6 + 1,
        ActionKind.LINK: 36,
    }
    commands = [(action.command, action.output) for action in graph.actions]
    assert len(set(commands)) == len(commands)


def one_parse(pattern: str) -> GraphInputs:
    """Ingredients whose device code may be parsed once for all SMs."""
    given = ingredients(pattern)
    assert given.device is not None
    return replace(given, device=replace(given.device, one_ir=("/one_device_ir.py",)))


def test_device_code_is_parsed_for_the_oldest_and_the_newest_sm_and_generated_for_each() -> None:
    graph = plan_graph(one_parse("cuda12_8-*-avx2"))
    by_output = {action.output: action for action in graph.actions}
    program = by_output["x86_64/ir/_C/cuda.device.ll"]
    assert program.inputs == ("x86_64/parsed/_C/cuda.sm80.ll", "x86_64/parsed/_C/cuda.sm120.ll")
    assert program.command == ("/one_device_ir.py", *program.inputs, program.output)
    assert [action for action in graph.actions if action.kind is ActionKind.DEVICE] == []
    made = [action for action in graph.actions if action.output.endswith(".ptx")]
    assert len(made) == 6
    for action in made:
        sm = action.output.split("/")[1]
        assert program.output in action.inputs
        named = action.command.index("-target-cpu")
        assert action.command[named + 2] == sm.replace("sm", "sm_")


@pytest.mark.parametrize("pattern", ["cuda12_8-sm90-avx2", "cuda12_8-sm{80,90}-avx2"])
def test_one_or_two_sms_are_parsed_as_they_are(pattern: str) -> None:
    assert plan_graph(one_parse(pattern)) == plan_graph(ingredients(pattern))


def test_a_unit_that_is_another_program_for_some_sms_is_parsed_for_each() -> None:
    given = one_parse("cuda12_8-*-avx2")
    unit = next(action.unit for action in plan_graph(given).actions if action.output.endswith(".device.ll"))
    assert unit == f"_C/cuda{EACH_SM}"
    graph = plan_graph(given, frozenset({unit}))
    assert graph.actions == plan_graph(ingredients("cuda12_8-*-avx2")).actions
    assert graph.notes == ("_C/cuda is not the same program for every SM: it is parsed for each",)


@pytest.mark.parametrize(
    ("sm", "track", "version"),
    [
        ("sm80", "cuda12_4", "84"),
        ("sm90", "cuda12_8", "87"),
        ("sm90", "cuda13_0", "88"),
        ("sm110", "cuda13_0", "90"),
        ("sm90", "cuda13_2", "88"),
    ],
)
def test_the_version_of_ptx_is_the_one_that_clang_writes_from_source(sm: str, track: str, version: str) -> None:
    assert ptx_version(sm, track) == version


def test_image_io_is_compiled_for_the_lowest_isa_and_linked_once() -> None:
    folder = "torchvision/csrc/io/image"
    sources = (f"{folder}/image.cpp", f"{folder}/cpu/decode_gif.cpp", f"{folder}/cpu/giflib/gif_hash.c")
    images = replace(EXTENSION, name="torchvision.image", sources=sources, includes={})
    for pattern in ("cuda12_8-*-avx*", "cuda12_8-sm90-avx512"):
        given = ingredients(pattern)
        graph = plan_graph(replace(given, upstream=replace(given.upstream, extensions=(EXTENSION, images))))
        assert {modules["image"] for modules in graph.extensions.values()} == {"x86_64/all/image.so"}
        by_output = {action.output: action for action in graph.actions}
        compiled = [path for path in by_output["x86_64/all/image.so"].inputs if "/image/" in path]
        assert sorted(compiled) == [
            "x86_64/avx2/image/images.o",
            "x86_64/avx2/image/io.image.cpu.giflib.gif_hash.c.o",
            "x86_64/baseline/image/dispatch.o",
        ]
        # The build's own flags of avx2, or where it has no wheel for avx2, those of its row.
        flag = "-march=x" if pattern.endswith("*") else "-march=x86-64-v3"
        assert all(flag in by_output[path].command for path in compiled[:2])
        assert not any(word.startswith("-march") for word in by_output[compiled[2]].command)


def test_isas_of_the_same_code_are_optimised_once_and_generated_each() -> None:
    given = ingredients("cuda12_8-sm90-avx*")
    flags = {isa: (f"-march={isa}",) for isa in given.isas}
    by_output = {action.output: action for action in plan_graph(replace(given, isas=flags)).actions}
    (optimised,) = (action for action in by_output.values() if action.kind is ActionKind.OPTIMISE)
    assert "-march=avx512" in optimised.command
    for isa in flags:
        made = by_output[f"x86_64/{isa}/_C/ops.cpu.a_kernel.cpp.o"]
        assert f"-march={isa}" in made.command
        assert (optimised.output in made.inputs) == (isa != "avx2") == ("-disable-llvm-passes" in made.command)


def test_platforms_of_one_graph_share_their_device_code() -> None:
    x86 = ingredients("cuda12_8-sm{80,90}-avx{2,512}")
    arm = replace(x86, platform="aarch64", isas={"armv9": ("-march=y",)})
    graph = plan_graphs([x86, arm])
    kinds = Counter((action.kind, action.output.partition("/")[0]) for action in graph.actions)
    assert kinds[ActionKind.DEVICE, "x86_64"] == 2
    assert kinds[ActionKind.DEVICE, "aarch64"] == 0
    assert kinds[ActionKind.ASSEMBLE, "aarch64"] == kinds[ActionKind.ASSEMBLE, "x86_64"] == 2
    assert {"sm80-avx2", "sm90-armv9"} <= graph.extensions.keys()
    # What a compiler cache sees of two platforms' actions must differ: it takes our programs for one compiler.
    seen: dict[object, set[str]] = {}
    for action in graph.actions:
        if action.kind in (ActionKind.ASSEMBLE, ActionKind.CODEGEN):
            words = tuple(word for word in action.command[1:] if word != action.output)
            seen.setdefault(words, set()).add(action.output.partition("/")[0])
    assert [words for words, platforms in seen.items() if len(platforms) > 1] == []
    made = {action.output for action in graph.actions}
    for action in graph.actions:
        assert all(path in made or path in graph.files or path.startswith("/") for path in action.inputs), action.output
    (assembled,) = (action for action in graph.actions if action.output == "aarch64/sm90/_C/cuda.elf.o")
    assert assembled.inputs == ("x86_64/sm90/_C/cuda.ptx", "tools/aarch64/device-object")


def test_every_action_is_one_process_of_which_nothing_comes_later() -> None:
    graph = plan_graph(ingredients("cuda12_8-sm90-avx2"))
    seen: set[str] = set()
    for action in graph.actions:
        assert "&&" not in action.command
        made = {other.output for other in graph.actions}
        assert {path for path in action.inputs if path in made} <= seen
        seen.add(action.output)


def test_kernels_that_are_compiled_together_keep_their_names_apart() -> None:
    (unit,) = (unit for unit in plan_units(EXTENSION) if unit.language == "cuda")
    assert unit.sources == KERNELS
    assert isolated_text(unit, "/source", EXTENSION.includes).splitlines()[:4] == [
        "#include <ATen/ATen.h>",
        '#include "/source/torchvision/csrc/ops/cuda/helpers.h"',
        "#include <float.h>",
        "namespace vision::ops {}",
    ]
    alone = plan_units(EXTENSION, split={"_C/cuda"})
    assert [unit.sources for unit in alone if unit.language == "cuda"] == [(source,) for source in KERNELS]


def nvcc(*, splices: bool = True) -> Nvcc:
    return Nvcc(program=Path("/cuda/bin/nvcc"), version="12.8", host="g++", track="cuda12_8", splices=splices)


def test_nvcc_compiles_the_host_half_once_and_names_both_halves_alike() -> None:
    graph = plan_graph(ingredients("cuda12_8-sm{80,90}-avx2", nvcc()))
    calls = [action for action in graph.actions if action.command[0] == "/cuda/bin/nvcc"]
    assert [action.output for action in calls] == [
        "x86_64/baseline/_C/cuda.o",
        "x86_64/sm80/_C/cuda.fatbin",
        "x86_64/sm90/_C/cuda.fatbin",
    ]
    seeds = {word for action in calls for word in action.command if word.startswith("-frandom-seed=")}
    assert len(seeds) == 1
    assert all(set(SAME_NAMES) <= set(action.command) for action in calls), "kernels of CUDA's own libraries too"
    assert not graph.notes


def test_an_nvcc_that_cannot_join_halves_compiles_whole_units_and_says_so() -> None:
    graph = plan_graph(ingredients("cuda12_8-sm{80,90}-avx2", nvcc(splices=False)))
    calls = [action.output for action in graph.actions if action.command[0] == "/cuda/bin/nvcc"]
    assert calls == ["x86_64/sm80/_C/cuda.o", "x86_64/sm90/_C/cuda.o"]
    assert "compiled whole for each SM" in graph.notes[0]

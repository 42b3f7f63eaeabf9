"""The 60 recipes in real Nix: evaluated as Flox evaluates them, and what reaches each build looked at.

The package set is this project's own (tests/integration/nix/nixpkgs): it behaves as nixpkgs does where the builder
touches it. `problems` is the check; every trap has a test that plants the faulty form and sees the check reject it.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from _nix import MIRROR, Nix, make, need_nix, unlock
from uv import find_uv_bin

from build_torchvision.binary.elf import read_elf
from build_torchvision.binary.fatbin import images
from build_torchvision.binary.instructions import evidence, scan
from build_torchvision.errors import ProcessFailed
from build_torchvision.facts.cuda_wheels import cuda_wheels
from build_torchvision.flags import cuda_codegen, isa_flags
from build_torchvision.process import run
from build_torchvision.recipes import checkout, flox, tree
from build_torchvision.recipes.flox import TorchSource
from build_torchvision.recipes.nix import why_broken
from build_torchvision.variants import Variant, enumerate_variants, parse

pytestmark = pytest.mark.nix

VARIANTS = enumerate_variants()
NAMES = [str(variant) for variant in VARIANTS]
SYSTEMS = {"x86_64": "x86_64-linux", "aarch64": "aarch64-linux"}


@pytest.fixture
def terminals() -> None:
    """Nix gives each build a pseudoterminal for its log."""
    try:
        for end in os.openpty():
            os.close(end)
    except OSError as error:
        pytest.skip(f"Nix cannot build where there are no pseudoterminals ({error}): mount devpts on /dev/pts")


@pytest.fixture(scope="module")
def nix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nix]:
    need_nix()
    folder = tmp_path_factory.mktemp("nix")
    yield make(folder / "tree", folder / "state")
    unlock(folder)


@pytest.fixture(scope="module")
def looked(nix: Nix) -> dict[str, Any]:
    """All 60 in one evaluation."""
    return nix.look()


def arch_list(environment: dict[str, Any]) -> str | None:
    """TORCH_CUDA_ARCH_LIST when the build starts: the last of its exports."""
    found = re.findall(r'export TORCH_CUDA_ARCH_LIST="(.*)"', environment["preConfigure"])
    return found[-1] if found else None


def problems(variant: Variant, seen: dict[str, Any]) -> list[str]:
    """What of a recipe's evaluation is not as the variant's name says."""
    package, torch, codegen = seen["package"], seen["torch"], cuda_codegen(variant)
    flags, arches = " ".join(isa_flags(variant)), codegen.arch_list if codegen else None
    found = []

    def same(what: str, is_: object, should: object) -> None:
        if is_ != should:
            found.append(f"{what} is {is_!r}, not {should!r}")

    for who, environment in (("torchvision", package), ("torch", torch)):
        same(f"{who}'s system", environment["system"], SYSTEMS[variant.platform])
        same(f"{who}'s architecture list", arch_list(environment), arches)
        if not f" {environment['cflags']} ".endswith(f" {flags} "):
            found.append(f"{who}'s NIX_CFLAGS_COMPILE is {environment['cflags']!r}, without {flags!r}")
        if "MAX_JOBS=$NIX_BUILD_CORES" not in environment["preConfigure"]:
            found.append(f"{who} does not limit its jobs by NIX_BUILD_CORES")
        same(f"{who}'s gpuArch", environment["gpuArch"], arches)
        same(f"{who}'s cpuISA", environment["cpuISA"], variant.isa)
        same(f"{who}'s cudaVersion", environment["cudaVersion"], variant.cuda)
    base = codegen.arch_list.removesuffix("+PTX") if codegen else ""
    same("the package set's capabilities", torch["arches"], base)
    if codegen:
        number = base.replace(".", "")
        gencode = f"-gencode=arch=compute_{number},code=sm_{number}"
        gencode += f" -gencode=arch=compute_{number},code=compute_{number}" if codegen.ptx else ""
        for library in ("nccl", "magma"):
            same(library, seen[library], [gencode])
        same("the toolkit", torch["toolkit"], variant.cuda)
        nvcc = [f"-gencode={option}" for option in codegen.gencode] if codegen.kind == "ptx" else []
        same("NVCC_FLAGS", re.findall(r'NVCC_FLAGS="(.*)"', package["preConfigure"]), [" ".join(nvcc)] if nvcc else [])
        same("FORCE_CUDA", re.findall(r"FORCE_CUDA=(\d)", package["preConfigure"])[-1:], ["1"])
    if not re.search(r'TORCHVISION_INCLUDE="\S+-libwebp-\S+:\$TORCHVISION_INCLUDE"', package["preConfigure"]):
        found.append("it is built without WebP")
    same("pname", package["pname"], str(variant))
    same("name", package["name"], f"{variant}-{package['version']}")
    same("codegenKind", package["codegenKind"], codegen.kind if codegen else None)
    same("platforms", package["meta"]["platforms"], [SYSTEMS[variant.platform]])
    same("broken", package["meta"]["broken"], False)
    same("imports", package["pythonImportsCheck"], ["torchvision", "torchvision.ops", "torchvision.io"])
    if variant.gpu and variant.gpu.products[0] not in package["meta"]["description"]:
        found.append("the description does not name the GPU")
    if torch["drvPath"] not in package["propagated"]:
        found.append("the torch that it names is not the one that it is built with")
    return found


def sharing(looked: dict[str, Any]) -> list[str]:
    """Where a torch is built more than once, or shared by variants that are compiled differently (trap 3)."""
    by_code: dict[tuple[str | None, tuple[str, ...], str | None], set[str]] = {}
    for name, seen in looked.items():
        variant = parse(name)
        codegen = cuda_codegen(variant)
        key = (codegen.arch_list if codegen else None, isa_flags(variant), variant.cuda)
        by_code.setdefault(key, set()).add(seen["torch"]["drvPath"])
    found = [f"{key} has {len(paths)} torches" for key, paths in by_code.items() if len(paths) != 1]
    every = [path for paths in by_code.values() for path in paths]
    return found + ([] if len(every) == len(set(every)) else ["variants of different code share a torch"])


# --- all 60 -----------------------------------------------------------------------------------------------------------


def test_every_file_parses(nix: Nix) -> None:
    files = [path for pattern in ("*.nix", "nix/*.nix", ".flox/pkgs/*.nix") for path in nix.tree.glob(pattern)]
    assert len(files) >= 60 + 9
    nix.run("nix-instantiate", "--parse", *files)


def test_the_loader_finds_exactly_the_60(looked: dict[str, Any]) -> None:
    assert sorted(looked) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_what_reaches_the_build_is_what_the_name_says(name: str, looked: dict[str, Any]) -> None:
    assert problems(parse(name), looked[name]) == []


def test_one_torch_serves_all_that_compile_the_same(looked: dict[str, Any]) -> None:
    assert sharing(looked) == []
    assert len({seen["torch"]["drvPath"] for seen in looked.values()}) == 48  # 7 ways to compile for a GPU, and none
    one = {looked[f"torchvision-python313-cuda12_8-{sm}-avx512"]["torch"]["drvPath"] for sm in ("sm100", "sm103")}
    assert len(one) == 1


def test_plain_nix_build_makes_the_same_derivations_and_writes_all_of_them(nix: Nix, looked: dict[str, Any]) -> None:
    attributes = [word for name in NAMES for word in ("-A", name)]
    written = nix.run("nix-instantiate", "default.nix", *attributes).split()
    assert sorted(written) == sorted(seen["package"]["drvPath"] for seen in looked.values())
    assert all(Path(path).is_file() for path in written)


def test_the_other_tracks_and_pythons_are_attributes_too(nix: Nix) -> None:
    names = nix.eval('builtins.attrNames (import (root + "/default.nix") { inherit nixpkgs; }).all')
    assert len(names) == 5 * 6 * (8 + 13 + 13 + 11 + 1)
    name = "torchvision-python312-cuda13_0-sm121-armv9"
    torch = nix.eval(f'(import (root + "/default.nix") {{ inherit nixpkgs; }}).all.{name}.torch.cudaCapabilities')
    assert torch == ["12.1"]


@pytest.mark.parametrize("track", ["cuda12_9", "cuda13_0"])
def test_the_recipes_of_other_tracks_hold_too(track: str, nix: Nix, tmp_path: Path) -> None:
    """All but those that the package set cannot evaluate, which have a test of their own (trap 4)."""
    copy = nix.copy(tmp_path / "tree")
    variants = [v for v in enumerate_variants(tracks=[track], sms=None) if not why_broken(v)]
    folder = copy.tree / ".flox" / "other"
    folder.mkdir()
    for path, text in flox.files(variants).items():
        (folder / Path(path).name).write_text(text, encoding="utf-8")
    seen = copy.look(folder)
    assert len(seen) == len(variants) > 50
    assert {name: found for name in seen if (found := problems(parse(name), seen[name]))} == {}
    assert sharing(seen) == []


def test_a_made_up_gpu_is_rows_and_one_command(nix: Nix, tmp_path: Path) -> None:
    """sm130 in a copy of the tree: three tables, `recipes`, and Nix evaluates its recipes."""
    copy = nix.copy(tmp_path / "tree")
    facts = copy.tree / "src" / "build_torchvision" / "facts"
    rows = tomllib.loads((facts / "gpus.toml").read_text("utf-8"))["sm120"]
    row = {**rows, "capability": "13.0", "architecture": "Made-up", "products": ["MX 130"], "names": ["MX 130"]}
    with (facts / "gpus.toml").open("a", encoding="utf-8") as table:
        lines = [f"{key} = {json.dumps(value)}" for key, value in row.items()]
        table.write("\n".join(["\n[sm130]", *lines, ""]))
    copy.plant("src/build_torchvision/facts/toolkits.toml", '"sm100", "sm120"]', '"sm100", "sm120", "sm130"]')
    copy.plant("src/build_torchvision/facts/nixpkgs.toml", "sm121 = {", 'sm130 = { first = "12.8" }\nsm121 = {')
    env = {**copy.env, "PYTHONPATH": str(copy.tree / "src")}
    command = [sys.executable, "-m", "build_torchvision.cli.main", "recipes", "--out", copy.tree]
    run(command, action="writing the recipes", env=env)
    name = "torchvision-python313-cuda12_8-sm130-avx512"
    assert len(list((copy.tree / ".flox/pkgs").iterdir())) == 66
    seen = copy.look(one_recipe(copy, name))[name]
    assert arch_list(seen["package"]) == arch_list(seen["torch"]) == seen["torch"]["arches"] == "13.0"
    assert seen["nccl"] == ["-gencode=arch=compute_130,code=sm_130"]
    assert "MX 130" in seen["package"]["meta"]["description"]


def test_hydra_gets_a_job_a_variant(nix: Nix, looked: dict[str, Any]) -> None:
    jobs = nix.eval('builtins.mapAttrs (_: job: job.drvPath) (import (root + "/release.nix") { inherit nixpkgs; })')
    assert jobs == {name: seen["package"]["drvPath"] for name, seen in looked.items()}


def test_a_farm_can_be_asked_for_a_cpu_that_runs_the_variant(nix: Nix) -> None:
    jobs = '(import (root + "/release.nix") { inherit nixpkgs; requireIsa = true; })'
    for isa, feature in (("avx512bf16", "gccarch-x86-64-v4"), ("armv9", "gccarch-armv9-a")):
        assert nix.eval(f"{jobs}.torchvision-python313-cpu-{isa}.requiredSystemFeatures") == [feature]


def test_a_recipe_of_another_platform_is_refused_here_and_built_for_its_own(nix: Nix) -> None:
    said = nix.refusal('(load (root + "/.flox/pkgs") { }).torchvision-python313-cpu-armv9.drvPath')
    assert "not available on the requested hostPlatform" in said


def test_the_static_proof_is_a_derivation_of_its_own(looked: dict[str, Any]) -> None:
    for name, seen in looked.items():
        expected = seen["package"]["verify"] is not None
        assert expected is (parse(name).platform == "x86_64")


# --- the traps: each faulty form planted, and rejected ----------------------------------------------------------------

FLAGS, SET, BUILDER = "nix/flags.nix", "nix/package-set.nix", "nix/torchvision.nix"
ENV = "{ env = (old.env or { }) // { NIX_CFLAGS_COMPILE = compile; }; }"
SAMPLE = "torchvision-python313-cuda12_8-sm120-avx512"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Replacements in the tree, and what the check must then say of SAMPLE."""

    changes: tuple[tuple[str, str, str], ...]
    said: str


FAULTS = {
    "trap 1: flags in CXXFLAGS, which torch's build drops": Fault(
        changes=(
            (FLAGS, ENV, "{ env = (old.env or { }) // { NIX_CFLAGS_COMPILE = before; CXXFLAGS = flags; }; }"),
            (FLAGS, "{ NIX_CFLAGS_COMPILE = compile; }\n", "{ CXXFLAGS = flags; }\n"),
        ),
        said="without '-march=x86-64-v4'",
    ),
    "trap 2: gpuTargets of torch instead of the package set's capabilities": Fault(
        changes=(
            (SET, "cudaCapabilities = [ codegen.capability ];", ""),
            (SET, "python.torch.overrideAttrs", "(python.torch.override { gpuTargets = [ base ]; }).overrideAttrs"),
            (SET, "  toolkit = final", "  base = codegen.capability;\n  toolkit = final"),
            (FLAGS, "if codegen == null then", "if true then"),
        ),
        said="torchvision's architecture list is '10.0;12.0;6.1;7.0;7.5;8.0;8.6;8.9;9.0'",
    ),
    "capabilities of another GPU": Fault(
        changes=((SET, "[ codegen.capability ]", '[ "9.0" ]'),), said="the package set's capabilities is '9.0'"
    ),
    "forward compatibility left on, which adds PTX": Fault(
        changes=((SET, 'codegen.kind == "ptx"', "true"),), said="code=compute_120"
    ),
    "another toolkit": Fault(changes=((SET, "${variant.cudaPackages}\n", "cudaPackages_12_9\n"),), said="do not match"),
    "a torch that is not the one it names": Fault(
        changes=(
            (BUILDER, "inherit (companion) torch;", "torch = other // { inherit (companion.torch) cpuISA gpuArch; };"),
            (BUILDER, "  built = companion", "  other = set.python312Packages.torch;\n  built = companion"),
        ),
        said="not the one that it is built with",
    ),
    "a fixed number of jobs": Fault(
        changes=((FLAGS, "MAX_JOBS=$NIX_BUILD_CORES", "MAX_JOBS=32"),), said="does not limit its jobs"
    ),
}  # fmt: skip


def one_recipe(nix: Nix, *names: str) -> Path:
    """A folder of recipes with these alone."""
    folder = nix.tree / ".flox" / "few"
    folder.mkdir()
    for name in names:
        text = (nix.tree / f".flox/pkgs/{name}.nix").read_text("utf-8")
        (folder / f"{name}.nix").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_form_is_rejected(fault: str, nix: Nix, tmp_path: Path) -> None:
    copy, planted = nix.copy(tmp_path / "tree"), FAULTS[fault]
    for change in planted.changes:
        copy.plant(*change)
    try:
        said = "; ".join(problems(parse(SAMPLE), copy.look(one_recipe(copy, SAMPLE))[SAMPLE]))
    except ProcessFailed as error:
        said = error.problem
    assert planted.said in said


def test_trap_3_a_torch_remade_in_each_recipe_is_seen(nix: Nix, tmp_path: Path) -> None:
    """The faulty form: torch overridden under the companion's name, so that no two variants share one."""
    copy = nix.copy(tmp_path / "tree")
    copy.plant(SET, "            passthru = (old", "            name = variant.pytorch;\n            passthru = (old")
    names = [f"torchvision-python313-cuda12_8-{sm}-avx512" for sm in ("sm100", "sm103")]
    assert "has 2 torches" in "; ".join(sharing(copy.look(one_recipe(copy, *names))))
    assert sharing(nix.look(one_recipe(nix, *names))) == []


def test_trap_4_what_the_package_set_cannot_evaluate_is_broken_with_its_reason(nix: Nix, tmp_path: Path) -> None:
    name = "torchvision-python313-cuda13_0-sm110-avx2"
    build = f'build {{ name = "{name}"; }}'
    assert nix.eval(f"({build}).meta.broken") is True
    assert "Jetson capability 11.0 on aarch64-linux only" in nix.eval(f"({build}).brokenReason")
    assert "marked as broken" in nix.refusal(f"({build}).drvPath")
    copy = nix.copy(tmp_path / "tree")
    copy.plant("nix/variant.nix", "codegen.broken.${system} or null", "null")
    assert "Jetson CUDA capabilities" in copy.refusal(f"({build}).drvPath")
    arm = 'import (root + "/default.nix") { inherit nixpkgs; }'
    assert nix.eval(f"({arm}).all.torchvision-python313-cuda13_0-sm110-armv9.gpuArch") == "11.0"


def test_trap_4_a_capability_that_the_toolkit_lacks_is_refused_by_the_package_set(nix: Nix, tmp_path: Path) -> None:
    """The faulty form of sm103 in CUDA 12.8: asking for 10.3 there."""
    copy = nix.copy(tmp_path / "tree")
    copy.plant(SET, "[ codegen.capability ]", "[ variant.gpu.capability ]")
    build = '(build { name = "torchvision-python313-cuda12_8-sm103-avx512"; }).drvPath'
    assert 'Unsupported CUDA capabilities: ["10.3"]' in copy.refusal(build)
    assert nix.eval(build)


def test_trap_9_a_folder_lib_would_extend_nixpkgs_own_library(nix: Nix, tmp_path: Path) -> None:
    copy = nix.copy(tmp_path / "tree")
    planted = copy.tree / ".flox" / "pkgs" / "lib" / "helper.nix"
    planted.parent.mkdir()
    planted.write_text("{ }: { }\n")
    expression = '(load (root + "/.flox/pkgs") { }).lib ? helper'
    assert copy.eval(expression) is True
    assert nix.eval(expression) is False
    found = checkout.read(copy.tree)
    changes = {one.path: one.change for one in tree.drift(flox.files(), found)}
    assert changes[".flox/pkgs/lib/helper.nix"] == "foreign"


def test_trap_10_a_pin_without_a_hash_is_refused_by_us_and_by_pure_evaluation(nix: Nix) -> None:
    pin = '{ url = "https://example.org/nixpkgs.tar.gz"; }'
    said = nix.refusal(f'(build {{ name = "{SAMPLE}"; nixpkgs = {pin}; }}).drvPath')
    assert "which is no pin" in said
    pure = ["nix-instantiate", "--eval", "--option", "pure-eval", "true", "--expr"]
    with pytest.raises(ProcessFailed, match="sha256"):
        nix.run(*pure, 'builtins.fetchTarball "https://example.org/nixpkgs.tar.gz"')


def test_recipes_evaluate_purely_as_flox_evaluates_them(nix: Nix, tmp_path: Path, looked: dict[str, Any]) -> None:
    """From a copy of the tree in the store, with nothing of this machine to be asked: no path, variable or system."""
    archive = tmp_path / "tree.tar"
    nix.run("tar", "-C", nix.tree.parent, "-cf", archive, nix.tree.name)
    sha256 = nix.run("nix-hash", "--type", "sha256", "--base32", nix.tree).strip()

    def pure(expression: str) -> str:
        text = f"""let root = fetchTarball {{ url = "file://{archive}"; sha256 = "{sha256}"; }};
          pkgs = import (root + "/{MIRROR}") {{ system = "x86_64-linux"; }};
          in {expression}"""
        command = ["nix-instantiate", "--eval", "--strict", "--json", "--option", "pure-eval", "true", "--expr", text]
        return str(json.loads(nix.run(*command)))

    recipe = f'(pkgs.callPackage (root + "/.flox/pkgs/{SAMPLE}.nix") {{ }})'
    assert f"-{SAMPLE}-0.21.0.drv" in pure(f"{recipe}.drvPath")
    assert pure(f"{recipe}.torch.drvPath") == looked[SAMPLE]["torch"]["drvPath"]
    arguments = f'{{ inherit pkgs; name = "{SAMPLE}"; torch.source = "recipe"; }}'
    with pytest.raises(ProcessFailed, match="whose recipes fetch a nixpkgs without a hash"):
        pure(f'(import (root + "/nix/torchvision.nix") {arguments}).drvPath')


def test_a_pin_with_its_hash_is_used(nix: Nix, tmp_path: Path) -> None:
    """A package set with another torchvision in it, fetched by address and hash: it is that one which is built."""
    copy = nix.copy(tmp_path / "tree")
    other = copy.tree / "nixpkgs-other"
    (copy.tree / MIRROR_PARENT).joinpath("nixpkgs").rename(other)
    cuda = other / "cuda.nix"
    cuda.write_text(cuda.read_text().replace("../../../../nix/matrix.json", "./matrix.json"))
    (other / "matrix.json").write_text((copy.tree / "nix" / "matrix.json").read_text())
    torchvision = other / "torchvision.nix"
    torchvision.write_text(torchvision.read_text().replace('  version = "', '  pinned = "yes";\n  version = "'))
    nix.run("tar", "-C", other.parent, "-cf", tmp_path / "other.tar", other.name)
    sha256 = nix.run("nix-hash", "--type", "sha256", "--base32", other).strip()
    pin = f'{{ url = "file://{tmp_path}/other.tar"; sha256 = "{sha256}"; }}'
    assert nix.eval(f'(build {{ name = "{SAMPLE}"; nixpkgs = {pin}; }}).pinned') == "yes"


MIRROR_PARENT = "tests/integration/nix"


# --- PyTorch, matched -------------------------------------------------------------------------------------------------

PUBLISHED = """(pkgs2.python313Packages.torch.overrideAttrs (old: {{
  pname = "{pname}"; name = "{pname}-2.6.0"; passthru = old.passthru // {{ {passthru} }}; }}))"""
OTHER_SET = """(import nixpkgs {{ system = "x86_64-linux";
  config = {{ allowUnfree = true; cudaSupport = {cuda}; }};
  overlays = [ (final: prev: {{ cudaPackages = final.cudaPackages_{toolkit}; }}) ]; }})"""


def published(
    passthru: str = 'gpuArch = "12.0"; cpuISA = "avx512";',
    pname: str = "pytorch-python313-cuda12_8-sm120-avx512",
    toolkit: str = "12_8",
) -> str:
    """A torch as build-pytorch publishes it, from a package set of its own."""
    pkgs2 = OTHER_SET.format(cuda="false" if "-cpu-" in pname else "true", toolkit=toolkit)
    return f"(let pkgs2 = {pkgs2}; in {PUBLISHED.format(pname=pname, passthru=passthru)})"


def catalog(torch: str, attribute: str = "drvPath", name: str = SAMPLE, unchecked: bool = False) -> str:
    extra = "unchecked = true;" if unchecked else ""
    package = f'build {{ name = "{name}"; torch = {{ source = "catalog"; package = {torch}; {extra} }}; }}'
    return f"({package}).{attribute}"


@pytest.mark.parametrize("spelling", ['"12.0"', '"sm_120"', '"sm120"', '[ "12.0" ]'])
def test_a_published_pytorch_that_matches_is_taken_as_it_is(spelling: str, nix: Nix) -> None:
    torch = published(f'gpuArch = {spelling}; cpuISA = "avx512";')
    assert nix.eval(catalog(torch, "torch.drvPath")) == nix.eval(f"{torch}.drvPath")
    assert nix.eval(f"{torch}.drvPath") in nix.eval(
        f"map (input: input.drvPath) {catalog(torch, 'propagatedBuildInputs')}"
    )
    assert arch_list({"preConfigure": nix.eval(catalog(torch, "preConfigure"))}) == "12.0"


def test_a_cpu_pytorch_matches_a_cpu_variant_and_no_other(nix: Nix) -> None:
    torch = published('gpuArch = null; cpuISA = "avx512";', "pytorch-python313-cpu-avx512")
    assert nix.eval(catalog(torch, name="torchvision-python313-cpu-avx512"))
    said = nix.refusal(catalog(torch))
    assert "CUDA version" in said
    assert f"{SAMPLE} has 12.8, pytorch-python313-cpu-avx512 has none" in said


@pytest.mark.parametrize(
    ("torch", "said"),
    [
        (published('gpuArch = "9.0"; cpuISA = "avx512";'), ("GPU architecture", "has 12.0", "has 9.0")),
        (published('gpuArch = "sm_90"; cpuISA = "avx512";'), ("GPU architecture", "has 12.0", "has 9.0")),
        (published('gpuArch = "12.0"; cpuISA = "avx2";'), ("CPU ISA", "has avx512", "has avx2")),
        (published(toolkit="12_9"), ("CUDA version", "has 12.8", "has 12.9")),
        (
            published('gpuArch = "12.0"; cpuISA = "avx512"; pythonModule = pkgs2.python312;'),
            ("Python", "has 3.13", "has 3.12"),
        ),
        (
            f'({published()} // {{ version = "2.7.1"; }})',
            ("release", "TorchVision 0.21.0 belongs to torch 2.6.0", "this torch is 2.7.1"),
        ),
    ],
    ids=["SM", "SM as sm_90", "ISA", "CUDA", "Python", "release"],
)
def test_a_pytorch_that_does_not_match_is_an_error_that_names_both_sides(
    torch: str, said: tuple[str, ...], nix: Nix
) -> None:
    text = nix.refusal(catalog(torch))
    assert "do not match" in text
    for words in (*said, SAMPLE, "pytorch-python313-cuda12_8-sm120-avx512", "Next:"):
        assert words in text
    assert "do not match" in nix.refusal(catalog(torch, unchecked=True))


def test_a_pytorch_that_says_nothing_of_itself_is_refused_unless_unchecked(nix: Nix) -> None:
    silent = published("", "torch")
    said = nix.refusal(catalog(silent))
    assert "does not say its GPU architecture" not in said  # attributes in alphabetical order: cuda is known, isa first
    assert "does not say its CPU ISA, GPU architecture" in said
    assert "unchecked = true" in said
    assert nix.eval(catalog(silent, unchecked=True))


def test_what_a_pytorch_only_says_by_its_name_is_matched_too(nix: Nix) -> None:
    assert nix.eval(catalog(published("")))
    assert "has avx2" in nix.refusal(catalog(published("", "pytorch-python313-cuda12_8-sm120-avx2")))


def test_ptx_needs_a_pytorch_that_carries_it(nix: Nix) -> None:
    name = "torchvision-python313-cuda12_8-sm110-avx512"
    pname = name.replace("torchvision", "pytorch")
    for arch, fits in (('"10.0+PTX"', True), ('"11.0"', True), ('"10.0"', False)):
        torch = published(f'gpuArch = {arch}; cpuISA = "avx512";', pname)
        if fits:
            assert nix.eval(catalog(torch, name=name))
        else:
            assert "has 10.0+PTX or 11.0" in nix.refusal(catalog(torch, name=name))


RECIPE = """{{ pkgs ? import <nixpkgs> {{ }} }}:
let
  pinned = import {nixpkgs} {{
    system = "x86_64-linux";
    config = {{ allowUnfree = true; cudaSupport = true; }};
    overlays = [ (final: prev: {{ cudaPackages = final.cudaPackages_12_8; }}) ];
  }};
in
(pinned.python313Packages.torch.override {{ gpuTargets = [ "12.0" ]; }}).overrideAttrs (old: {{
  pname = "{name}";
  name = "{name}-2.6.0";
  passthru = old.passthru // {{ gpuArch = "sm_120"; cpuISA = "avx512"; blasProvider = "cublas"; }};
}})
"""


@pytest.fixture
def checkout_of_pytorch(nix: Nix, tmp_path: Path) -> Path:
    """A build-pytorch as it is published: its own nixpkgs, its own overrides, two recipes."""
    folder = tmp_path / "build-pytorch" / ".flox" / "pkgs"
    folder.mkdir(parents=True)
    for sm in ("sm120", "sm90"):
        name = f"pytorch-python313-cuda12_8-{sm}-avx512"
        (folder / f"{name}.nix").write_text(RECIPE.format(nixpkgs=nix.nixpkgs, name=name))
    return folder.parents[1]


def from_recipe(checkout: Path, attribute: str, name: str = SAMPLE) -> str:
    return f'(build {{ name = "{name}"; torch = {{ source = "recipe"; checkout = {checkout}; }}; }}).{attribute}'


def test_a_recipe_of_build_pytorch_is_imported_and_not_made_again(nix: Nix, checkout_of_pytorch: Path) -> None:
    file = checkout_of_pytorch / ".flox/pkgs/pytorch-python313-cuda12_8-sm120-avx512.nix"
    itself = nix.eval(f"(pkgs.callPackage {file} {{ }}).drvPath")
    assert nix.eval(from_recipe(checkout_of_pytorch, "torch.drvPath")) == itself
    assert itself in nix.eval(f"map (input: input.drvPath) {from_recipe(checkout_of_pytorch, 'propagatedBuildInputs')}")


def test_on_a_recipe_with_gpu_targets_torchvision_is_still_built_for_its_gpu_alone(
    nix: Nix, checkout_of_pytorch: Path
) -> None:
    """Trap 2 in the companion: its torch says 12.0 to its own build, and its package set says everything."""
    lines = re.findall(r'TORCH_CUDA_ARCH_LIST="(.*)"', nix.eval(from_recipe(checkout_of_pytorch, "preConfigure")))
    assert ";" in lines[0]
    assert lines[-1] == "12.0"


def test_a_recipe_that_build_pytorch_does_not_have_names_those_it_has(nix: Nix, checkout_of_pytorch: Path) -> None:
    name = "torchvision-python313-cuda12_8-sm103-avx512"
    said = nix.refusal(from_recipe(checkout_of_pytorch, "drvPath", name))
    assert "no recipe pytorch-python313-cuda12_8-sm103-avx512" in said
    assert "pytorch-python313-cuda12_8-sm120-avx512" in said
    assert "pytorch-python313-cuda12_8-sm90-avx512" in said


def test_a_recipe_whose_inside_is_not_its_name_is_an_error(nix: Nix, checkout_of_pytorch: Path) -> None:
    said = nix.refusal(from_recipe(checkout_of_pytorch, "drvPath", "torchvision-python313-cuda12_8-sm90-avx512"))
    assert "has 9.0, pytorch-python313-cuda12_8-sm90-avx512 has 12.0" in said


def test_generated_catalog_recipes_evaluate_through_the_loader(nix: Nix, tmp_path: Path) -> None:
    variant = parse(SAMPLE)
    folder = nix.tree / ".flox" / "catalog"
    folder.mkdir()
    (folder / f"{SAMPLE}.nix").write_text(flox.recipe(variant, TorchSource.of("catalog", "acme")))
    catalogs = f"{{ acme.pytorch-python313-cuda12_8-sm120-avx512 = {published()}; }}"
    assert nix.eval(f"(load {folder} {catalogs}).{SAMPLE}.torch.pname") == "pytorch-python313-cuda12_8-sm120-avx512"


# --- the compiler -----------------------------------------------------------------------------------------------------

LOOP = """void scale(float* to, const float* from, float by, long n) {
  for (long i = 0; i < n; ++i) to[i] += from[i] * by;
}
"""
COMPILE = """(pkgs.stdenv.mkDerivation {{
  name = "loop";
  loop = builtins.toFile "loop.c" {loop};
  buildCommand = ''
    eval "$preConfigure"
    mkdir $out
    cc -O3 -shared -fPIC -x c "$loop" -o $out/c.so
    c++ -O3 -shared -fPIC -x c++ "$loop" -o $out/cxx.so
  '';
}}).overrideAttrs (import (root + "/nix/flags.nix") (import (root + "/nix/variant.nix") {{ }} "{name}"))"""


@pytest.mark.usefixtures("terminals")
@pytest.mark.compiler
@pytest.mark.parametrize("isa", ["avx2", "avx512"])
def test_the_flags_reach_the_c_and_the_cxx_compiler_of_a_real_build(isa: str, nix: Nix, tmp_path: Path) -> None:
    """And in the faulty form of trap 1 they reach neither: nothing warns, only the instructions show it."""

    def used(tree: Nix) -> list[int]:
        code = COMPILE.format(loop=json.dumps(LOOP), name=f"torchvision-python313-cpu-{isa}")
        prefix = f"let root = {tree.tree}; pkgs = import {tree.nixpkgs} {{ }}; in "
        out = Path(tree.run("nix-build", "--no-out-link", "--expr", prefix + code).strip())
        scans = [scan(read_elf((out / name).read_bytes()).code) for name in ("c.so", "cxx.so")]
        return [found.shown[evidence(isa).kind] for found in scans]

    assert all(used(nix))
    copy = nix.copy(tmp_path / "tree")
    copy.plant(FLAGS, ENV, "{ env = (old.env or { }) // { CXXFLAGS = flags; }; }")
    assert used(copy) == [0, 0]


KERNEL = """__global__ void on_device(float* to, const float* from, float by, long n) {
  long i = blockIdx.x * (long)blockDim.x + threadIdx.x;
  if (i < n) to[i] += from[i] * by;
}
extern "C" void on_host(float* to, const float* from, float by, long n) {
  for (long i = 0; i < n; ++i) to[i] += from[i] * by;
  on_device<<<1, 1>>>(to, from, by, n);
}
"""
# As nixpkgs has it: nvcc is told of the wrapped compiler, and of nothing that is for it.
NVCC = """(pkgs.stdenv.mkDerivation {{
  name = "kernel";
  kernel = builtins.toFile "kernel.cu" {kernel};
  buildCommand = ''
    eval "$preConfigure"
    [ "$TORCH_CUDA_ARCH_LIST" = 12.0 ]
    PATH={nvcc}:$PATH
    export NVCC_PREPEND_FLAGS="-ccbin $(command -v c++)"
    nvcc -O3 -gencode=arch=compute_120,code=sm_120 -Xcompiler -fPIC -cudart none -shared "$kernel" -o $out
  '';
}}).overrideAttrs (import (root + "/nix/flags.nix") (import (root + "/nix/variant.nix") {{ }} "{name}"))"""


@pytest.fixture(scope="module")
def nvcc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of CUDA 13.0's nvcc, from the package registry (271 MB unpacked)."""
    site = tmp_path_factory.mktemp("nvcc")
    needed = ("nvidia-cuda-nvcc", "nvidia-nvvm", "nvidia-cuda-crt", "nvidia-cuda-runtime", "nvidia-cuda-cccl")
    wheels = [f"{wheel.package}=={wheel.version}" for wheel in cuda_wheels()["cuda13_0"] if wheel.package in needed]
    assert len(wheels) == len(needed)
    run([find_uv_bin(), "pip", "install", "-q", "--no-deps", "--target", site, *wheels], action="installing nvcc")
    return site / "nvidia" / "cu13" / "bin"


@pytest.mark.usefixtures("terminals")
@pytest.mark.compiler
def test_the_flags_reach_the_compiler_behind_a_real_nvcc(nix: Nix, nvcc: Path, tmp_path: Path) -> None:
    """The host half is compiled for the CPU, the device half for the GPU; in trap 1's form the host half is not."""

    def built(tree: Nix) -> bytes:
        code = NVCC.format(kernel=json.dumps(KERNEL), nvcc=nvcc, name="torchvision-python313-cuda13_0-sm120-avx512")
        prefix = f"let root = {tree.tree}; pkgs = import {tree.nixpkgs} {{ }}; in "
        return Path(tree.run("nix-build", "--no-out-link", "--expr", prefix + code).strip()).read_bytes()

    def used(data: bytes) -> int:
        return scan(read_elf(data).code).shown[evidence("avx512").kind]

    data = built(nix)
    assert used(data)
    assert {(image.kind, image.sm) for group in images(data) for image in group} == {("cubin", "sm120")}
    copy = nix.copy(tmp_path / "tree")
    copy.plant(FLAGS, ENV, "{ env = (old.env or { }) // { CXXFLAGS = flags; }; }")
    assert used(built(copy)) == 0

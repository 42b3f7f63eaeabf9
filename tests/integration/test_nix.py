"""The 60 recipes in real Nix: evaluated as Flox evaluates them, and what reaches each build looked at.

The package set is this project's own (tests/integration/nix/nixpkgs): it behaves as nixpkgs does where the builder
touches it. `problems` is the check; every trap has a test that plants the faulty form and sees the check reject it.
"""

from __future__ import annotations

import json
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from _nix import ERAS, ERAS_FOLDER, NAMES, Nix, arch_list, default, one_recipe, problems, sharing

from build_torchvision.errors import ProcessFailed
from build_torchvision.facts import isas
from build_torchvision.process import run
from build_torchvision.recipes import checkout, flox, tree
from build_torchvision.recipes.nix import PYTHONS
from build_torchvision.variants import TRACKS, enumerate_variants, parse

pytestmark = pytest.mark.nix


@pytest.fixture(scope="module")
def looked(nix: Nix) -> dict[str, Any]:
    """All 60 in one evaluation."""
    return nix.look()


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
    names = nix.eval(f"builtins.attrNames ({default()}).all")
    assert len(names) == len(PYTHONS) * len(enumerate_variants(tracks=TRACKS, sms=None))
    name = "torchvision-python312-cuda13_0-sm121-armv9"
    torch = nix.eval(f"({default()}).all.{name}.torch.cudaCapabilities")
    assert torch == ["12.1"]


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
    """torch imports itself while it is built, and torchvision imports torch: both ask, and a Skylake-X is no answer."""
    asked = {
        isa: nix.eval(
            f"let it = ({default('requireIsa = true;')}).torchvision-python313-cpu-{isa}; in "
            "{ torchvision = it.requiredSystemFeatures; torch = it.torch.requiredSystemFeatures; }"
        )
        for isa in isas()
    }
    features = {
        "avx2": ["gccarch-x86-64-v3"],
        "avx512": ["gccarch-x86-64-v4"],
        "avx512vnni": ["gccarch-x86-64-v4", "avx512vnni"],
        "avx512bf16": ["gccarch-x86-64-v4", "avx512vnni", "avx512bf16"],
        "armv8_2": ["gccarch-armv8.2-a", "fp16"],
        "armv9": ["gccarch-armv9-a"],
    }
    assert asked == {isa: {"torchvision": own, "torch": ["big-parallel", *own]} for isa, own in features.items()}
    jobs = nix.eval(
        '(import (root + "/release.nix") { inherit nixpkgs; requireIsa = true; })'
        ".torchvision-python313-cpu-avx512vnni.torch.requiredSystemFeatures"
    )
    assert jobs == ["big-parallel", "gccarch-x86-64-v4", "avx512vnni"]


def test_without_that_wish_no_builder_is_asked_for_a_cpu(looked: dict[str, Any]) -> None:
    assert {tuple(seen["package"]["features"]) for seen in looked.values()} == {()}
    assert {tuple(seen["torch"]["features"]) for seen in looked.values()} == {("big-parallel",)}


def test_the_static_proof_is_a_derivation_of_its_own(looked: dict[str, Any]) -> None:
    for name, seen in looked.items():
        expected = seen["package"]["verify"] is not None
        assert expected is (parse(name).platform == "x86_64")


# --- the traps: each faulty form planted, and rejected ----------------------------------------------------------------

FLAGS, SET, BUILDER = "nix/flags.nix", "nix/package-set.nix", "nix/torchvision.nix"
ENV = "{ env = (old.env or { }) // { NIX_CFLAGS_COMPILE_BEFORE = before; }; }"
SAMPLE = "torchvision-python313-cuda12_8-sm120-avx512"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Replacements in the tree, and what the check must then say of SAMPLE."""

    changes: tuple[tuple[str, str, str], ...]
    said: str


FAULTS = {
    "trap 1: flags in CXXFLAGS, which torch's build drops": Fault(
        changes=(
            (FLAGS, ENV, "{ env = (old.env or { }) // { CXXFLAGS = flags; }; }"),
            (FLAGS, "{ NIX_CFLAGS_COMPILE_BEFORE = before; }\n", "{ CXXFLAGS = flags; }\n"),
        ),
        said="without '-march=x86-64-v4'",
    ),
    "trap 16: flags after the source's own": Fault(
        changes=(
            (FLAGS, ENV, "{ env = (old.env or { }) // { NIX_CFLAGS_COMPILE = before; }; }"),
        ),
        said="outdoes the source's own flags: '-march=x86-64-v4'",
    ),
    "a torch that loses what its package set told of it": Fault(
        changes=((SET, "passthru = (old.passthru or { }) // {", "passthru = {"),), said="lost the passthru"
    ),
    "trap 2: gpuTargets of torch instead of the package set's capabilities": Fault(
        changes=(
            (SET, "cudaCapabilities = [ codegen.capability ];", ""),
            (SET, "    torch.overrideAttrs", "    (torch.override { gpuTargets = [ base ]; }).overrideAttrs"),
            (SET, "  toolkit = final", "  base = codegen.capability;\n  toolkit = final"),
            (FLAGS, "if codegen == null then", "if true then"),
        ),
        said="the package set's capabilities is '10.0 12.0 6.",
    ),
    "capabilities of another GPU": Fault(
        changes=((SET, "[ codegen.capability ]", '[ "9.0" ]'),), said="the package set's capabilities is '9.0'"
    ),
    "forward compatibility left on, which adds PTX": Fault(
        changes=((SET, 'codegen.kind == "ptx"', "true"),), said="code=compute_120"
    ),
    "another toolkit": Fault(
        changes=((SET, "cudaPackages = final.${variant.cudaPackages};", "cudaPackages = final.cudaPackages_12_9;"),),
        said="do not match",
    ),
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
    copy.plant(SET, "        passthru = (old", "        name = variant.pytorch null;\n        passthru = (old")
    names = [f"torchvision-python313-cuda12_8-{sm}-avx512" for sm in ("sm100", "sm103")]
    assert "has 2 torches" in "; ".join(sharing(copy.look(one_recipe(copy, *names))))
    assert sharing(nix.look(one_recipe(nix, *names))) == []


def test_trap_4_what_the_package_set_cannot_evaluate_is_broken_with_its_reason(nix: Nix, tmp_path: Path) -> None:
    name = "torchvision-python313-cuda13_0-sm110-avx2"
    build = f'build {{ name = "{name}"; }}'
    assert nix.eval(f"({build}).meta.broken") is True
    assert "Jetson capability 11.0 on aarch64-linux only" in nix.eval(f"({build}).brokenReason")
    assert "Jetson capability 11.0 on aarch64-linux only" in nix.refusal(f"({build}).drvPath")
    copy = nix.copy(tmp_path / "tree")
    copy.plant("nix/variant.nix", "codegen.broken.${system} or null", "null")
    assert 'Requested Jetson CUDA capabilities (["11.0"]) require hostPlatform' in copy.refusal(f"({build}).drvPath")
    assert nix.eval(f"({default()}).all.torchvision-python313-cuda13_0-sm110-armv9.gpuArch") == "11.0"


def test_trap_4_a_capability_that_the_toolkit_lacks_is_refused_by_the_package_set(nix: Nix, tmp_path: Path) -> None:
    """The faulty form of sm103 in CUDA 12.8: asking for 10.3 there."""
    copy = nix.copy(tmp_path / "tree")
    copy.plant(SET, "[ codegen.capability ]", "[ variant.gpu.capability ]")
    build = '(build { name = "torchvision-python313-cuda12_8-sm103-avx512"; }).drvPath'
    said = copy.refusal(build)
    assert "cudaPackages_12_8.backendStdenv has failed assertions:" in said
    assert '- Requested CUDA capabilities which are too new for CUDA 12.8: ["10.3"]' in said
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


PURE = ("nix-instantiate", "--eval", "--strict", "--json", "--option", "pure-eval", "true", "--expr")


@pytest.mark.parametrize("era", ERAS)
def test_recipes_evaluate_purely(era: str, nix: Nix, tmp_path: Path) -> None:
    """From a copy of the tree in the store, with nothing of this machine to be asked: no path, variable or system.

    A property of this project's own: Flox, for one, evaluates impurely.
    """
    archive, of = tmp_path / "tree.tar", nix.of(era)
    nix.run("tar", "-C", nix.tree.parent, "-cf", archive, nix.tree.name)
    sha256 = nix.run("nix-hash", "--type", "sha256", "--base32", nix.tree).strip()

    def pure(expression: str) -> str:
        text = f"""let root = fetchTarball {{ url = "file://{archive}"; sha256 = "{sha256}"; }};
          pkgs = import (root + "/{ERAS_FOLDER}/{era}") {{ system = "x86_64-linux"; }};
          in {expression}"""
        return str(json.loads(nix.run(*PURE, text)))

    recipe = f'(pkgs.callPackage (root + "/.flox/pkgs/{SAMPLE}.nix") {{ }})'
    assert f"-{SAMPLE}-" in pure(f"{recipe}.drvPath")
    impure = of.eval(f'(pkgs.callPackage (root + "/.flox/pkgs/{SAMPLE}.nix") {{ }}).torch.drvPath')
    assert pure(f"{recipe}.torch.drvPath") == impure
    arguments = f'{{ inherit pkgs; name = "{SAMPLE}"; torch.source = "recipe"; }}'
    with pytest.raises(ProcessFailed, match="whose recipes fetch a nixpkgs without a hash"):
        pure(f'(import (root + "/nix/torchvision.nix") {arguments}).drvPath')


def test_a_pin_with_its_hash_is_used(nix: Nix, tmp_path: Path) -> None:
    """A package set with another torchvision in it, fetched by address and hash: it is that one which is built."""
    copy = nix.copy(tmp_path / "tree")
    other = copy.tree / "nixpkgs-other"
    (copy.tree / ERAS_FOLDER).parent.rename(other)
    (other / "default.nix").write_text("import ./eras/unstable", encoding="utf-8")
    cuda = other / "nixpkgs" / "cuda.nix"
    text = cuda.read_text("utf-8").replace("../../../../nix/matrix.json", "../matrix.json")
    cuda.write_text(text, encoding="utf-8")
    (other / "matrix.json").write_text((copy.tree / "nix" / "matrix.json").read_text("utf-8"), encoding="utf-8")
    torchvision = other / "nixpkgs" / "torchvision.nix"
    text = torchvision.read_text("utf-8").replace("    version = ", '    pinned = "yes";\n    version = ', 1)
    torchvision.write_text(text, encoding="utf-8")
    nix.run("tar", "-C", other.parent, "-cf", tmp_path / "other.tar", other.name)
    sha256 = nix.run("nix-hash", "--type", "sha256", "--base32", other).strip()
    pin = f'{{ url = "file://{tmp_path}/other.tar"; sha256 = "{sha256}"; }}'
    assert nix.eval(f'(build {{ name = "{SAMPLE}"; nixpkgs = {pin}; }}).pinned') == "yes"

"""The recipes on nixpkgs of several times, what nix/ relies on there, and every refusal with its advice followed.

nix/contract.toml names each behaviour of nixpkgs that nix/ relies on. Here each is provoked in the package sets of
tests/integration/nix/eras; where NIX_PATH has a nixpkgs and Nix is new enough for it, the last test asks that one too.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from _nix import ERAS, ERAS_FOLDER, NAMES, ROOT, Nix, default, problems, sharing
from conftest import build_torchvision

from build_torchvision.facts import isas, releases, toolkits, version_key
from build_torchvision.facts.nixpkgs import cuda_legacy
from build_torchvision.recipes import flox
from build_torchvision.recipes.nix import system_features, why_broken
from build_torchvision.variants import enumerate_variants, parse

pytestmark = pytest.mark.nix

SAMPLE = "torchvision-python313-cuda12_8-sm120-avx512"
CPU = "torchvision-python313-cpu-avx512"
TOOLKITS = {
    era: set(re.findall(r'"(\d+\.\d+)"', re.findall(r"\n    toolkits = \[(.*)\]", text)[0]))
    for era in ERAS
    for text in [(ROOT / ERAS_FOLDER / era / "default.nix").read_text("utf-8")]
}
"""The CUDA versions that each era's package set has."""


def variants_of(track: str) -> list[str]:
    """The names of a track that nixpkgs can evaluate (trap 4)."""
    return [str(v) for v in enumerate_variants(tracks=[track], sms=None) if not why_broken(v)]


# --- the recipes on each era ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ERAS)
def test_all_60_are_what_their_names_say_on_every_era(era: str, nix: Nix) -> None:
    seen = nix.of(era).look()
    assert sorted(seen) == sorted(NAMES)
    assert len(seen) == 60
    assert {name: found for name in seen if (found := problems(parse(name), seen[name]))} == {}
    assert sharing(seen) == []


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("track", toolkits())
def test_the_recipes_of_each_track_hold_or_say_why_not(track: str, era: str, nix: Nix, tmp_path: Path) -> None:
    toolkit = toolkits()[track].version
    of, names = nix.of(era), variants_of(track)
    if toolkit in TOOLKITS[era] and not (era == "25.11" and toolkit.startswith("13.")):
        copy = of.copy(tmp_path / "tree")
        folder = copy.tree / ".flox" / "other"
        folder.mkdir()
        for path, text in flox.files([parse(name) for name in names]).items():
            (folder / Path(path).name).write_text(text, encoding="utf-8")
        seen = copy.look(folder)
        assert len(seen) == len(names) > 40
        assert {name: found for name in seen if (found := problems(parse(name), seen[name]))} == {}
        assert sharing(seen) == []
        return
    name = next(name for name in names if parse(name).platform == "x86_64")
    assert of.eval(f"({default()}).all.{name}.meta.broken") is True
    reason = of.eval(f"({default()}).all.{name}.brokenReason")
    if toolkit not in TOOLKITS[era]:
        assert f"this nixpkgs has no {parse_packages(track)}; it has cudaPackages_" in reason
        newer = all(version_key(there) < version_key(toolkit) for there in TOOLKITS[era])
        assert ("give a newer nixpkgs" in reason) is newer
        assert ("github.com/nixos-cuda/cuda-legacy" in reason) is not newer
    else:
        assert "marks its torch 2.9.1 as broken: Unsupported CUDA version" in reason
    assert " ".join(reason.split()) in " ".join(of.refusal(f"({default()}).all.{name}.drvPath").split())
    follow_to_variants(of, reason)


def parse_packages(track: str) -> str:
    """nixpkgs' name of a track's toolkit."""
    return f"cudaPackages_{track.removeprefix('cuda')}"


# --- refusals, and their advice followed ------------------------------------------------------------------------------


def follow_to_variants(of: Nix, said: str) -> list[str]:
    """The variants that a refusal advises in place of its own, of which each evaluates in the same nixpkgs."""
    names = re.findall(r"torchvision-python[\w-]+", said.partition("or choose ")[2])
    paths = of.eval("[ " + " ".join(f"({default()}).all.{name}.drvPath" for name in names) + " ]")
    assert len(paths) == len(names)
    return names


def follow_to_releases(of: Nix, said: str, build: str) -> list[str]:
    """The releases that a refusal advises, of which each evaluates; `build` is the call, with RELEASE in it."""
    found = re.findall(r"build a TorchVision that this torch serves, ([\d.]+(?: or [\d.]+)*): `nix-build", said)
    versions: list[str] = found[0].split(" or ") if found else []
    for version in versions:
        assert of.eval(f"({build}).name".replace("RELEASE", f'release = "{version}";')).endswith(f"-{version}")
    return versions


LEGACY = """(final: prev: { cudaPackages_12_4 = import (root + "/tests/integration/nix/nixpkgs/cuda.nix") {
  inherit (prev) lib config stdenv gcc13Stdenv gcc14Stdenv; pkgs = final; version = "12.4";
  era.aliasesMustAgree = true; }; })"""
"""An overlay as github.com/nixos-cuda/cuda-legacy's: a toolkit that nixpkgs has removed."""
TORCH_2_10 = """(final: prev: { pythonPackagesExtensions = prev.pythonPackagesExtensions ++ [ (_: python: {
  torch_2_10 = python.torch.overrideAttrs { version = "2.10.0"; }; }) ]; })"""
"""An overlay that adds a torch of another series beside the package set's."""


@pytest.mark.parametrize("era", ERAS)
def test_a_toolkit_that_nixpkgs_removed_comes_from_an_overlay(era: str, nix: Nix, tmp_path: Path) -> None:
    of, name = nix.of(era), "torchvision-python313-cuda12_4-sm90-avx512"
    said = of.refusal(f"({default()}).all.{name}.drvPath")
    assert "this nixpkgs has no cudaPackages_12_4; it has" in said
    assert "cudaPackages_12_9" in said
    assert f"CHECKOUT is the path of a clone of {cuda_legacy().url}" in said
    # The advice, typed: with a clone that has its overlay where the table says.
    file = tmp_path / cuda_legacy().overlay / "default.nix"
    file.parent.mkdir(parents=True)
    file.write_text(LEGACY.replace("(root +", f"({of.tree} +"), encoding="utf-8")
    command = re.findall(r"`nix-build (--arg overlays '.*?')`", said)[0].replace("CHECKOUT", str(tmp_path))
    made = of.run("nix-instantiate", "default.nix", *shlex.split(command), "-A", f"all.{name}")
    assert f"-{name}-" in made
    overlay = re.findall(r"or `(overlays = .*?;)` in a recipe", said)[0].replace("CHECKOUT", str(tmp_path))
    seen = of.eval(f"({default(overlay)}).all.{name}.torch.cudaPackages.cudaMajorMinorVersion")
    assert seen == "12.4"
    # The other advice: the track of one that is there.
    tracks = {parse(other).track for other in follow_to_variants(of, said)}
    assert {"cuda12_8", "cuda12_9"} <= tracks
    assert ("cuda13_0" in tracks) is (era != "25.11")  # where this torch does not take it
    assert ("cuda12_6" in tracks) is ("12.6" in TOOLKITS[era])


def test_a_toolkit_that_nixpkgs_does_not_have_yet_comes_from_a_newer_one(nix: Nix) -> None:
    name = "torchvision-python313-cuda13_2-sm120-avx512"
    said = nix.refusal(f"({default()}).all.{name}.drvPath")
    assert "this nixpkgs has no cudaPackages_13_2; it has cudaPackages_12_6" in said
    assert "Next: give a newer nixpkgs: `nix-build --arg nixpkgs 'PATH'`, or `nixpkgs = PATH;` in a recipe" in said
    assert "cuda-legacy" not in said
    # Blackwell's are compiled by name from 12.8 on alone.
    assert {parse(other).track for other in follow_to_variants(nix, said)} == {"cuda12_8", "cuda12_9", "cuda13_0"}
    newer = f'(build {{ name = "{name}"; nixpkgs = {nix.of("unstable").nixpkgs}; }})'
    assert nix.eval(f"{newer}.torch.cudaPackages.cudaMajorMinorVersion") == "13.2"


def test_a_gpu_that_nixpkgs_refuses_points_to_what_serves_it(nix: Nix) -> None:
    said = nix.refusal(f"({default()}).all.torchvision-python313-cuda13_0-sm110-avx2.drvPath")
    assert "on aarch64-linux only, and no computer with such a GPU has an x86_64 CPU" in said
    command = re.findall(r"Next: `build-torchvision (variants .*)` lists what serves this GPU", said)
    ran = build_torchvision(*shlex.split(command[0]))
    assert "torchvision-python313-cuda13_0-sm110-armv9" in ran.out
    assert nix.eval(f"({default()}).all.torchvision-python313-cuda13_0-sm110-armv9.drvPath")


def test_a_torch_that_is_broken_with_a_toolkit_says_so_and_another_nixpkgs_is_used(nix: Nix) -> None:
    old, name = nix.of("25.11"), "torchvision-python313-cuda13_0-sm120-avx512"
    said = old.refusal(f"({default()}).all.{name}.drvPath")
    assert (
        f"{name} cannot be built here: this nixpkgs marks its torch 2.9.1 as broken: Unsupported CUDA version." in said
    )
    assert "Next: give a nixpkgs whose torch is not" in said
    assert {parse(other).track for other in follow_to_variants(old, said)} == {"cuda12_8", "cuda12_9"}
    assert old.eval(f'(build {{ name = "{name}"; nixpkgs = {nix.of("26.05").nixpkgs}; }}).torch.version') == "2.11.0"


def test_hydra_leaves_out_what_is_broken(nix: Nix, tmp_path: Path) -> None:
    copy = nix.copy(tmp_path / "tree").of("25.11")
    copy.plant("nix/matrix.json", '"cudaPackages": "cudaPackages_12_8"', '"cudaPackages": "cudaPackages_13_0"')
    jobs = copy.eval('builtins.attrNames (import (root + "/release.nix") { inherit nixpkgs; })')
    assert jobs == sorted(name for name in NAMES if "-cpu-" in name)


def test_a_python_that_nixpkgs_lacks_is_said_and_another_is_taken(nix: Nix) -> None:
    name = "torchvision-python310-cpu-avx2"
    said = nix.refusal(f"({default()}).all.{name}.drvPath")
    assert "this nixpkgs has no python310Packages; it has python311Packages, python312Packages" in said
    assert {parse(other).python for other in follow_to_variants(nix, said)} == {"311", "312", "313", "314"}
    future = nix.of("future")
    said = future.refusal(f"({default()}).all.{name}.drvPath")
    assert {parse(other).python for other in follow_to_variants(future, said)} == {"312", "313", "314", "315"}


def test_a_variant_of_another_platform_is_refused_here_and_built_for_its_own(nix: Nix) -> None:
    name = "torchvision-python313-cpu-armv9"
    said = nix.refusal(f'(load (root + "/.flox/pkgs") {{ }}).{name}.drvPath')
    assert "it is for aarch64-linux, and this package set is x86_64-linux's" in said
    assert f"Next: `nix-build -A {name}` of this project's default.nix" in said
    assert nix.run("nix-instantiate", "default.nix", "-A", name).strip().endswith(f"-{name}-0.26.0.drv")


def test_a_name_that_is_no_variant_points_to_the_list(nix: Nix) -> None:
    said = nix.refusal('(build { name = "torchvision-python313-cuda12_8-sm999-avx512"; }).drvPath')
    command = re.findall(r"is no variant of the matrix\. Next: `build-torchvision (.*?)` lists", said)
    assert CPU in build_torchvision(*shlex.split(command[0])).out


def test_a_nix_that_is_too_old_is_named_before_nixpkgs_stops(nix: Nix, tmp_path: Path) -> None:
    copy = nix.copy(tmp_path / "tree")
    file, asked = copy.nixpkgs / "lib" / "minfeatures.nix", f"({default()}).{CPU}.drvPath"
    text = file.read_text("utf-8")
    file.write_text(text.replace("2.8", "99.1"), encoding="utf-8")
    said = copy.refusal(asked)
    assert re.search(r"Nix [\d.]+\S* is too old for this nixpkgs \(.*\), which needs that", said)
    assert "which needs that `builtins.nixVersion` reports at least 99.1." in said
    assert "Next: take a newer Nix (Debian 13 and Ubuntu 24.04 have one, Debian 12 does not" in said
    file.write_text(text, encoding="utf-8")
    assert copy.eval(asked)
    file.unlink()
    assert copy.eval(asked)


# --- releases and pairs -----------------------------------------------------------------------------------------------


def test_patches_that_differ_are_a_pair_as_nixpkgs_makes_them(nix: Nix) -> None:
    skewed = nix.of("skewed")
    assert skewed.eval(f"({default()}).{CPU}.name") == f"{CPU}-0.27.1"
    assert skewed.eval(f"({default()}).{CPU}.torch.version") == "2.12.0"
    assert "warning" not in skewed.warnings(f"({default()}).{CPU}.drvPath")


def test_a_release_that_no_table_knows_is_accepted_with_a_warning(nix: Nix) -> None:
    future = nix.of("future")
    said = future.warnings(f"({default()}).{CPU}.drvPath")
    assert "TorchVision 0.99.0 is in no row of the table of releases; it goes with torch 2.99.0" in said


def test_an_unknown_release_goes_with_the_torch_of_its_own_set_alone(nix: Nix) -> None:
    """From a catalog: the same series is accepted, another is refused, and the advice is followed."""

    def catalog(version: str, more: str = "") -> str:
        declared = '{ cpuISA = "avx512"; gpuArch = null; }'
        package = f'(pkgs.python313Packages.torch.overrideAttrs {{ version = "{version}"; }}) // {declared}'
        return f'(build {{ name = "{CPU}"; torch = {{ source = "catalog"; package = {package}; }}; {more} }})'

    future = nix.of("future")
    assert future.eval(f"{catalog('2.99.3')}.drvPath")
    said = future.refusal(f"{catalog('2.98.0')}.drvPath")
    assert "TorchVision 0.99.0 is made for the torch 2.99.0 beside it, and this torch is 2.98.0" in said
    assert 'or torch.source = "nixpkgs", which makes the matching one' in said
    assert follow_to_releases(future, said, catalog("2.98.0", "RELEASE"))
    assert future.eval(f'(build {{ name = "{CPU}"; torch.source = "nixpkgs"; }}).drvPath')


def test_a_set_that_pairs_two_series_is_refused_without_advising_what_is_set(nix: Nix, tmp_path: Path) -> None:
    copy = nix.copy(tmp_path / "tree")
    copy.plant(f"{ERAS_FOLDER}/26.05/default.nix", 'torch = "2.11.0"', 'torch = "2.9.1"')
    said = copy.refusal(f"({default()}).{CPU}.drvPath")
    assert "release: TorchVision 0.26.0 belongs to torch 2.11, and this torch is 2.9.1" in said
    assert "or give another nixpkgs, whose torch and torchvision are of one series: `nix-build --arg nixpkgs" in said
    assert follow_to_releases(copy, said, f'build {{ name = "{CPU}"; RELEASE }}') == ["0.24.0", "0.24.1"]
    assert 'torch.source = "nixpkgs"' not in said
    assert copy.eval(f'(build {{ name = "{CPU}"; nixpkgs = {nix.of("unstable").nixpkgs}; }}).drvPath')


def test_another_release_is_built_from_its_own_source_with_a_torch_of_its_series(nix: Nix) -> None:
    """26.05 has 2.11, which serves 0.26; 0.25.0 wants 2.10, which it has not."""
    ask = 'build { name = "NAME"; release = "0.25.0"; ARGUMENTS }'.replace("NAME", SAMPLE)
    said = nix.refusal(f"({ask.replace('ARGUMENTS', '')}).drvPath")
    assert "release: TorchVision 0.25.0 belongs to torch 2.10, and this torch is 2.11.0" in said
    assert "or add that torch by an overlay as python313Packages.torch_2_10" in said
    assert "or give a nixpkgs with torch 2.10: " in said
    # The advice: by an overlay, by another nixpkgs, by a TorchVision of this torch's series.
    built = ask.replace("ARGUMENTS", f"overlays = [ {TORCH_2_10} ];")
    seen = nix.eval(
        f"let it = {built}; in {{ inherit (it) name version drvPath; inherit (it.src) url outputHash tag; "
        "inherit (it) patches; torch = it.torch.version; flags = it.torch.NIX_CFLAGS_COMPILE_BEFORE; }"
    )
    row = releases()["0.25.0"]
    assert seen["name"] == f"{SAMPLE}-0.25.0"
    assert seen["torch"] == "2.10.0"
    assert seen["flags"] == "-march=x86-64-v4"
    assert (seen["version"], seen["tag"], seen["patches"]) == ("0.25.0", "v0.25.0", [])
    assert seen["url"].endswith("/v0.25.0.tar.gz")
    assert seen["outputHash"] == row.sha256
    assert follow_to_releases(nix, said, f'build {{ name = "{SAMPLE}"; RELEASE }}') == ["0.26.0"]
    older = ask.replace("ARGUMENTS", f"nixpkgs = {nix.of('unstable').nixpkgs};").replace("0.25.0", "0.28.0")
    assert nix.eval(f"({older}).torch.version") == "2.13.0"


@pytest.mark.parametrize("era", ["25.11", "unstable"])
def test_a_release_of_the_stable_abi_wants_its_torch_or_newer(era: str, nix: Nix, tmp_path: Path) -> None:
    copy = nix.copy(tmp_path / "tree").of(era)
    name = next(known.torchvision for known in releases().values() if known.stable_abi)
    least = ".".join(releases()[name].torch.split(".")[:2])
    matrix = copy.tree / "nix" / "matrix.json"
    text = matrix.read_text("utf-8").replace('"sha256": null', f'"sha256": "{"0" * 64}"')
    matrix.write_text(text, encoding="utf-8")
    said = copy.refusal(f'(build {{ name = "{CPU}"; release = "{name}"; }}).drvPath')
    assert f"TorchVision {name} belongs to torch {least} or newer" in said
    future = copy.of("future")
    assert future.eval(f'(build {{ name = "{CPU}"; release = "{name}"; }}).torch.version') == "2.99.0"


def test_a_release_without_a_row_or_a_hash_is_refused_with_what_there_is(nix: Nix, tmp_path: Path) -> None:
    said = nix.refusal(f'(build {{ name = "{CPU}"; release = "0.99.0"; }}).drvPath')
    assert "TorchVision 0.99.0 is in no row of the table of releases, which has 0." in said
    assert follow_to_releases(nix, said, f'build {{ name = "{CPU}"; RELEASE }}') == ["0.26.0"]
    copy = nix.copy(tmp_path / "tree")
    row = releases()["0.26.0"]
    copy.plant("nix/matrix.json", f'"sha256": "{row.sha256}"', '"sha256": null')
    said = copy.refusal(f'(build {{ name = "{CPU}"; release = "0.26.0"; }}).drvPath')
    assert "no sha256 of the source of TorchVision 0.26.0 is recorded" in said
    assert "Next: leave `release` out for the package set's own" in said
    assert copy.eval(f'(build {{ name = "{CPU}"; }}).drvPath')


def test_generated_recipes_of_a_release_evaluate(nix: Nix) -> None:
    folder = nix.tree / ".flox" / "release"
    folder.mkdir()
    for path, text in flox.files([parse(SAMPLE)], release="0.26.0").items():
        (folder / Path(path).name).write_text(text, encoding="utf-8")
    assert nix.eval(f"(load {folder} {{ }}).{SAMPLE}.src.tag") == "v0.26.0"


# --- the document -----------------------------------------------------------------------------------------------------


def test_what_the_document_tells_to_build_can_be_instantiated(nix: Nix) -> None:
    """Each nix-build line, word for word but for the building."""
    marked = re.findall(r"<!-- nix -->\n```bash\n(.*?)```", (ROOT / "docs" / "nix.md").read_text("utf-8"), re.DOTALL)
    commands = [line.partition("  #")[0].strip() for block in marked for line in block.splitlines()]
    assert len(commands) >= 6
    for command in commands:
        assert command.startswith("nix-build ")
        made = nix.run(*shlex.split(command.replace("nix-build", "nix-instantiate", 1))).split()
        assert made, command
        assert all(path.endswith(".drv") for path in made), command


def test_the_document_names_the_overlay_of_the_table() -> None:
    text, legacy = (ROOT / "docs" / "nix.md").read_text("utf-8"), cuda_legacy()
    assert f"git clone {legacy.url} ../cuda-legacy\n" in text
    assert f"--arg overlays '[ (import ../cuda-legacy/{legacy.overlay}) ]'\n" in text


def test_the_documents_table_of_features_is_the_builders_own() -> None:
    text = (ROOT / "docs" / "nix.md").read_text("utf-8")
    for isa in isas().values():
        assert f"| {isa.name} | `{' '.join(system_features(isa))}` |" in text


@pytest.mark.parametrize("era", ["25.11", "26.05", "unstable"])
def test_the_documents_table_of_nixpkgs_is_that_of_the_eras(era: str, nix: Nix) -> None:
    text = (ROOT / "docs" / "nix.md").read_text("utf-8")
    pair = nix.of(era).eval("[ pkgs.python3Packages.torch.version pkgs.python3Packages.torchvision.version ]")
    row = re.findall(rf"^\| {era}[^|]*\| {', '.join(pair)} \| (.*) \|$", text, re.MULTILINE)
    assert len(row) == 1
    assert {"12.6", "12.8", "12.9", "13.0"} <= set(re.findall(r"\d\d\.\d", row[0])) <= TOOLKITS[era]


# --- the contract -----------------------------------------------------------------------------------------------------

CONTRACT: dict[str, dict[str, Any]] = {
    name: row
    for name, row in tomllib.loads((ROOT / "nix" / "contract.toml").read_text("utf-8")).items()
    if isinstance(row, dict)
}
BINDINGS = """
  make = config: overlays: import nixpkgs { system = "x86_64-linux"; inherit config overlays; };
  cpu = make { } [ ];
  cuda = { allowUnfree = true; cudaSupport = true; };
  gpu = extra: make (cuda // extra) [ ];
  toolkit = name: final: _: { cudaPackages = final.${name}; ${builtins.substring 0 15 name} = final.${name}; };
  refuses = value: !(builtins.tryEval (builtins.seq value true)).success;
  variable = of: key: toString (of.env.${key} or of.${key} or "");
  has = text: part: builtins.length (builtins.split part text) > 1;
"""
FIELDS = {"rule", "file", "behaviour", "eras", "source", "date", "holds", "text", "test"}


def holds(nix: Nix, row: dict[str, Any]) -> bool:
    """Whether the behaviour of a row is there."""
    return bool(nix.eval(f"let {BINDINGS} in {row['holds']}"))


def test_every_row_of_the_contract_is_whole() -> None:
    tests = {
        name
        for module in ROOT.glob("tests/integration/test_nix*.py")
        for name in re.findall(r"^def (test_\w+)", module.read_text("utf-8"), re.MULTILINE)
    }
    for name, row in CONTRACT.items():
        assert set(row) <= FIELDS, name
        assert {"rule", "file", "behaviour", "eras", "source", "date"} <= set(row), name
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", row["date"]), name
        assert row["file"].startswith(("pkgs/", "lib/", "default.nix")), name
        assert (ROOT / row["rule"].split(":")[0]).is_file(), f"{name}: {row['rule']}"
        assert set(row["eras"]) <= {*ERAS, "all"}, name
        assert "holds" in row or row.get("test") in tests, f"{name} is provoked by no test"
        assert row.get("test", "") in {*tests, ""}, f"{name}: there is no test {row.get('test')}"


@pytest.mark.parametrize("name", [name for name, row in CONTRACT.items() if "holds" in row])
def test_the_stand_in_behaves_as_the_contract_says(name: str, nix: Nix) -> None:
    """On each era of the row; and on those that it is not about the behaviour is another."""
    row = CONTRACT[name]
    eras = ERAS if "all" in row["eras"] else row["eras"]
    assert {era: holds(nix.of(era), row) for era in ERAS} == {era: era in eras for era in ERAS}


def real_nixpkgs() -> Path | None:
    """The nixpkgs of NIX_PATH or of a channel, where there is one that is no package set of these tests."""
    found = subprocess.run(["nix-instantiate", "--find-file", "nixpkgs"], capture_output=True, text=True, check=False)
    path = Path(found.stdout.strip()) if found.returncode == 0 else None
    if path is not None and (path / "pkgs" / "top-level" / "all-packages.nix").is_file():
        return path
    assert "nixpkgs=" not in os.environ.get("NIX_PATH", ""), f"NIX_PATH names no nixpkgs: {found.stderr or path}"
    return None


def broken_rows(nix: Nix, path: Path, era: str) -> list[str]:
    """The rows of the contract that the nixpkgs at `path` does not keep, with what is missing."""
    real, found = replace(nix, outside=path), []
    for name, row in CONTRACT.items():
        if not {era, "all"} & set(row["eras"]):
            continue
        file = path / row["file"]
        if "text" in row and not (file.is_file() and row["text"] in file.read_text("utf-8")):
            found.append(f"{name}: {row['file']} has no {row['text']!r}")
        if "holds" in row and not holds(real, row):
            found.append(f"{name}: not so: {row['behaviour']}")
    return found


def test_a_nixpkgs_that_breaks_the_contract_is_named_with_the_row(nix: Nix, tmp_path: Path) -> None:
    """An era's package set with nixpkgs' own files beside it, once whole and once without two behaviours."""
    copy = nix.copy(tmp_path / "tree").of("unstable")
    path = copy.nixpkgs
    for row in CONTRACT.values():
        if "text" in row:
            file = path / row["file"]
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a", encoding="utf-8") as text:
                text.write(row["text"] + "\n")
    assert broken_rows(copy, path, "unstable") == []
    (path / CONTRACT["flags-before"]["file"]).write_text("NIX_CFLAGS_COMPILE", encoding="utf-8")
    copy.plant(
        "tests/integration/nix/nixpkgs/torch.nix", 'pythonImportsCheck = [ "torch" ];', "pythonImportsCheck = [ ];"
    )
    assert [line.partition(":")[0] for line in broken_rows(copy, path, "unstable")] == [
        "flags-before",
        "imports-itself",
    ]


def test_a_real_nixpkgs_keeps_the_contract_and_instantiates_the_60(nix: Nix) -> None:
    path = real_nixpkgs()
    if path is None:
        pytest.skip("needs a nixpkgs: NIX_PATH=nixpkgs=PATH, or a channel")
    real = replace(nix, outside=path)
    if not real.eval('builtins.compareVersions builtins.nixVersion "2.18" >= 0'):
        pytest.skip("nixpkgs needs Nix 2.18 or newer: Debian 13 and Ubuntu 24.04 have one")
    era = ".".join((path / ".version").read_text("utf-8").strip().split(".")[:2])
    assert "\n".join(broken_rows(nix, path, era if era in ERAS else "unstable")) == ""
    for name in NAMES:  # one at a time: each brings a package set of its own into memory
        command = ["nix-instantiate", "default.nix", "--arg", "nixpkgs", path, "-A", name]
        made = Path(real.run(*command, timeout=1800).strip()).name
        assert re.fullmatch(rf"[0-9a-z]{{32}}-{name}-[\d.]+\.drv", made), name

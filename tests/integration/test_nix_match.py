"""A PyTorch and a variant, matched: what is taken, what is refused, and that each refusal's advice is good.

The package sets are those of tests/integration/nix; a "published" PyTorch comes from another one than the recipe's.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from _nix import Nix, arch_list

from build_torchvision.facts.nixpkgs import build_pytorch
from build_torchvision.recipes import flox
from build_torchvision.recipes.flox import TorchSource
from build_torchvision.variants import parse

pytestmark = pytest.mark.nix

SAMPLE = "torchvision-python313-cuda12_8-sm120-avx512"

PUBLISHED = """(pkgs2.python313Packages.torch.overrideAttrs (old: {{
  pname = "{pname}"; name = "{pname}-${{old.version}}"; passthru = old.passthru // {{ {passthru} }}; }}))"""
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
            ("release", "TorchVision 0.26.0 belongs to torch 2.11", "this torch is 2.7.1"),
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


def test_a_pytorch_of_the_right_name_and_another_release_is_not_advised_again(nix: Nix) -> None:
    """Circular advice: it is set already. A TorchVision that this torch serves is what helps."""
    torch = f'({published()} // {{ version = "2.7.1"; }})'
    said = nix.refusal(catalog(torch))
    assert "take the PyTorch" not in said
    assert "Next: build a TorchVision that this torch serves, 0.22.0 or 0.22.1: `nix-build --argstr release" in said
    for release in ("0.22.0", "0.22.1"):
        source = f'torch = {{ source = "catalog"; package = {torch}; }};'
        ask = f'build {{ name = "{SAMPLE}"; release = "{release}"; {source} }}'
        assert nix.eval(f"({ask}).name") == f"{SAMPLE}-{release}"
    other = nix.refusal(catalog(published("", "pytorch-python313-cuda12_8-sm90-avx512")))
    assert f"Next: take the PyTorch {SAMPLE.replace('torchvision', 'pytorch')};" in other


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
  name = "{name}-${{old.version}}";
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
    fat = nix.eval(from_recipe(checkout_of_pytorch, "TORCH_CUDA_ARCH_LIST"))
    assert ";" in fat
    assert lines == ["12.0"]


def test_a_recipe_that_build_pytorch_does_not_have_names_those_it_has(nix: Nix, checkout_of_pytorch: Path) -> None:
    name = "torchvision-python313-cuda12_8-sm103-avx512"
    said = nix.refusal(from_recipe(checkout_of_pytorch, "drvPath", name))
    assert "no recipe pytorch-python313-cuda12_8-sm103-avx512" in said
    assert "pytorch-python313-cuda12_8-sm120-avx512" in said
    assert "pytorch-python313-cuda12_8-sm90-avx512" in said


def test_a_build_pytorch_without_any_for_the_cpu_says_so(nix: Nix, checkout_of_pytorch: Path) -> None:
    name = "torchvision-python313-cuda12_8-sm120-avx2"
    said = nix.refusal(from_recipe(checkout_of_pytorch, "drvPath", name))
    assert "It has none for avx2 and Python 3.13." in said
    assert 'Next: torch.source = "nixpkgs", which makes the matching one.' in said
    assert nix.eval(f'(build {{ name = "{name}"; torch.source = "nixpkgs"; }}).drvPath')


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


# --- names that carry torch's series ----------------------------------------------------------------------------------

SERIES = "pytorch211-python313-cuda12_8-sm120-avx512"


def test_a_name_with_its_series_is_read_as_one_without(nix: Nix) -> None:
    """All that a PyTorch says of itself here is its name."""
    assert nix.eval(catalog(published("", SERIES)))
    assert "has avx2" in nix.refusal(catalog(published("", SERIES.replace("avx512", "avx2"))))
    assert "has 9.0" in nix.refusal(catalog(published("", SERIES.replace("sm120", "sm90"))))
    cpu = published("", "pytorch211-python313-cpu-avx512")
    assert nix.eval(catalog(cpu, name="torchvision-python313-cpu-avx512"))
    read = nix.eval(f'(import (root + "/nix/match.nix") {{ }}).named "{SERIES}"')
    assert read == {"series": "2.11", "python": "313", "track": "cuda12_8", "sm": "sm120", "isa": "avx512"}
    assert nix.eval('(import (root + "/nix/match.nix") { }).named "torch"') is None


def test_a_series_in_the_name_that_is_not_inside_is_an_error(nix: Nix) -> None:
    name = SERIES.replace("211", "212")
    said = nix.refusal(catalog(published("", name)))
    assert f"release: its name has 2.12, {name} has 2.11" in said


def test_a_published_pytorch_of_a_series_is_asked_for_by_its_name(nix: Nix) -> None:
    torch = TorchSource.of("catalog", "acme", series="2.11")
    folder = nix.tree / ".flox" / "series"
    folder.mkdir()
    (folder / f"{SAMPLE}.nix").write_text(flox.recipe(parse(SAMPLE), torch), encoding="utf-8")
    catalogs = f"{{ acme.{SERIES} = {published('', SERIES)}; }}"
    assert nix.eval(f"(load {folder} {catalogs}).{SAMPLE}.torch.pname") == SERIES


def test_a_recipe_of_a_series_is_asked_for_by_its_name(nix: Nix, tmp_path: Path) -> None:
    folder = tmp_path / "companion" / ".flox" / "pkgs"
    folder.mkdir(parents=True)
    (folder / f"{SERIES}.nix").write_text(RECIPE.format(nixpkgs=nix.nixpkgs, name=SERIES), encoding="utf-8")
    torch = f'source = "recipe"; checkout = {folder.parents[1]};'
    of = f'(build {{ name = "{SAMPLE}"; torch = {{ {torch} series = "2.11"; }}; }})'
    assert nix.eval(f"{of}.torch.pname") == SERIES
    said = nix.refusal(f'(build {{ name = "{SAMPLE}"; torch = {{ {torch} }}; }}).drvPath')
    assert "no recipe pytorch-python313-cuda12_8-sm120-avx512" in said
    assert f"{SERIES}\n" in said
    assert "torch.series for one whose name carries it" in said


# --- what is advised, done --------------------------------------------------------------------------------------------


def test_a_catalog_without_its_package_says_which_to_name(nix: Nix) -> None:
    said = nix.refusal(f'(build {{ name = "{SAMPLE}"; torch.source = "catalog"; }}).drvPath')
    assert "Next: torch.package = catalogs.ORG.pytorch-python313-cuda12_8-sm120-avx512." in said
    assert nix.eval(catalog(published()))


def test_a_source_that_is_none_names_those_there_are(nix: Nix) -> None:
    said = nix.refusal(f'(build {{ name = "{SAMPLE}"; torch.source = "wheel"; }}).drvPath')
    assert 'torch.source = "wheel" is none of catalog, nixpkgs, recipe. Next: torch.source = "nixpkgs".' in said
    assert nix.eval(f'(build {{ name = "{SAMPLE}"; torch.source = "nixpkgs"; }}).drvPath')


def test_the_pinned_recipes_evaluate_impurely_as_flox_does(nix: Nix, checkout_of_pytorch: Path, tmp_path: Path) -> None:
    """`flox build` evaluates with `nix eval --file`, which is impure: what pure evaluation refuses works there."""
    copy = nix.copy(tmp_path / "tree")
    nix.run("tar", "-C", checkout_of_pytorch.parent, "-cf", tmp_path / "pytorch.tar", checkout_of_pytorch.name)
    sha256 = nix.run("nix-hash", "--type", "sha256", "--base32", checkout_of_pytorch).strip()
    pin = build_pytorch()
    copy.plant("nix/matrix.json", pin.url, f"file://{tmp_path}/pytorch.tar")
    copy.plant("nix/matrix.json", pin.sha256, sha256)
    (copy.tree / "flox.nix").write_text(
        f'(import {copy.nixpkgs} {{ system = "x86_64-linux"; }}).callPackage ./.flox/pkgs/{SAMPLE}.nix {{ }}',
        encoding="utf-8",
    )
    recipe = copy.tree / ".flox" / "pkgs" / f"{SAMPLE}.nix"
    recipe.write_text(flox.recipe(parse(SAMPLE), TorchSource.of("recipe")), encoding="utf-8")
    command = ("nix", "--extra-experimental-features", "nix-command", "eval", "--raw", "--file", "flox.nix")
    assert copy.run(*command, "torch.pname") == "pytorch-python313-cuda12_8-sm120-avx512"

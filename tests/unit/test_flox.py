"""What Flox reads: the recipes and the manifest."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from build_torchvision.errors import BadInput
from build_torchvision.facts import gpus, isas, releases
from build_torchvision.facts.nixpkgs import build_pytorch, nixpkgs_bounds
from build_torchvision.flags import cuda_codegen
from build_torchvision.process import run
from build_torchvision.recipes import flox, nix, tree
from build_torchvision.recipes.flox import TorchSource
from build_torchvision.variants import TRACKS, enumerate_variants, every_variant, parse

ROOT = Path(__file__).parents[2]
NAMES = [str(variant) for variant in enumerate_variants()]


def test_the_recipes_folder_holds_exactly_the_60_and_nothing_else() -> None:
    """Trap 9: anything else there becomes a package, and a folder lib/ extends nixpkgs' own library."""
    assert sorted(path.name for path in (ROOT / flox.FOLDER).iterdir()) == sorted(f"{name}.nix" for name in NAMES)


@pytest.mark.parametrize("source", ["nixpkgs", "recipe", "catalog"])
def test_a_recipe_is_a_comment_and_a_call_and_takes_what_it_names(source: str) -> None:
    torch = TorchSource.of(source, "org" if source == "catalog" else None)
    for variant in enumerate_variants(tracks=TRACKS):
        text = flox.recipe(variant, torch)
        comment = [line for line in text.splitlines() if line.startswith("#")]
        code = [line for line in text.splitlines() if not line.startswith("#")]
        assert tree.MARK in comment[1]
        assert text.startswith(f"# {variant}\n")
        assert code[0] == ("{ pkgs, catalogs }:" if source == "catalog" else "{ pkgs }:")
        assert code[1] == "import ../../nix/torchvision.nix {"
        assert f'  name = "{variant}";' in code
        assert code[-1] == "}"
        assert len(code) <= 8


def test_a_published_pytorch_is_written_out_literally() -> None:
    text = flox.recipe(parse("torchvision-python313-cuda12_8-sm120-avx512"), TorchSource.of("catalog", "acme"))
    assert "catalogs.acme.pytorch-python313-cuda12_8-sm120-avx512;" in text


def test_a_recipe_of_a_release_names_it_and_one_of_a_series_the_companions_name() -> None:
    variant = parse("torchvision-python313-cuda12_8-sm120-avx512")
    text = flox.recipe(variant, TorchSource.of("catalog", "acme", series="2.10"), "0.25.0")
    assert '  release = "0.25.0";\n  torch.source = "catalog";\n  torch.series = "2.10";\n' in text
    assert "catalogs.acme.pytorch210-python313-cuda12_8-sm120-avx512;" in text
    assert "# TorchVision 0.25.0, made for torch ==2.10.0\n" in text
    assert "release" not in flox.recipe(variant, TorchSource())


def test_a_release_that_nix_cannot_build_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    variant = parse("torchvision-python313-cpu-avx2")
    with pytest.raises(BadInput, match="is not in the table of releases"):
        flox.recipe(variant, TorchSource(), "0.99.0")
    with pytest.raises(BadInput, match=r"is not made for Python 3\.14"):
        flox.recipe(parse("torchvision-python314-cpu-avx2"), TorchSource(), "0.21.0")
    with pytest.raises(BadInput, match="free-threaded"):
        flox.recipe(parse("torchvision-python314t-cpu-avx2"), TorchSource())
    row = replace(releases()["0.25.0"], sha256=None)
    monkeypatch.setattr(flox, "find_release", lambda _: row)
    with pytest.raises(BadInput, match="no sha256 of its source is recorded"):
        flox.recipe(variant, TorchSource(), "0.25.0")


@pytest.mark.parametrize(("source", "series"), [("recipe", "2"), ("catalog", "212"), ("nixpkgs", "2.12")])
def test_a_series_that_is_none_or_of_no_use_is_refused(source: str, series: str) -> None:
    with pytest.raises(BadInput, match="--torch-series"):
        TorchSource.of(source, "acme" if source == "catalog" else None, series=series)


def test_a_series_that_the_release_does_not_belong_to_is_refused() -> None:
    variant = parse("torchvision-python313-cpu-avx2")
    of = partial(TorchSource.of, "catalog", "acme")
    with pytest.raises(BadInput, match=r"TorchVision 0\.25\.0 belongs to torch 2\.10\.") as caught:
        flox.recipe(variant, of(series="2.12"), "0.25.0")
    assert caught.value.hint == "Give --torch-series 2.10, or another release."
    assert "pytorch210-" in flox.recipe(variant, of(series="2.10"), "0.25.0")
    stable = next(known for known in releases().values() if known.stable_abi)
    with pytest.raises(BadInput, match=r"belongs to torch 2\.14 or newer\."):
        flox.recipe(variant, of(series="2.13"), stable.torchvision)
    for series in ("2.14", "2.15"):
        assert flox.recipe(variant, of(series=series), stable.torchvision)


def test_the_features_of_a_builder_are_what_the_flags_say() -> None:
    """A CPU of every level below lacks one of them, which is what they are asked for."""
    features = {isa.name: set(nix.system_features(isa)) for isa in isas().values()}
    assert features["avx512bf16"] == {"gccarch-x86-64-v4", "avx512vnni", "avx512bf16"}
    assert features["armv8_2"] == {"gccarch-armv8.2-a", "fp16"}
    for isa in isas().values():
        if isa.contains:
            assert features[isa.name] - features[isa.contains]


@pytest.mark.parametrize(
    ("source", "org", "unchecked"),
    [
        ("wheel", None, False),
        ("catalog", None, False),
        ("recipe", "acme", False),
        ("catalog", "a.b; x", False),
        ("nixpkgs", None, True),
    ],
)
def test_a_source_that_cannot_be_is_refused(source: str, org: str | None, unchecked: bool) -> None:
    with pytest.raises(BadInput):
        TorchSource.of(source, org, unchecked=unchecked)


def test_the_data_for_nix_says_what_the_tables_say() -> None:
    data = json.loads(json.dumps(nix.matrix()))
    assert data["default"] == NAMES
    for variant in every_variant():
        codegen, row = cuda_codegen(variant), data["tracks"][variant.track]
        assert row["cuda"] == variant.cuda
        assert data["isas"][variant.isa]["flags"] == list(variant.isa_facts.flags)
        if codegen is not None:
            assert row["sms"][variant.sm]["archList"] == codegen.arch_list
            assert row["sms"][variant.sm]["gencode"] == list(codegen.gencode)


def test_nothing_of_the_default_matrix_is_broken_in_nixpkgs_and_what_is_says_why() -> None:
    """Trap 4: a recipe whose toolkit or package set cannot build it is marked so, with the reason."""
    reasons = {str(variant): reason for variant in every_variant() if (reason := nix.why_broken(variant))}
    assert not reasons.keys() & set(NAMES)
    for sm in ("sm110", "sm87"):
        assert "aarch64-linux only" in reasons[f"torchvision-python313-cuda13_0-{sm}-avx2"]
        assert f"torchvision-python313-cuda13_0-{sm}-armv9" not in reasons


@pytest.mark.parametrize(
    ("row", "said"),
    [(None, "no row"), ({"first": "13.0"}, "from CUDA 13.0"), ({"first": "11.8", "last": "12.4"}, "up to CUDA 12.4")],
)
def test_what_nixpkgs_does_not_accept_is_broken(
    row: dict[str, str] | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from build_torchvision.facts.nixpkgs import Bounds

    rows = {"sm90": Bounds(**row)} if row else {}  # type: ignore[arg-type]  # a row of the table, as TOML gives it
    monkeypatch.setattr(nix, "nixpkgs_bounds", lambda: rows)
    assert said in str(nix.why_broken(parse("torchvision-python313-cuda12_8-sm90-avx2")))


def test_every_sm_has_its_row_of_nixpkgs_bounds_and_the_companion_a_whole_pin() -> None:
    unknown_to_nixpkgs = {"sm88", "sm107"}  # for no product yet: their variants are marked broken there
    assert nixpkgs_bounds().keys() == gpus().keys() - unknown_to_nixpkgs
    pin = build_pytorch()
    assert re.fullmatch(r"[0-9a-f]{40}", pin.rev)
    assert pin.rev in pin.url
    assert re.fullmatch(r"sha256-[A-Za-z0-9+/]{43}=", pin.sha256)


def test_every_address_that_nix_fetches_has_its_hash_beside_it() -> None:
    """Trap 10: fetchTarball without a hash is no pin, and pure evaluation refuses it."""
    found = 0
    for path in [*ROOT.glob("*.nix"), *ROOT.glob("nix/*.nix"), *ROOT.glob(".flox/pkgs/*.nix")]:
        for call in re.findall(
            r"fetch(?:Tarball|url|git)\b[^;{]*(\{[^}]*\}|\S+)", re.sub("#.*", "", path.read_text("utf-8"))
        ):
            found += 1
            assert re.search(r"sha256|hash", call), f"{path.name} fetches {call} without a hash"
    assert found == 3


def test_the_libraries_that_nix_fetches_are_those_of_pyproject() -> None:
    needed = {
        requirement.name: requirement.specifier
        for text in tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
        for requirement in [Requirement(text)]
    }
    pins = re.findall(r'pname = "(\w+)";\s+version = "([^"]+)"', (ROOT / "nix/verify.nix").read_text("utf-8"))
    assert len(pins) == 3
    for name, version in pins:
        assert needed[name.replace("_", "-")].contains(version, prereleases=True)


def test_the_static_proof_as_a_derivation_has_every_library_that_it_loads() -> None:
    """What `python -m build_torchvision.verify` imports of this project's dependencies, nix/verify.nix gives it."""
    code = (
        "import sys, build_torchvision.verify.__main__, importlib.metadata as m; found = m.packages_distributions();"
        "print(*{d.lower().replace('_', '-') for n in list(sys.modules) for d in found.get(n.split('.')[0], [])})"
    )
    loaded = set(run([sys.executable, "-c", code], action="importing the proof").stdout.split())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    own = {Requirement(text).name for text in project["dependencies"]} - {
        "setuptools"
    }  # only that of an editable install
    text = (ROOT / "nix/verify.nix").read_text("utf-8")
    given = set(re.findall(r"ps\.([\w-]+)", text)) | {
        name.replace("_", "-") for name in re.findall(r'pname = "(\w+)"', text)
    }
    assert {"msgspec", "pyelftools", "iced-x86"} <= loaded
    assert (loaded & own) - given == set()
    # The package set of the integration tests has the same, from the host.
    host = (ROOT / "tests/integration/nix/nixpkgs/python.nix").read_text("utf-8")
    assert set(re.findall(r"ps\.([\w-]+)", text)) <= set(re.findall(r"(\S+) = ofHost", host))


# --- the manifest, by Flox's published schema of version 1 manifests (additional properties are errors there) ---------

TEXT, FLAG, WORDS = str, bool, list
PACKAGE = {"pkg-path": TEXT, "pkg-group": TEXT, "priority": int, "version": TEXT, "systems": WORDS}
SCHEMA: dict[str, Any] = {
    "version": int,
    "install": {"*": PACKAGE},
    "vars": {"*": TEXT},
    "hook": {"on-activate": TEXT},
    "profile": {"common": TEXT, "bash": TEXT, "zsh": TEXT, "fish": TEXT, "tcsh": TEXT},
    "services": {"*": dict},
    "include": {"environments": WORDS},
    "build": {"*": dict},
    "containerize": {"config": dict},
    "options": {
        "systems": WORDS,
        "activate": {"mode": TEXT},
        "allow": {"unfree": FLAG, "broken": FLAG, "licenses": WORDS},
        "semver": {"allow-pre-releases": FLAG},
        "cuda-detection": FLAG,
    },
}


def faults(value: Any, schema: Any, where: str = "manifest") -> list[str]:
    if isinstance(schema, type):
        return [] if isinstance(value, schema) else [f"{where} is no {schema.__name__}"]
    if not isinstance(value, dict):
        return [f"{where} is no table"]
    found = []
    for key, inner in value.items():
        rule = schema.get(key, schema.get("*"))
        found += [f"{where}.{key} is not known"] if rule is None else faults(inner, rule, f"{where}.{key}")
    return found


def manifest() -> dict[str, Any]:
    return tomllib.loads((ROOT / ".flox/env/manifest.toml").read_text("utf-8"))


def test_the_manifest_is_one_that_flox_reads() -> None:
    data = manifest()
    assert faults(data, SCHEMA) == []
    assert data["version"] == 1
    assert all("pkg-path" in package for package in data["install"].values())
    assert data["options"]["systems"] == ["x86_64-linux", "aarch64-linux"]
    assert json.loads((ROOT / ".flox/env.json").read_text("utf-8")) == {"name": "build-torchvision", "version": 1}


@pytest.mark.parametrize(
    "plant",
    [
        lambda data: data["install"].update(x={"path": "hello"}),
        lambda data: data.update(packages={}),
        lambda data: data["hook"].update({"on_activate": "true"}),
        lambda data: data["options"].update(systems="x86_64-linux"),
        lambda data: data.update(version="1"),
    ],
)
def test_a_key_that_flox_does_not_know_is_seen(plant: Any) -> None:
    data = manifest()
    plant(data)
    assert faults(data, SCHEMA)


def test_activation_puts_the_command_on_the_path() -> None:
    data = manifest()
    assert "--editable" in data["hook"]["on-activate"]
    assert all(".venv/bin/activate" in data["profile"][shell] for shell in ("bash", "zsh", "fish"))

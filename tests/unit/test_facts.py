"""The tables agree with themselves, with archspec and with the compilers they speak of."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import archspec.cpu
import pytest

from build_torchvision import facts
from build_torchvision.compatibility import isa_runs_on, toolkit_support
from build_torchvision.errors import BadInput
from build_torchvision.facts import FactError, gpus, isas, releases, toolkits, version_key
from build_torchvision.facts.actions import actions
from build_torchvision.facts.cuda_wheels import cuda_wheels
from build_torchvision.facts.evidence import evidence
from build_torchvision.facts.libraries import libraries
from build_torchvision.facts.nixpkgs import build_pytorch, cuda_legacy, nixpkgs_bounds
from build_torchvision.facts.processors import processors
from build_torchvision.inputs.programs import pinned_clang
from build_torchvision.process import run
from build_torchvision.releases import release_named

LOADERS: dict[str, Callable[[], Mapping[str, Any]]] = {
    "gpus": gpus,
    "isas": isas,
    "toolkits": toolkits,
    "releases": releases,
}


def clear() -> None:
    for loader in (gpus, isas, toolkits, releases):
        loader.cache_clear()


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the tables that a test may spoil and the loaders then read."""
    for table in LOADERS:
        shutil.copy(Path(facts.__file__).with_name(f"{table}.toml"), tmp_path)
    monkeypatch.setattr("importlib.resources.files", lambda _package: tmp_path)
    clear()
    yield tmp_path
    clear()


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) >= 1, f"{old!r} is not in {path.name}"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize(
    ("table", "load", "old", "new", "complaint"),
    [
        ("actions", actions, 'commit = "de', 'commit = "v6', "`commit`"),
        ("cuda_wheels", cuda_wheels, 'records.aarch64 = "', 'records.sparc = "', "`records`"),
        ("cuda_wheels", cuda_wheels, 'keep = ["include"]', "keep = []", "`keep`"),
        ("evidence", evidence, 'column = "run"', 'column = "ran"', "`column`"),
        ("libraries", libraries, 'licence = "', 'license = "', "`licence` is missing"),
        ("nixpkgs", nixpkgs_bounds, 'first = "10.0"', 'frist = "10.0"', "`first` is missing"),
        ("nixpkgs", build_pytorch, 'rev = "67', 'rev = "main', "`rev`"),
        ("nixpkgs", cuda_legacy, 'overlay = "overlays"', 'overlay = ""', "`overlay`"),
        ("processors", processors, 'archspec = "', 'arch = "', "`archspec` is missing"),
    ],
)
def test_the_other_tables_are_checked_alike(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    table: str,
    load: Any,
    old: str,
    new: str,
    complaint: str,
) -> None:
    shutil.copy(Path(facts.__file__).with_name(f"{table}.toml"), tmp_path)
    monkeypatch.setattr("importlib.resources.files", lambda _package: tmp_path)
    load.cache_clear()
    try:
        assert load()
        change(tmp_path / f"{table}.toml", old, new)
        load.cache_clear()
        with pytest.raises(FactError, match=complaint) as caught:
            load()
        assert f"{table}.toml [" in str(caught.value)
    finally:
        load.cache_clear()


def test_one_loader_reads_every_table() -> None:
    folder = Path(facts.__file__).parent
    readers = {path.name for path in folder.glob("*.py") if "tomllib" in path.read_text(encoding="utf-8")}
    assert readers == {"_schema.py"}
    named = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    unread = [path.stem for path in folder.glob("*.toml") if f'rows("{path.stem}")' not in named]
    assert unread == []


@pytest.mark.parametrize("table", LOADERS)
def test_every_row_names_its_source(table: str) -> None:
    rows = LOADERS[table]()
    assert rows
    assert all(len(row.source) > 10 for row in rows.values())


def test_an_untouched_copy_of_the_tables_loads(tables: Path) -> None:
    assert [len(loader()) for loader in LOADERS.values()] == [16, 6, 6, 16]


@pytest.mark.parametrize(
    ("table", "old", "new", "complaint"),
    [
        ("gpus", 'source = "', 'sauce = "', "`source` is missing"),
        ("gpus", "[sm61]", "[sm61]\ncolour = 'green'", "unknown field"),
        ("gpus", 'capability = "6.1"', 'capability = "6.2"', "belongs to another SM"),
        ("gpus", 'capability = "6.1"', "capability = 6.1", "must be str"),
        ("gpus", 'soc_isa = "armv8_2"', 'soc_isa = "avx2"', "soc_isa"),
        ("gpus", 'hosts = ["x86_64"]', 'hosts = ["sparc"]', "`hosts`"),
        ("gpus", 'hosts = ["x86_64"]', "hosts = []", "`hosts`"),
        ("isas", 'contains = "avx2"', 'contains = "sse9"', "no row above"),
        ("isas", 'contains = "armv8_2"', 'contains = "avx2"', "another platform"),
        ("isas", "-march=x86-64-v3", "x86-64-v3", "`flags`"),
        ("toolkits", 'version = "12.4"', 'version = "12.5"', "belongs to another track"),
        ("toolkits", 'torch_local = "cu124"', 'torch_local = "cu125"', "belongs to another version"),
        ("toolkits", '"sm90"]', '"sm90", "sm99"]', "no row in gpus.toml"),
        ("toolkits", 'sm110 = "sm100"', 'sm110 = "sm103"', "needs a native"),
        ("toolkits", 'sm110 = "sm100"', 'sm110 = "sm120"', "does not run on the older"),
        ("releases", 'sha256 = "0a', 'sha256 = "xx', "`sha256`"),
        ("releases", "sha256_sources = 2", "", "`sha256_sources`"),
        ("releases", "sha256_sources = 2", "sha256_sources = true", "must be int"),
        ("releases", 'pythons = ["310",', 'pythons = ["3.10",', "`pythons`"),
        ("releases", '"==2.6.0"', '">=2.6.0"', "needs `stable_abi`"),
        ("releases", "ops = 755", "oops = 755", "`upstream_tests`"),
        ("releases", "ops = 755", "ops = 0", "`upstream_tests`"),
        ("toolkits", 'version = "12.4"', 'version = "12.4.1"', "`version`"),
        ("releases", '"==2.6.0"', '"==2.7.0"', "is not the one"),
        ("releases", "stable_abi = true", 'stable_abi = "yes"', "must be bool"),
    ],
)
def test_a_spoiled_table_is_refused(tables: Path, table: str, old: str, new: str, complaint: str) -> None:
    change(tables / f"{table}.toml", old, new)
    with pytest.raises(FactError, match=complaint) as caught:
        LOADERS[table]()
    assert f"{table}.toml [" in str(caught.value)


def test_a_toolkit_may_have_a_minor_version_of_two_digits(tables: Path) -> None:
    with (tables / "toolkits.toml").open("a") as out:
        out.write(
            '[cuda13_10]\nversion = "13.10"\nnative = ["sm90"]\nptx_isa = "9.9"\n'
            'newest_gcc = 16\ntorch_local = "cu1310"\n'
        )
        out.write('driver = "580"\nptx_driver = "610"\nsource = "an example"\n')
    assert list(toolkits())[-1] == "cuda13_10"


def test_a_new_gpu_and_a_new_release_are_one_row_each(tables: Path) -> None:
    with (tables / "gpus.toml").open("a") as out:
        out.write('[sm108]\ncapability = "10.8"\narchitecture = "A"\n')
        out.write('products = ["P"]\nnames = ["P"]\nhosts = ["x86_64"]\nclang = "23"\nsource = "S"\n')
    with (tables / "releases.toml").open("a") as out:
        out.write('["0.30.0"]\ntorch = "2.15.0"\ntorch_requirement = ">=2.15.0"\ncuda = "13.0"\n')
        out.write('pythons = ["314"]\nextensions = ["_C_stable"]\nstable_abi = true\ncxx_standard = 20\nsource = "S"\n')
    order = list(gpus())
    assert order.index("sm107") + 1 == order.index("sm108") == order.index("sm110") - 1
    assert release_named("0.30.0").torch == "2.15.0"
    # A higher minor takes the newest older cubin of its major, by the rule alone: no toolkit's row mentions it.
    assert toolkit_support("cuda12_9", "sm108") == ("compatible", "sm103")
    assert toolkit_support("cuda12_8", "sm108") == ("compatible", "sm100")
    assert toolkit_support("cuda12_4", "sm108") is None


def test_the_rows_that_recipe_template_shows_are_complete(tables: Path) -> None:
    """Each row of the document by itself; that all of them together regenerate everything is an integration test."""
    document = (Path(__file__).parents[2] / "RECIPE_TEMPLATE.md").read_text()
    shown = re.findall(r"cat >> src/build_torchvision/facts/(\w+)\.toml <<'ROW'\n(.*?)\nROW\n", document, re.DOTALL)
    assert sorted(table for table, _ in shown) == sorted(LOADERS)
    for table, row in shown:
        with (tables / f"{table}.toml").open("a") as out:
            out.write(row + "\n")
    for table, load in LOADERS.items():
        assert len(load()) == (tables / f"{table}.toml").read_text().count("\n[")


def test_rows_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        gpus()["sm80"] = gpus()["sm90"]  # type: ignore[index]  # that it is refused is the point
    with pytest.raises(AttributeError):
        gpus()["sm80"].sm = "sm81"  # type: ignore[misc]  # that it is refused is the point


def test_gpus_stand_by_rising_capability() -> None:
    capabilities = [version_key(gpu.capability) for gpu in gpus().values()]
    assert capabilities == sorted(capabilities)
    assert {gpu.sm for gpu in gpus().values() if gpu.core} < set(gpus())
    assert len(gpus()) == 16


@pytest.mark.parametrize(
    ("product", "sm", "architecture"),
    [
        ("L40S", "sm89", "Ada Lovelace"),
        ("Jetson Orin", "sm87", "Ampere (Orin)"),
        ("RTX 5090", "sm120", "Blackwell (GeForce/RTX PRO)"),
        ("H200", "sm90", "Hopper"),
        ("DGX Spark", "sm121", "GB10"),
    ],
)
def test_products_that_published_matrices_misplace_stand_where_they_belong(
    product: str, sm: str, architecture: str
) -> None:
    assert [gpu.sm for gpu in gpus().values() if product in gpu.products] == [sm]
    assert gpus()[sm].architecture == architecture


def test_toolkits_know_the_sms_that_their_release_notes_list() -> None:
    shared = {"sm75", "sm80", "sm86", "sm87", "sm89", "sm90"}
    old, blackwell = {"sm60", "sm61", "sm70"}, {"sm100", "sm120"}
    newest = shared | blackwell | {"sm88", "sm103", "sm110", "sm121"}
    assert {track: set(toolkit.native) for track, toolkit in toolkits().items()} == {
        "cuda12_4": shared | old,
        "cuda12_6": shared | old,
        "cuda12_8": shared | old | blackwell,
        "cuda12_9": shared | old | blackwell | {"sm103", "sm121"},
        "cuda13_0": newest,
        "cuda13_2": newest,
    }


def test_each_x86_isa_contains_the_one_before() -> None:
    levels = ["avx2", "avx512", "avx512vnni", "avx512bf16"]
    for index, built in enumerate(levels):
        for position, cpu in enumerate(levels):
            assert isa_runs_on(built, cpu) == (index <= position)
            assert (set(isas()[built].features) <= set(isas()[cpu].features)) == (index <= position)
        assert not isa_runs_on(built, "armv9")
        assert not isa_runs_on("armv8_2", built)
    assert isa_runs_on("armv8_2", "armv9")
    assert not isa_runs_on("armv9", "armv8_2")


@pytest.mark.parametrize(
    ("cpu", "best"),
    [
        ("x86_64_v3", "avx2"),
        ("haswell", "avx2"),
        ("zen", "avx2"),
        ("zen3", "avx2"),
        ("x86_64_v4", "avx512"),
        ("mic_knl", "avx2"),  # Knights Landing has AVX-512F without BW, DQ and VL
        ("skylake_avx512", "avx512"),
        ("cascadelake", "avx512vnni"),
        ("icelake", "avx512vnni"),
        ("zen4", "avx512bf16"),
        ("sapphirerapids", "avx512bf16"),
        ("ivybridge", None),
        ("cortex_a72", None),
        ("neoverse_n1", "armv8_2"),  # Graviton2
        ("neoverse_v1", "armv8_2"),  # Graviton3: SVE, no SVE2
        ("neoverse_v2", "armv9"),  # Graviton4, Grace
        ("neoverse_v3ae", "armv9"),  # Thor
    ],
)
def test_archspec_places_known_cpus_where_the_table_does(cpu: str, best: str | None) -> None:
    target = archspec.cpu.TARGETS[cpu]
    platform = target.family.name
    able = [isa.name for isa in isas().values() if isa.platform == platform and target.features >= set(isa.features)]
    assert (able[-1] if able else None) == best


@pytest.mark.parametrize(("isa", "level"), [("avx2", "x86_64_v3"), ("avx512", "x86_64_v4")])
def test_features_of_an_isa_are_exactly_those_of_its_x86_64_level(isa: str, level: str) -> None:
    lower = archspec.cpu.TARGETS["x86_64_v2"].features
    # archspec counts XSAVE, which the operating system needs and no compiler emits, to the third level.
    assert set(isas()[isa].features) == set(archspec.cpu.TARGETS[level].features) - lower - {"xsave"}


def test_releases_are_the_published_pairs() -> None:
    pairs = {row.torchvision: row.torch_requirement for row in releases().values()}
    assert pairs["0.21.0"] == "==2.6.0"
    assert pairs["0.29.0"] == "==2.14.0"
    assert pairs["0.29.1"] == pairs["0.29.2"] == ">=2.14.0"
    assert [row.torchvision for row in releases().values() if row.stable_abi] == ["0.29.0", "0.29.1", "0.29.2"]
    assert [row.torchvision for row in releases().values() if row.sha256 is None] == ["0.29.2"]
    assert [row.torchvision for row in releases().values() if row.sha256_sources == 1] == ["0.20.0"]
    assert len({row.sha256 for row in releases().values()}) == len(releases())


def test_a_release_has_the_cuda_of_its_torch_in_the_package_registry() -> None:
    tracks = {row.torchvision: (row.cuda, row.cuda_aarch64) for row in releases().values()}
    assert tracks["0.21.0"] == ("12.4", None)
    assert tracks["0.22.1"] == ("12.6", None)
    assert tracks["0.25.0"] == ("12.8", None)
    assert tracks["0.26.0"] == tracks["0.29.1"] == ("13.0", "13.0")
    assert tracks["0.29.2"] == ("13.2", "13.2")


def test_the_stable_extensions_and_the_newer_c_plus_plus_begin_where_upstream_began_with_them() -> None:
    rows = releases().values()
    assert [row.torchvision for row in rows if row.extensions == ("_C_stable", "image_stable")] == [
        "0.29.0",
        "0.29.1",
        "0.29.2",
    ]
    assert {row.extensions for row in rows} == {("_C", "image"), ("_C_stable", "image_stable")}
    assert {row.torchvision for row in rows if row.cxx_standard == 17} == {
        row.torchvision for row in rows if version_key(row.torch) < (2, 12)
    }


def test_releases_serve_the_pythons_that_their_wheels_do() -> None:
    assert release_named("0.21.0").pythons == ("310", "311", "312", "313")
    assert release_named("0.20.1").pythons == ("310", "311", "312")
    assert release_named("0.23.0").pythons == ("310", "311", "312", "313", "313t")
    assert release_named("0.24.1").pythons == ("310", "311", "312", "313", "313t", "314", "314t")
    assert release_named("0.29.1").pythons == ("310", "311", "312", "313", "314", "314t")
    assert release_named("0.29.2").pythons == ("311", "312", "313", "314", "314t", "315", "315t")
    assert [row.torchvision for row in releases().values() if row.any_python] == ["0.29.2"]


def test_an_unknown_release_gets_the_nearest() -> None:
    for asked in ("0.21", "0.21.1", "0.21.0+cpu"):
        with pytest.raises(BadInput, match=r"Did you mean 0\.21\.0"):
            release_named(asked)
    with pytest.raises(BadInput, match=r"Known: 0\.20\.0, "):
        release_named("")


# What each feature is called by the compilers that must turn it on.
GCC_OPTIONS = {"abm": "lzcnt", "bmi1": "bmi", "avx512_vnni": "avx512vnni", "avx512_bf16": "avx512bf16"}
ARM_MACROS = {
    "asimd": "__ARM_NEON",
    "fp": "__ARM_FP",
    "asimdhp": "__ARM_FEATURE_FP16_VECTOR_ARITHMETIC",
    "fphp": "__ARM_FEATURE_FP16_SCALAR_ARITHMETIC",
    "asimdrdm": "__ARM_FEATURE_QRDMX",
    "atomics": "__ARM_FEATURE_ATOMICS",
    "crc32": "__ARM_FEATURE_CRC32",
    "asimddp": "__ARM_FEATURE_DOTPROD",
    "fcma": "__ARM_FEATURE_COMPLEX",
    "frint": "__ARM_FEATURE_FRINT",
    "jscvt": "__ARM_FEATURE_JCVT",
    "lrcpc": "__ARM_FEATURE_RCPC",
    "ilrcpc": "__ARM_FEATURE_RCPC",
    "sve": "__ARM_FEATURE_SVE",
    "sve2": "__ARM_FEATURE_SVE2",
}
ARM_WITHOUT_MACRO = {"flagm", "flagm2", "sb"}


@pytest.mark.compiler
@pytest.mark.parametrize("name", [isa.name for isa in isas().values() if isa.platform == "x86_64"])
def test_gcc_turns_on_exactly_the_features_of_the_table(name: str) -> None:
    """Proves on the system's g++ that the flags of an x86 ISA mean what the table says: no feature less, none more."""
    text = run(["g++", *isas()[name].flags, "-Q", "--help=target"], action=f"features of {name}").stdout
    enabled = {match[1] for match in re.finditer(r"^\s+-m(\S+)\s+\[enabled\]", text, re.MULTILINE)}
    everything = {feature for isa in isas().values() if isa.platform == "x86_64" for feature in isa.features}
    on = {feature for feature in everything if GCC_OPTIONS.get(feature, feature) in enabled}
    assert on == set(isas()[name].features)
    assert {option for option in enabled if option.startswith("avx")} == {
        GCC_OPTIONS.get(feature, feature) for feature in isas()[name].features if "avx" in feature
    }


@pytest.mark.compiler
@pytest.mark.parametrize("name", [isa.name for isa in isas().values() if isa.platform == "aarch64"])
def test_clang_turns_on_exactly_the_features_of_the_table(name: str) -> None:
    """Proves on the clang that builds use, which crosses to aarch64 on any host, what the flags of an Arm ISA mean."""
    command = [str(pinned_clang().zig), "clang", "--target=aarch64-linux-gnu", *isas()[name].flags]
    text = run([*command, "-dM", "-E", "-x", "c", "/dev/null"], action=f"features of {name}").stdout
    macros = {line.split()[1] for line in text.splitlines()}
    on = {feature for feature, macro in ARM_MACROS.items() if macro in macros}
    assert on == set(isas()[name].features) - ARM_WITHOUT_MACRO


def test_every_arm_feature_is_asked_of_a_compiler_or_known_to_have_no_macro() -> None:
    everything = {feature for isa in isas().values() if isa.platform == "aarch64" for feature in isa.features}
    assert everything == ARM_MACROS.keys() | ARM_WITHOUT_MACRO


@pytest.mark.compiler
def test_nvcc_makes_cubins_for_exactly_the_sms_of_its_row() -> None:
    """Proves on the nvcc of this machine that its toolkit's row is true, for all SMs that gpus.toml knows."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("nvcc is not on this machine: no toolkit's row can be asked of it")
    version = re.search(r"release (\d+\.\d+)", run([nvcc, "--version"], action="nvcc's version").stdout)
    assert version is not None
    track = "cuda" + version[1].replace(".", "_")
    if track not in toolkits():
        pytest.skip(f"nvcc here is CUDA {version[1]}, for which there is no track")
    listed = run([nvcc, "--list-gpu-code"], action="nvcc's SMs").stdout.split()
    known = {code.replace("_", "") for code in listed} & gpus().keys()
    assert known == set(toolkits()[track].native)

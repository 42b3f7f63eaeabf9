"""Choosing and checking a wheel of an index. Machines are recorded ones; nothing is installed here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from _machines import record as recorded
from _machines import sources
from _sealed import sealed

from build_torchvision.errors import BadInput, FetchFailed, MissingInput, VerificationFailed
from build_torchvision.install.installer import install
from build_torchvision.install.remote import remote
from build_torchvision.install.select import best, judge
from build_torchvision.machine.environment import InstalledPackage, PythonEnvironment
from build_torchvision.machine.report import Machine, detect
from build_torchvision.publish.admission import admit_all, find_wheels
from build_torchvision.publish.catalogue import Record
from build_torchvision.publish.site import write_site
from build_torchvision.variants import parse


def wheel(name: str, release: str = "0.21.0", **changes: object) -> Record:
    torch = {"0.21.0": "2.6.0", "0.23.0": "2.8.0"}[release]
    variant = parse(f"torchvision-python313-{name}")
    row = Record(
        variant=str(variant),
        version=f"{release}+{name.replace('-', '.')}",
        torchvision=release,
        python="313",
        torch=torch,
        torch_requirement=f"=={torch}",
        torch_cuda=variant.cuda,
        codegen_kind=None,
        file=f"torchvision-{release}+x-cp313-cp313-manylinux_2_28_{variant.platform}.whl",
        url="files/x.whl",
        size=1,
        sha256="0" * 64,
        provenance="files/x.whl.intoto.json",
        sbom="files/x.whl.cdx.json",
        proof_checks=17,
        run_checks=None,
    )
    return replace(row, **changes)  # type: ignore[arg-type]


ALL_ISAS = [wheel(f"cpu-{isa}") for isa in ("avx2", "avx512", "avx512vnni", "avx512bf16", "armv8_2", "armv9")]
CUDA = [
    wheel(f"cuda12_8-{sm}-{isa}", "0.23.0")
    for sm in ("sm80", "sm89", "sm90", "sm120")
    for isa in ("avx2", "avx512bf16")
]


def machine(name: str, torch: str | None = None, cuda: str | None = None, python: str = "313") -> Machine:
    found = InstalledPackage(version=torch, folder=Path("/env/torch"), info=None, cuda=cuda) if torch else None
    path = Path("/env/bin/python")
    return detect(
        sources(recorded(name)),
        PythonEnvironment(python=python, executable=path, paths=(Path("/env"),), torch=found, torchvision=None),
    )


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("haswell", "cpu-avx2"),
        ("zen2", "cpu-avx2"),
        ("graviton3", "cpu-armv8_2"),
        ("graviton4", "cpu-armv9"),
        ("rtx4090", "cuda12_8-sm89-avx2"),
        ("l40s", "cuda12_8-sm89-avx512bf16"),
        ("a100", "cuda12_8-sm80-avx2"),
        ("several-gpus", "cuda12_8-sm120-avx2"),
    ],
)
def test_a_recorded_machine_gets_its_wheel(name: str, variant: str) -> None:
    assert best(machine(name), ALL_ISAS + CUDA, "x")[0].record.parsed.short == variant


def test_without_gpu_code_for_the_machine_the_best_cpu_wheel_is_taken_and_it_says_what_is_lost() -> None:
    found = best(machine("b200"), ALL_ISAS + CUDA, "x")[0]
    assert found.record.parsed.short == "cpu-avx512bf16"
    assert "against torchvision-python313-cuda12_8-sm100-avx512bf16" in found.why
    assert "no GPU code" in found.why


def test_the_torch_that_is_installed_decides_the_release() -> None:
    rows = [wheel("cpu-avx2"), wheel("cpu-avx2", "0.23.0")]
    assert best(machine("haswell"), rows, "x")[0].record.torchvision == "0.23.0"
    assert best(machine("haswell", "2.6.0+cpu"), rows, "x")[0].record.torchvision == "0.21.0"


def test_of_one_variant_the_wheel_beside_its_own_torch_comes_first() -> None:
    versions = ["0.21.0+cpu.avx2.ptx.unpaired", "0.21.0+cpu.avx2.unpaired", "0.21.0+cpu.avx2", "0.21.0+cpu.avx2.ptx"]
    found = best(machine("haswell"), [wheel("cpu-avx2", version=version) for version in versions], "x")
    assert [row.record.version for row in found] == [versions[2], versions[3], versions[1], versions[0]]


def test_a_torch_mismatch_is_refused_with_both_versions() -> None:
    with pytest.raises(MissingInput) as caught:
        best(machine("haswell", "2.7.1+cpu"), [wheel("cpu-avx2")], "x")
    assert "goes with torch==2.6.0, and torch 2.7.1+cpu is installed" in caught.value.problem
    assert "build-torchvision build torchvision-python313-cpu-avx2" in caught.value.hint


def test_a_torch_of_another_cuda_gets_no_cuda_wheel() -> None:
    found = judge(machine("rtx4090", "2.8.0+cu126", "12.6"), CUDA)
    assert not any(row.fits for row in found)
    assert any("built with CUDA 12.6" in row.why for row in found)


def test_none_that_fits_names_the_nearest_and_the_build_command() -> None:
    with pytest.raises(MissingInput) as caught:
        best(machine("haswell"), [row for row in ALL_ISAS if "avx2" not in row.variant], "the index")
    assert "None of its 5 wheels fits here" in caught.value.problem
    assert "lacks avx512" in caught.value.problem
    assert "`build-torchvision build torchvision-python313-cpu-avx2 --torchvision " in caught.value.hint


def test_an_older_glibc_is_refused_by_number() -> None:
    row = wheel("cpu-avx2", file="torchvision-0.21.0+x-cp313-cp313-manylinux_2_40_x86_64.whl")
    (found,) = judge(machine("haswell"), [row])
    assert not found.fits
    assert found.why == "it needs glibc 2.40, and this system has 2.39"


def test_another_python_is_refused() -> None:
    (found,) = judge(machine("haswell", python="312"), [wheel("cpu-avx2")])
    assert "it is for Python 3.13, and the environment has 3.12" in found.why


def test_an_empty_choice_is_refused() -> None:
    with pytest.raises(BadInput, match="no such wheel"):
        best(machine("haswell"), [], "x")


# --- fetching ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path) -> tuple[Path, Record]:
    sealed(tmp_path / "dist")
    (row,) = write_site(admit_all(find_wheels([tmp_path / "dist"])), tmp_path / "site")
    return tmp_path / "site", row


def into_nothing() -> PythonEnvironment:
    return PythonEnvironment(python="313", executable=Path("/none"), paths=(), torch=None, torchvision=None)


def test_a_file_that_is_not_the_indexs_is_refused_before_it_is_opened(site: tuple[Path, Record]) -> None:
    folder, row = site
    path = folder / "files" / row.file
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(VerificationFailed, match="not the file that the index lists"):
        install(remote(str(folder)), row, into_nothing())


def test_an_index_that_lists_another_variants_file_under_a_name_is_refused(site: tuple[Path, Record]) -> None:
    folder, row = site
    with pytest.raises(VerificationFailed, match="Its proof is one of torchvision-python313-cpu-avx512"):
        install(remote(str(folder)), replace(row, variant="torchvision-python313-cpu-avx2"), into_nothing())


def test_an_unsigned_index_is_refused_where_a_key_is_trusted(site: tuple[Path, Record], tmp_path: Path) -> None:
    from test_index import keys

    folder, row = site
    _, public = keys(tmp_path, "maker")
    with pytest.raises(VerificationFailed, match="not signed by"):
        install(remote(str(folder)), row, into_nothing(), trust=public)


def test_an_address_above_the_index_is_not_read(site: tuple[Path, Record]) -> None:
    folder, _ = site
    for address in ("../dist/x.whl", "/etc/passwd", "file:///etc/passwd", "http://elsewhere/x.whl"):
        with pytest.raises(BadInput, match="not below"):
            remote(str(folder)).read(address)
    with pytest.raises(FetchFailed, match="No such file"):
        remote(str(folder)).read("files/absent.whl")


def test_a_file_name_that_leads_out_of_its_folder_is_refused(site: tuple[Path, Record]) -> None:
    folder, row = site
    with pytest.raises(BadInput, match="no plain file name"):
        install(remote(str(folder)), replace(row, file="../../torchvision.whl"), into_nothing())


def test_places_are_addresses_or_folders(tmp_path: Path) -> None:
    assert remote("http://host/a").base == "http://host/a/"
    assert remote("https://host/a/index.html#for=cpu-avx2").base == "https://host/a/"
    assert remote(str(tmp_path)).base == f"file://{tmp_path}/"
    assert remote("http://10.0.0.1:8000/").open_to_others
    assert not any(remote(at).open_to_others for at in ("http://127.0.0.1:1/", "http://localhost/", "https://host/"))
    for wrong in ("/no/such/folder", "ftp://host/"):
        with pytest.raises(BadInput):
            remote(wrong)


# --- wheels for every Python ------------------------------------------------------------------------------------------


def for_any(name: str, requires: str = ">=3.10") -> Record:
    file = f"torchvision-0.21.0+{name.replace('-', '.')}-py3-none-manylinux_2_28_x86_64.whl"
    return wheel(name, file=file, requires_python=requires)


@pytest.mark.parametrize("python", ["310", "311", "313", "314"])
def test_a_wheel_for_every_python_fits_each_that_it_allows(python: str) -> None:
    found = best(machine("haswell", python=python), [for_any("cpu-avx2"), wheel("cpu-avx2")], "x")
    assert found[0].record.any_python or python == "313"
    assert found[0].fits


def test_a_python_that_the_wheel_does_not_allow_is_refused_by_number() -> None:
    (found,) = judge(machine("haswell", python="310"), [for_any("cpu-avx2", ">=3.11")])
    assert not found.fits
    assert "it needs Python >=3.11, and the environment has 3.10" in found.why


def test_the_page_asks_for_no_python_where_every_wheel_is_for_every_one() -> None:
    from build_torchvision.publish.front import front_page, page_data

    rows = [for_any("cpu-avx2"), for_any("cpu-avx512")]
    assert {row["python"] for row in page_data(rows)["wheels"]} == {"any"}
    assert "any, &gt;=3.10" in front_page(rows, signed=False)

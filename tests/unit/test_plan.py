"""What `plan` says of a wheel from the tables and of what the user named, with nothing fetched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from build_torchvision.cli.main import main
from build_torchvision.cli.wheel_options import WheelOptions
from build_torchvision.errors import BadInput
from build_torchvision.inputs.emulator import is_foreign
from build_torchvision.plan_report import describe_plan
from build_torchvision.requests import Wanted, named_variants, requests_for
from build_torchvision.variants import parse


def plan(*names: str, **options: object) -> dict[str, object]:
    exact, _ = named_variants(names)
    wanted = Wanted(exact=exact, **options)  # type: ignore[arg-type]  # Wanted's own fields
    (request,) = requests_for(wanted, available=lambda release: True).requests
    return describe_plan(request, request.variants[0])


@pytest.mark.parametrize(
    ("torch", "version"),
    [(None, "2.14.0"), ("2.15.0", "2.15.0"), ("torch-2.14.1-cp313-cp313-manylinux_2_28_x86_64.whl", "2.14.1")],
)
def test_the_torch_is_the_one_that_was_named(torch: str | None, version: str) -> None:
    assert plan("cpu-avx2", torch=torch)["torch"] == version


def test_the_torch_of_a_folder_is_read_from_it(tmp_path: Path) -> None:
    package = tmp_path / "torch"
    for folder in ("include", "lib"):
        (package / folder).mkdir(parents=True)
    (package / "version.py").write_text("__version__ = '2.15.0+cu132'\ncuda = '13.2'\n", encoding="utf-8")
    for library in ("libc10.so", "libtorch.so", "libtorch_cpu.so"):
        (package / "lib" / library).touch()
    assert plan("cpu-avx2", torch=str(tmp_path))["torch"] == "2.15.0"


def test_gpu_code_is_told_as_the_compiler_is_asked_for_it() -> None:
    assert plan("cuda12_4-sm60-avx2")["gencode"] == ["arch=compute_60,code=sm_60"]
    assert plan("cuda12_4-sm88-avx2")["gencode"] == ["arch=compute_86,code=sm_86"]
    assert plan("cpu-avx2")["gencode"] == []


def test_a_source_that_is_named_stands_in_place_of_the_pinned_one(tmp_path: Path) -> None:
    (tmp_path / "version.txt").write_text("0.29.2\n", encoding="utf-8")
    row = plan("cuda13_2-sm90-avx2", source=tmp_path)
    assert (row["torchvision"], row["torch"], row["source"]) == ("0.29.2", "2.15.0", str(tmp_path))
    assert row["source_sha256"] is None
    assert plan("cuda13_0-sm90-avx2")["source_sha256"]


def test_a_source_of_another_release_is_refused(tmp_path: Path) -> None:
    (tmp_path / "version.txt").write_text("0.28.0a0+5e1f2a3\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"version\.txt says 0\.28\.0a0\..*--torchvision 0\.28\.0"):
        plan("cpu-avx2", source=tmp_path, torchvision="0.29.1")
    assert plan("cpu-avx2", source=tmp_path, torchvision="0.28.0")["torch"] == "2.13.0"
    nightly = plan("cpu-avx2", source=tmp_path, torch="2.13.0.dev20260401")
    assert (nightly["torchvision"], nightly["torch"]) == ("0.28.0a0", "2.13.0.dev20260401")


def test_a_release_without_a_pinned_source_is_refused_with_what_goes_in_its_place() -> None:
    for options in ({"torchvision": "0.29.2"}, {}):
        with pytest.raises(BadInput, match=r"No sha256 is pinned.*--source DIR\|TARBALL.*--torchvision 0\.29\.1"):
            plan("cuda13_2-sm90-avx2", **options)
    assert plan("cuda13_2-sm90-avx2", torchvision="0.29.1")["torch"] == "2.15.0"


def test_operators_that_are_ours_are_named_of_the_cpu_and_of_the_gpu() -> None:
    cuda, cpu, old = plan("cuda13_0-sm90-avx2"), plan("cpu-avx2"), plan("cpu-avx2", torchvision="0.21.0")
    assert cuda["tuned_gpu_operators"] == ["torchvision::nms"]
    assert cpu["tuned_gpu_operators"] == []
    assert "torchvision::qnms" in cpu["tuned_operators"]  # type: ignore[operator]  # a list
    assert "torchvision::qnms" not in old["tuned_operators"]  # type: ignore[operator]


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    """What `plan --json` prints of one variant."""
    with pytest.raises(SystemExit) as ended:
        main(["plan", "--json", *words])
    assert ended.value.code == 0
    (row,) = json.loads(capsys.readouterr().out)
    return dict(row)


@pytest.mark.parametrize(
    ("words", "wheel"),
    [
        (["--glibc", "2.34"], "torchvision-0.28.0+cpu.avx512-cp313-cp313-manylinux_2_34_x86_64.whl"),
        (["--python", "any"], "torchvision-0.28.0+cpu.avx512-py3-none-manylinux_2_28_x86_64.whl"),
        (["--python", "3.12"], "torchvision-0.28.0+cpu.avx512-cp312-cp312-manylinux_2_28_x86_64.whl"),
        (["--variant-label"], "torchvision-0.28.0-cp313-cp313-manylinux_2_28_x86_64-avx512.whl"),
        (["--codecs", "system"], "torchvision-0.28.0+cpu.avx512-cp313-cp313-manylinux_*_x86_64.whl"),
    ],
)
def test_every_option_that_shapes_a_wheel_is_one_of_plan_too(
    words: list[str], wheel: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert planned(capsys, "cpu-avx512", "--torchvision", "0.28.0", *words)["wheel"] == wheel


def test_plan_tells_whose_operators_the_wheel_has(capsys: pytest.CaptureFixture[str]) -> None:
    assert planned(capsys, "cpu-avx512", "--operators", "upstream", "--no-tuning")["tuned_operators"] == []
    assert "nms" in str(planned(capsys, "cpu-avx512")["tuned_operators"])


@pytest.mark.parametrize("command", ["plan", "prepare", "build"])
def test_a_name_and_auto_exclude_each_other(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--auto", "cpu-avx2"])
    assert ended.value.code == BadInput.exit_code
    assert f"{command} --auto" in capsys.readouterr().err


def test_plan_chooses_the_variant_as_build_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert planned(capsys, "--auto")["variant"] == str(WheelOptions().best_variant(lambda release: True))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--glibc", "2.17"], '"2.28", "2.34", "host"'),
        (["--compiler", "icc"], '"auto", "clang", "gcc"'),
        (["--cuda-compiler", "nvc"], '"auto", "clang", "nvcc"'),
        (["--without", "jpg"], '"jpeg", "png", "webp"'),
        (["--cuda", "missing"], "Use the CUDA toolkit in missing"),
        (["--cuda", "."], "It holds no include/cuda.h"),
    ],
)
def test_plan_refuses_what_build_would(
    words: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["plan", "cuda13_0-sm90-avx2", *words])
    said = capsys.readouterr()
    assert ended.value.code == BadInput.exit_code
    assert told in " ".join((said.out + said.err).split())


@pytest.mark.parametrize("options", [{}, {"torchvision": "0.25.0"}, {"torch": "2.10.0"}])
def test_a_torch_without_code_for_the_gpu_is_in_the_wheels_name(options: dict[str, object]) -> None:
    row = plan("cuda12_8-sm110-avx2", allow_unpaired=True, **options)
    assert str(row["wheel"]).startswith("torchvision-0.25.0+cu128.sm110.avx2.unpaired-")
    assert "unpaired" not in str(plan("cuda12_8-sm120-avx2", allow_unpaired=True, **options)["wheel"])
    with pytest.raises(BadInput, match=r"The published torch 2\.10\.0 has no code for sm110"):
        plan("cuda12_8-sm110-avx2", **options)


def test_nvcc_for_another_platform_is_refused() -> None:
    for isa in ("avx2", "armv9"):
        variant = parse(f"torchvision-python313-cuda13_0-sm90-{isa}")
        if is_foreign(variant.platform):
            with pytest.raises(BadInput, match=r"only clang crosses to .*--cuda-compiler clang"):
                plan(str(variant), options={"cuda_compiler": "nvcc"})
        else:
            assert plan(str(variant), options={"cuda_compiler": "nvcc"})["glibc"] == "host"


def test_what_a_pattern_leaves_out_of_one_python_is_named_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["plan", "cpu-avx{2,512}", "--python", "310,315"])
    said = capsys.readouterr().err
    assert "left out: torchvision-python315-cpu-avx2, torchvision-python315-cpu-avx512: No sha256 is pinned" in said
    with pytest.raises(SystemExit):
        main(["plan", "cuda12_8-sm1[12]0-avx2"])
    assert "left out: cuda12_8-sm110-avx2: The published torch 2.10.0 has no code" in capsys.readouterr().err

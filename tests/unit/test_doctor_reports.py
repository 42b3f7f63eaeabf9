"""Environments as people report them: each gets the right name, cause and command, or the word that nothing helps."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from _elf import Object, fatbin
from _environments import CUDA, INDEX, NEW, OP, RET_ARM, Site
from _examined import Examined, cuda_pair, no_gpu_code

from build_torchvision.doctor import causes
from build_torchvision.doctor.diagnose import running

REPLACE = "--force-reinstall --no-deps"
NO_KERNEL = "Could not run 'torchvision::nms' with arguments from the 'CUDA' backend"


# --- a TorchVision without GPU code beside a CUDA torch ---------------------------------------------------------------


def test_no_gpu_code_where_a_gpu_is_visible_takes_the_published_wheel_on_x86(tmp_path: Path) -> None:
    """vision 9330, ultralytics 22069, conda 14761."""
    examined = Examined(no_gpu_code("2.8.0+cu128", "12.8", "sm80", "sm89").write(tmp_path), "l40s")
    assert examined.one.name == "no GPU code"
    assert NO_KERNEL in examined.one.symptom
    assert examined.fix.endswith(f"bin/python -m pip install {REPLACE} torchvision==0.23.0")


@pytest.mark.parametrize(
    ("machine", "sm", "variant"),
    [
        ("orin", "sm87", "torchvision-python312-cuda12_8-sm87-armv8_2"),
        ("dgx-spark", "sm120", "torchvision-python312-cuda12_8-sm121-armv9"),
    ],
)
def test_no_gpu_code_on_arm_is_built_against_the_torch_that_is_there(
    machine: str, sm: str, variant: str, tmp_path: Path
) -> None:
    """ultralytics 18924: published wheels for Arm had no GPU code."""
    examined = Examined(no_gpu_code("2.8.0+cu128", "12.8", sm).for_arm().write(tmp_path), machine)
    assert examined.one.name == "no GPU code"
    site = tmp_path / "lib" / "python3.12" / "site-packages"
    assert examined.fix.startswith(f"build-torchvision build {variant} --torchvision 0.23.0 --torch {site} && ")
    assert f"pip install {REPLACE} dist/torchvision-0.23.0+cu128." in examined.fix


def test_no_gpu_code_where_no_gpu_is_visible_works_and_is_noted(tmp_path: Path) -> None:
    examined = Examined(no_gpu_code("2.8.0+cu128", "12.8", "sm80").write(tmp_path), "zen2")
    assert examined.healthy
    assert NO_KERNEL in examined.notes


# --- Pythons ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("python", ["3.8", "3.9", "3.16"])
def test_a_python_without_variants_gets_the_diagnosis_all_the_same(python: str, tmp_path: Path) -> None:
    """vision 8696."""
    site = Site(python=python, torchvision="0.21.0", requirement="torch==2.6.0")
    examined = Examined(site.write(tmp_path))
    assert examined.one.name == "version skew"
    assert examined.fix.endswith(f"pip install {REPLACE} --index-url {INDEX}/cpu torchvision==0.23.0")
    assert f"no variant for Python {python}" in examined.notes


def test_a_free_threaded_python_is_read_by_its_own_folder(tmp_path: Path) -> None:
    assert Examined(Site(python="3.14t").write(tmp_path)).environment.python == "314t"


# --- ROCm, XPU, macOS -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("torch", "constants", "kind", "fix"),
    [
        (
            "2.9.1+rocm7.2.1.lw.git1a2b3c",
            {"hip": "7.2.53211"},
            "ROCm",
            f"pip install {REPLACE} --no-index --find-links https://repo.radeon.com/rocm/manylinux/rocm-rel-7.2.1/ "
            "'torchvision==0.24.*'",
        ),
        (
            "2.9.1+rocm6.4",
            {"hip": "6.4.43484"},
            "ROCm",
            f"pip install {REPLACE} --index-url {INDEX}/rocm6.4 torchvision==0.24.1",
        ),
        (
            "2.9.1+xpu",
            {"xpu": "20250301"},
            "XPU",
            f"pip install {REPLACE} --index-url {INDEX}/xpu torchvision==0.24.1",
        ),
    ],
)
def test_a_cuda_torchvision_beside_another_torch_takes_the_partner_of_its_index(
    torch: str, constants: dict[str, str | None], kind: str, fix: str, tmp_path: Path
) -> None:
    """ROCm/pytorch 3109, comfyui-nix 46."""
    site = Site(torch=torch, torch_constants=constants, torchvision="0.24.1", requirement="torch==2.9.1")
    site.main = replace(site.main, needed=[*site.main.needed, *CUDA], fatbin=fatbin("sm80"))
    examined = Examined(site.write(tmp_path))
    assert examined.one.name.startswith("CUDA beside a")
    assert kind in examined.one.name
    assert examined.fix.endswith(fix)
    assert "cpu" not in examined.fix.lower()


def test_a_rocm_torch_of_an_unknown_index_gets_no_command_and_the_reason(tmp_path: Path) -> None:
    site = Site(
        torch="2.10.0+rocm7.14.0a20260608", torch_constants={"hip": "7.14"}, torchvision="0.25.0", requirement="torch"
    )
    site.main = replace(site.main, needed=[*site.main.needed, *CUDA], fatbin=fatbin("sm80"))
    one = Examined(site.write(tmp_path)).one
    assert one.fix is None
    assert "AMD" in (one.remedy.note or "")


def test_a_healthy_rocm_pair_is_not_judged(tmp_path: Path) -> None:
    """TheRock 5374: its libraries lie in _rocm_sdk_core and are loaded by torch itself."""
    site = Site(torch="2.10.0+rocm7.14.0a20260608", torch_constants={"hip": "7.14"}, torchvision="0.25.0+rocm7.14.0a")
    site.requirement = "torch==2.10.0+rocm7.14.0a20260608"
    site.main = replace(site.main, needed=[*site.main.needed, "libamdhip64.so.7", "libc10_hip.so"])
    site.torch_libraries["libtorch_cpu.so"] = Object(defined=[OP], needed=["libamdhip64.so.7", "libhipblas.so.3"])

    def sdk(site: Path) -> None:
        (site / "_rocm_sdk_core" / "lib").mkdir(parents=True)
        (site / "_rocm_sdk_core" / "lib" / "libamdhip64.so.7").write_bytes(Object().build())

    site.tamper = sdk
    examined = Examined(site.write(tmp_path))
    assert examined.healthy
    assert "ROCm build: its libraries and hardware are not judged here" in examined.notes


def test_a_macos_torch_is_told_apart(tmp_path: Path) -> None:
    site = Site(tamper=lambda site: (site / "torch" / "lib" / "libtorch_cpu.dylib").write_bytes(b"\xcf\xfa\xed\xfe"))
    assert Examined(site.write(tmp_path)).environment.torch.kind == "mps"  # type: ignore[union-attr]  # it is there


# --- whole versions ---------------------------------------------------------------------------------------------------


def test_a_requirement_on_the_whole_version_is_met_by_it(tmp_path: Path) -> None:
    """lora-scripts 375."""
    site = cuda_pair("2.8.0+cu126", "12.6", "0.23.0+cu126", "sm80")
    site.requirement = "torch==2.8.0+cu126"
    assert Examined(site.write(tmp_path), "a100").healthy


@pytest.mark.parametrize(
    ("torch", "cuda", "torchvision", "fix"),
    [
        ("2.9.0+cu130", "13.0", "0.23.0", f"--index-url {INDEX}/cu130 torchvision==0.24.0"),
        ("2.7.0+cpu", None, "0.21.0", f"--index-url {INDEX}/cpu torchvision==0.22.0"),
        ("2.7.0+cu118", "11.8", "0.21.0", f"--index-url {INDEX}/cu118 torchvision==0.22.0"),
        ("2.14.1+cu130", "13.0", "0.23.0", f"{REPLACE} torchvision==0.29.1"),
    ],
)
def test_skew_keeps_torch_and_takes_its_own_line_from_its_own_index(
    torch: str, cuda: str | None, torchvision: str, fix: str, tmp_path: Path
) -> None:
    """ComfyUI 10517, vision 9077 and 9085."""
    wanted = {"0.21.0": "2.6.0", "0.23.0": "2.8.0"}[torchvision]
    site = Site(torch=torch, torch_cuda=cuda, torchvision=torchvision, requirement=f"torch=={wanted}")
    if cuda:
        site.with_torch_cuda(torch, cuda, "sm80")
    examined = Examined(site.write(tmp_path))
    assert examined.names == ["version skew"]
    assert examined.fix.endswith(fix)
    assert " torch==" not in examined.fix


def test_other_cuda_majors_in_a_ci_image_without_a_gpu_keep_cuda(tmp_path: Path) -> None:
    """NeMo Automodel 3279."""
    site = cuda_pair("2.10.0+cu130", "13.0", "0.25.0", "sm80", "sm90")
    site.main = replace(site.main, needed=[name.replace("so.13", "so.12") for name in site.main.needed])
    examined = Examined(site.write(tmp_path), "zen2", container="docker")
    assert examined.one.name == "CUDA versions differ"
    assert examined.fix.endswith(f"pip install {REPLACE} --index-url {INDEX}/cu130 torchvision==0.25.0")


def test_a_nightly_torch_takes_the_same_day_of_the_same_index(tmp_path: Path) -> None:
    """test-infra 6273, torchtitan 3022."""
    site = Site(torchvision="0.26.0", requirement="torch==2.11.0").with_torch_cuda(
        "2.12.0.dev20260418+cu128", "12.8", "sm90"
    )
    examined = Examined(site.write(tmp_path), "h100")
    assert "version skew" in examined.names
    fix = examined.found[0].fix or ""
    assert f"--pre --index-url {INDEX}/nightly/cu128 " in fix
    assert fix.endswith("torchvision torch==2.12.0.dev20260418+cu128")
    assert "--no-deps" not in fix


def test_a_nightly_torch_without_this_gpus_torchvision_code_is_built_against_where_a_release_allows_it(
    tmp_path: Path,
) -> None:
    site = cuda_pair("2.15.0.dev20260901+cu130", "13.0", "0.30.0.dev20260901+cu130", "sm80")
    site.torch_libraries["libtorch_cuda.so"] = Object(fatbin=fatbin("sm80", "sm90"))
    examined = Examined(site.write(tmp_path), "h100")
    assert examined.one.name == "no kernel image"
    packages = tmp_path / "lib" / "python3.12" / "site-packages"
    assert f"torchvision-python312-cuda13_0-sm90-avx512bf16 --torchvision 0.29.1 --torch {packages} && " in examined.fix


def test_a_torch_newer_than_the_tables_gets_no_advice_from_older_rows(tmp_path: Path) -> None:
    site = Site(torch="2.19.0+cu140", torch_cuda="14.0", torchvision="0.29.2", requirement="torch==2.15.0")
    one = Examined(site.write(tmp_path)).one
    assert one.fix is None
    assert "newer than this program knows" in (one.remedy.note or "")


# --- torch itself -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("library", "package"),
    [
        ("libcudss.so.0", "nvidia-cudss-cu12"),
        ("libcusparseLt.so.0", "nvidia-cusparselt-cu12"),
        ("libnvpl_lapack_lp64_gomp.so.0", "nvpl-lapack"),
    ],
)
def test_a_library_that_torch_needs_and_nothing_brings_is_named_with_its_package(
    library: str, package: str, tmp_path: Path
) -> None:
    """Isaac-GR00T 343, microduck_rl 39, pytorch 144433."""
    site = cuda_pair("2.8.0+cu128", "12.8", "0.23.0", "sm87", "sm90")
    site.torch_libraries["libtorch_cpu.so"] = Object(defined=[OP], needed=["libc10.so", library])
    examined = Examined(site.write(tmp_path), "h100")
    assert examined.one.name == "torch does not load"
    assert library in examined.one.symptom
    assert examined.fix.endswith(f"-m pip install {package}")


def test_the_drivers_own_library_is_no_fault_where_there_is_no_gpu(tmp_path: Path) -> None:
    site = cuda_pair("2.8.0+cu128", "12.8", "0.23.0", "sm90")
    site.torch_libraries["libtorch_cuda.so"] = Object(needed=["libcuda.so.1"], fatbin=fatbin("sm90"))
    assert Examined(site.write(tmp_path), "zen2").healthy


def test_a_library_in_an_nvidia_package_is_found(tmp_path: Path) -> None:
    site = cuda_pair("2.8.0+cu128", "12.8", "0.23.0", "sm90")
    site.torch_libraries["libtorch_cpu.so"] = Object(defined=[OP], needed=["libcudss.so.0"])

    def cudss(site: Path) -> None:
        (site / "nvidia" / "cu12" / "lib").mkdir(parents=True)
        (site / "nvidia" / "cu12" / "lib" / "libcudss.so.0").write_bytes(b"")

    site.tamper = cudss
    assert Examined(site.write(tmp_path), "h100").healthy


def test_a_torch_cut_short_is_named(tmp_path: Path) -> None:
    def cut(site: Path) -> None:
        path = site / "torch" / "lib" / "libtorch_cpu.so"
        path.write_bytes(path.read_bytes()[:500])

    examined = Examined(Site(tamper=cut).write(tmp_path))
    assert examined.names[0] == "torch damaged"
    assert "libtorch_cpu.so" in examined.found[0].cause


def test_a_torch_beyond_the_processor_is_named(tmp_path: Path) -> None:
    """pytorch 176993: torch 2.10.0 for aarch64 on a Raspberry Pi 4."""
    site = Site(torch="2.10.0", torchvision="0.25.0", requirement="torch==2.10.0").for_arm()
    ldadd = bytes.fromhex("0000f6f8")  # ldaddal x22, x0, [x0]
    site.torch_libraries["libc10.so"] = Object(defined=[NEW], machine=183, code=ldadd + RET_ARM)
    examined = Examined(site.write(tmp_path), "raspberry-pi-4")
    assert examined.one.name == "illegal instruction in torch"
    assert "Cortex-A72" in examined.one.cause
    assert examined.names.count("illegal instruction in torch") == 1


@pytest.mark.parametrize("who", ["torch", "torchvision"])
def test_a_missing_requirement_is_named_with_its_module(who: str, tmp_path: Path) -> None:
    """ml-testing-accelerators 909: Pillow."""
    text = "pillow!=8.3.*,>=5.3.0"
    site = Site(requires=(text,)) if who == "torchvision" else Site(torch_metadata=f"Requires-Dist: {text}\n")
    examined = Examined(site.write(tmp_path))
    assert examined.one.name == "package missing"
    assert examined.one.symptom == "ModuleNotFoundError: No module named 'PIL'"
    assert examined.fix.endswith("-m pip install pillow")


def test_requirements_for_extras_and_other_systems_are_not_missing(tmp_path: Path) -> None:
    site = Site(requires=('scipy; extra == "scipy"', 'pywin32; sys_platform == "win32"', "torch==2.8.0"))
    assert Examined(site.write(tmp_path)).healthy


# --- the C and C++ libraries ------------------------------------------------------------------------------------------


def cxx_library(*versions: str) -> bytes:
    return b"\0" + b"\0".join(version.encode() for version in versions) + b"\0"


def needs_cxx(version: str) -> Object:
    return Object(defined=[OP], undefined={"_ZNSt": ("libstdc++.so.6", version)})


def conda(root: Path, site: Site, *versions: str) -> Path:
    """A conda environment whose own libstdc++ has `versions`."""
    (root / "conda-meta").mkdir(parents=True)
    (root / "bin").mkdir()
    (root / "bin" / f"python{site.python}").write_text("", encoding="utf-8")
    (root / "bin" / "python").symlink_to(f"python{site.python}")
    packages = root / "lib" / f"python{site.python}" / "site-packages"
    (packages / "pip").mkdir(parents=True)
    (packages / "pip" / "__init__.py").write_text("", encoding="utf-8")
    (root / "lib" / "libstdc++.so.6").write_bytes(cxx_library(*versions))
    site.fill(packages)
    return root


def test_a_libstdcxx_older_than_torchs_is_named_with_its_file_and_version(tmp_path: Path) -> None:
    """pytorch 157709."""
    site = Site()
    site.torch_libraries["libtorch_cpu.so"] = needs_cxx("GLIBCXX_3.4.99")
    examined = Examined(conda(tmp_path, site, "GLIBCXX_3.4.30"))
    assert examined.one.name == "system too old for torch"
    assert "GLIBCXX_3.4.99" in examined.one.symptom
    assert f"{tmp_path / 'lib' / 'libstdc++.so.6'}, which ends at GLIBCXX_3.4.30" in examined.one.cause
    assert examined.fix.startswith(f"conda install --prefix {tmp_path} ")


def test_a_venv_over_condas_python_loads_condas_libstdcxx(tmp_path: Path) -> None:
    base = conda(tmp_path / "conda", Site(), "GLIBCXX_3.4.99")
    site = Site()
    site.main = replace(site.main, undefined={**site.main.undefined, "_ZNSt": ("libstdc++.so.6", "GLIBCXX_3.4.99")})
    root = site.write(tmp_path / "venv")
    (root / "bin" / "python").unlink()
    (root / "bin" / "python").symlink_to(base / "bin" / "python3.12")
    (root / "pyvenv.cfg").write_text(f"home = {base / 'bin'}\nversion = 3.12.1\n", encoding="utf-8")
    assert Examined(root).healthy


def test_a_torch_from_a_newer_system_is_named(tmp_path: Path) -> None:
    """LLM-TPU 166: riscv64, where PyTorch publishes no wheels."""
    site = Site()
    for name in ("main", "image"):
        setattr(site, name, replace(getattr(site, name), machine=243, code=b""))
    site.torch_libraries = {name: replace(one, machine=243, code=b"") for name, one in site.torch_libraries.items()}
    site.torch_libraries["libtorch_cpu.so"] = Object(
        defined=[OP], machine=243, undefined={"x": ("libc.so.6", "GLIBC_2.99")}
    )
    examined = Examined(site.write(tmp_path), "riscv64")
    assert examined.one.name == "system too old for torch"
    assert "built on a newer system" in examined.one.cause
    assert examined.one.fix is None
    assert "glibc 2.99" in (examined.one.remedy.note or "")


def test_libraries_of_a_platform_that_is_not_read_are_not_called_damaged(tmp_path: Path) -> None:
    def to_32_bit(site: Path) -> None:
        for path in [*(site / "torch" / "lib").iterdir(), *(site / "torchvision").glob("*.so")]:
            path.write_bytes(b"\x7fELF\x01\x01\x01" + path.read_bytes()[7:])

    assert Examined(Site(tamper=to_32_bit).write(tmp_path), "armv7l").healthy


# --- where Python finds them ------------------------------------------------------------------------------------------


def test_a_torch_in_the_users_packages_comes_before_condas_and_both_are_named(tmp_path: Path) -> None:
    """comfyui-rocm 131."""
    root = conda(tmp_path / "conda", Site(), "GLIBCXX_3.4.30")
    user = tmp_path / "home" / ".local" / "lib" / "python3.12" / "site-packages"
    Site(torch="2.9.1+cu128", torch_cuda="12.8").fill_torch(user)
    examined = Examined(root, variables={"HOME": str(tmp_path / "home")})
    assert examined.one.name == "version skew"
    assert str(user) in examined.one.cause
    assert str(root / "lib") in examined.one.cause
    assert examined.fix == "export PYTHONNOUSERSITE=1"
    assert Examined(root, variables={"HOME": str(tmp_path / "home"), "PYTHONNOUSERSITE": "1"}).healthy


def test_pythonpath_comes_first(tmp_path: Path) -> None:
    root = Site().write(tmp_path / "env")
    other = tmp_path / "other"
    Site(torch="2.9.1+cpu").fill_torch(other)
    examined = Examined(root, variables={"PYTHONPATH": str(other)})
    assert examined.one.name == "version skew"
    assert examined.fix == "unset PYTHONPATH"


@pytest.mark.parametrize("second", [False, True])
def test_an_egg_of_easy_install_is_found_and_taken_out_of_the_way(second: bool, tmp_path: Path) -> None:
    """jetson-inference 521."""
    site = Site()
    root = site.write(tmp_path)
    packages = root / "lib" / "python3.12" / "site-packages"
    egg = packages / "torchvision-0.19.0a0-py3.12-linux-aarch64.egg"
    (egg / "EGG-INFO").mkdir(parents=True)
    text = "Metadata-Version: 2.1\nName: torchvision\nVersion: 0.19.0a0\nRequires-Dist: torch==2.4.0\n"
    (egg / "EGG-INFO" / "PKG-INFO").write_text(text, encoding="utf-8")
    (packages / "torchvision").rename(egg / "torchvision")
    head = "import sys; sys.__plen = len(sys.path)\n"
    tail = "import sys; new=sys.path[sys.__plen:]; p=getattr(sys,'__egginsert',0); sys.path[p:p]=new\n"
    (packages / "easy-install.pth").write_text(f"{head}./{egg.name}\n{tail}", encoding="utf-8")
    if second:
        (packages / "torchvision").mkdir()
        for path in (egg / "torchvision").iterdir():
            (packages / "torchvision" / path.name).write_bytes(path.read_bytes())
    else:
        for path in (packages / "torchvision-0.23.0.dist-info").iterdir():
            path.unlink()
        (packages / "torchvision-0.23.0.dist-info").rmdir()
    examined = Examined(root)
    assert examined.one.name == "version skew"
    assert "0.19.0a0" in examined.one.cause
    assert "-m pip uninstall --yes torchvision && " in examined.fix
    assert ("is imported before" in examined.one.cause) is second


def editable(root: Path, style: str) -> Path:
    """A checkout with compiled extensions, installed in place as `style` does it."""
    source = root / "vision"
    source.mkdir(parents=True)
    environment = Site().write(root / "env")
    packages = environment / "lib" / "python3.12" / "site-packages"
    (packages / "torchvision").rename(source / "torchvision")
    (packages / "torchvision.libs").rename(source / "torchvision.libs")
    info = packages / "torchvision-0.23.0.dist-info"
    if style == "develop":
        for path in info.iterdir():
            path.unlink()
        info.rmdir()
        (packages / "torchvision.egg-link").write_text(f"{source}\n.", encoding="utf-8")
        (packages / "easy-install.pth").write_text(f"{source}\n", encoding="utf-8")
        egg = source / "torchvision.egg-info"
        egg.mkdir()
        (egg / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: torchvision\nVersion: 0.23.0a0\n", encoding="utf-8")
        (egg / "requires.txt").write_text("torch==2.8.0\n\n[gdown]\ngdown\n", encoding="utf-8")
        return environment
    direct = {"url": source.as_uri(), "dir_info": {"editable": True}}
    (info / "direct_url.json").write_text(json.dumps(direct), encoding="utf-8")
    (info / "RECORD").write_text("torchvision-0.23.0.dist-info/METADATA,,\n", encoding="utf-8")
    if style == "pth":
        (packages / "__editable__.torchvision-0.23.0.pth").write_text(f"{source}\n", encoding="utf-8")
    elif style == "finder":
        name = "__editable___torchvision_0_23_0_finder"
        (packages / f"{name}.py").write_text(
            f"MAPPING: dict[str, str] = {{'torchvision': '{source / 'torchvision'}'}}\n", encoding="utf-8"
        )
        (packages / "__editable__.torchvision-0.23.0.pth").write_text(
            f"import {name}; {name}.install()", encoding="utf-8"
        )
    return environment


@pytest.mark.parametrize("style", ["pth", "finder", "direct_url", "develop"])
def test_installs_in_place_are_followed(style: str, tmp_path: Path) -> None:
    """upstream's CONTRIBUTING: pip install -e, setup.py develop."""
    root = editable(tmp_path, style)
    examined = Examined(root, cwd=tmp_path / "vision")
    assert examined.healthy
    assert examined.environment.torchvision is not None
    assert examined.environment.torchvision.folder == tmp_path / "vision" / "torchvision"


def test_an_install_in_place_that_was_not_compiled_is_compiled_there(tmp_path: Path) -> None:
    root = editable(tmp_path, "pth")
    (tmp_path / "vision" / "torchvision" / "_C.so").unlink()
    examined = Examined(root)
    assert examined.one.name == "no extension"
    assert examined.fix.endswith(f"pip install --no-build-isolation --no-deps --editable {tmp_path / 'vision'}")


def test_nix_store_paths_are_followed_and_never_installed_into(tmp_path: Path) -> None:
    """comfyui-nix 46."""
    vision, torch = tmp_path / "aaa-python3.12-torchvision-0.23.0", tmp_path / "bbb-python3.12-torch-2.8.0"
    Site().fill_torchvision(vision / "lib" / "python3.12" / "site-packages")
    Site().fill_torch(torch / "lib" / "python3.12" / "site-packages")
    for prefix, needs in ((vision, f"{torch} {tmp_path / 'ccc-gone'}"), (torch, str(vision))):
        (prefix / "nix-support").mkdir()
        (prefix / "nix-support" / "propagated-build-inputs").write_text(needs, encoding="utf-8")
    assert Examined(vision).healthy
    (vision / "lib" / "python3.12" / "site-packages" / "torchvision" / "_C.so").unlink()
    one = Examined(vision).one
    assert one.name == "no extension"
    assert one.fix is None
    assert "Nix store" in (one.remedy.note or "")


def test_an_environment_of_uv_is_mended_with_uv(tmp_path: Path) -> None:
    """home-ops 9195: it has no pip."""
    site = Site(torch="2.7.1+cpu", installer="uv")
    examined = Examined(site.write(tmp_path))
    python = tmp_path / "bin" / "python"
    assert examined.fix == (f"uv pip install --python {python} {REPLACE} --index-url {INDEX}/cpu torchvision==0.22.1")


def test_a_python_that_the_distribution_manages_gets_an_environment_first(tmp_path: Path) -> None:
    """ComfyUI 3554: pip refuses (PEP 668)."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").write_text("", encoding="utf-8")
    standard = tmp_path / "lib" / "python3.12"
    standard.mkdir(parents=True)
    for name in ("os.py", "EXTERNALLY-MANAGED"):
        (standard / name).write_text("", encoding="utf-8")
    packages = tmp_path / "local" / "lib" / "python3.12" / "dist-packages"
    Site(torch="2.7.1+cpu").fill(packages)
    examined = Examined(tmp_path / "bin" / "python3")
    assert examined.one.name == "version skew"
    assert examined.fix == (
        f"{tmp_path}/bin/python3 -m venv .venv && "
        f".venv/bin/python -m pip install --index-url {INDEX}/cpu torch==2.7.1+cpu torchvision==0.22.1"
    )


def test_an_environment_from_elsewhere_says_that_its_python_is_gone(tmp_path: Path) -> None:
    root = Site().write(tmp_path)
    (root / "bin" / "python").unlink()
    (root / "bin" / "python").symlink_to("/home/somebody/.pyenv/versions/3.12.4/bin/python3.12")
    one = Examined(root).one
    assert one.name == "Python missing"
    assert "/home/somebody/.pyenv" in one.cause
    assert one.fix == f"python3.12 -m venv --upgrade {root}"


@pytest.mark.parametrize(
    ("name", "data", "what"),
    [("_C.so", b"\xcf\xfa\xed\xfe", "macOS library (Mach-O)"), ("_C.pyd", b"MZ\x90\x00", "Windows library (PE)")],
)
def test_another_systems_files_are_named_as_what_they_are(name: str, data: bytes, what: str, tmp_path: Path) -> None:
    def replace_extension(site: Path) -> None:
        (site / "torchvision" / "_C.so").unlink()
        (site / "torchvision" / name).write_bytes(data + bytes(64))
        (site / "torchvision-0.23.0.dist-info" / "RECORD").unlink()

    one = Examined(Site(tamper=replace_extension).write(tmp_path)).one
    assert one.name == "wrong platform"
    assert what in one.cause


# --- GPUs -------------------------------------------------------------------------------------------------------------


def test_a_p100_gets_the_pair_whose_torch_has_its_code(tmp_path: Path) -> None:
    """kaggle-cli 1151."""
    site = cuda_pair("2.10.0+cu128", "12.8", "0.25.0", "sm70", "sm75", "sm80")
    examined = Examined(site.write(tmp_path), "p100")
    assert examined.one.name == "torch has no code for the GPU"
    assert examined.fix.endswith("pip install torch==2.7.1 torchvision==0.22.1")


def test_gpu_code_is_that_which_the_binary_was_linked_with(tmp_path: Path) -> None:
    site = cuda_pair("2.10.0+cu130", "13.0", "0.25.0", "sm80")
    examined = Examined(site.write(tmp_path), "a100")
    state = running(examined.state, examined.machine)
    assert state is not None
    assert state.cuda == "13"


def test_the_other_words_of_a_skew_are_among_its_symptoms(tmp_path: Path) -> None:
    """unsloth 1793."""
    one = Examined(Site(torch="2.7.1+cpu").write(tmp_path)).one
    assert "partially initialized module 'torchvision' has no attribute 'extension'" in one.symptom


# --- what RECORD lists (C21) ------------------------------------------------------------------------------------------


def test_what_record_lists_and_is_not_there_is_named_whatever_python_runs_this(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From Python 3.12 on importlib.metadata leaves such files out; nothing here asks it."""
    monkeypatch.setattr("importlib.metadata.PathDistribution.files", None)
    site = Site(tamper=lambda site: (site / "torchvision" / "image.so").unlink())
    one = Examined(site.write(tmp_path)).one
    assert one.name == "files missing"
    assert "torchvision/image.so" in one.cause


# --- the symptoms table -----------------------------------------------------------------------------------------------


def symptoms() -> list[str]:
    """The fixed words of every symptom that a cause names, read from the code."""
    folder = Path(causes.__path__[0])
    found: list[str] = []
    for path in sorted(folder.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        constants = {
            target.id: node.value.value
            for node in ast.parse((folder / "diagnosis.py").read_text(encoding="utf-8")).body + tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg == "symptom":
                names = [name.id for name in ast.walk(node.value) if isinstance(name, ast.Name)]
                texts = [part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant)]
                texts += [constants[name] for name in names if name in constants]
                found += [piece for text in texts for piece in re.split(r" / |, or |, ", str(text))]
    return sorted({piece.strip(" :`'()") for piece in found if len(piece.strip(" :`'()")) > 7})


def test_the_words_of_every_symptom_stand_in_the_quickstart() -> None:
    document = (Path(__file__).parents[2] / "QUICKSTART.md").read_text(encoding="utf-8")
    (block,) = [block for block in document.split("\n\n") if block.startswith("|") and "nms does not exist" in block]
    table = "".join(row.split(" | ")[0] for row in block.splitlines())  # its first column, the error messages
    assert len(symptoms()) > 15
    assert [words for words in symptoms() if words not in table] == []

"""Every command that doctor and detect print is one that `plan` accepts, or an install whose versions exist."""

from __future__ import annotations

import contextlib
import fnmatch
import io
import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from _elf import Object
from _environments import CUDA, OP, Site
from _machines import record, sources
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement

from build_torchvision.choose.advice import Advice, advise
from build_torchvision.cli.main import make_app
from build_torchvision.doctor.diagnose import diagnose
from build_torchvision.doctor.installation import inspect_installation
from build_torchvision.errors import BadInput
from build_torchvision.facts import releases
from build_torchvision.machine.environment import Backend, PythonEnvironment, read_environment
from build_torchvision.machine.report import Machine, detect

APP = make_app()
TORCHES = (
    "2.4.1",
    "2.6.0",
    "2.7.0",
    "2.8.0",
    "2.8.1",
    "2.9.1",
    "2.10.0",
    "2.12.0.dev20260418",
    "2.14.1",
    "2.15.0",
    "2.19.0",
)
LOCALS = (
    "",
    "cpu",
    "cu118",
    "cu121",
    "cu124",
    "cu126",
    "cu128",
    "cu129",
    "cu130",
    "cu132",
    "rocm6.4",
    "rocm7.2.1",
    "xpu",
    "nv25.08",
)
VISIONS = ("0.19.1", "0.21.0", "0.23.0", "0.25.0", "0.26.0.dev20260401", "0.29.1", "0.30.0a0")
MACHINES = (
    "zen2",
    "haswell",
    "l40s",
    "a100",
    "b200",
    "h100",
    "p100",
    "rtx4090",
    "orin",
    "dgx-spark",
    "graviton3",
    "raspberry-pi-4",
    "riscv64",
)
INSTALLERS = ("pip", "uv", "managed", "store", "target", "conda")
FAULTS = (
    "none",
    "no extension",
    "no gpu code",
    "other gpu",
    "no torch",
    "no torchvision",
    "half of torch",
    "half of torchvision",
    "no torch library",
    "no library for torch",
    "codec",
)
ALLOWED = {"cd", "rm", "export", "unset", "conda", "sudo"}


def site_of(torch: str, local: str, vision: str, fault: str, arm: bool) -> Site:
    cuda = f"{local[2:4]}.{local[4]}" if local.startswith("cu") else None
    named = {"rocm": {"hip": "6.4"}, "xpu": {"xpu": "2025"}}
    constants = next((value for key, value in named.items() if local.startswith(key)), {})
    version = f"{torch}+{local}" if local else torch
    row = releases().get(vision)
    site = Site(torch=version, torchvision=vision, torch_constants=constants)
    site.requirement = f"torch=={row.torch}" if row else "torch"
    if cuda:
        images = (
            ("sm80", "sm90", "sm120")
            if fault == "other gpu"
            else ("sm60", "sm80", "sm87", "sm89", "sm90", "sm100", "sm120")
        )
        site.with_cuda(version, cuda, "sm50" if fault == "other gpu" else "sm80", torch_images=images)
        major = cuda.partition(".")[0]
        site.torch_libraries[f"libcudart.so.{major}"] = site.torch_libraries["libcudart.so.12"]
        if fault == "no gpu code":
            site.main = replace(site.main, fatbin=b"", needed=[name for name in site.main.needed if name not in CUDA])
    if fault == "codec":
        site.image = replace(site.image, rodata=b"\0decode_webp: torchvision not compiled with libwebp support\0")
    if fault == "no library for torch":
        site.torch_libraries["libtorch_cpu.so"] = Object(defined=[OP], needed=["libcudss.so.0"])
    if arm:
        site.for_arm()
    gone = {"no torch": "torch", "no torchvision": "torchvision"}.get(fault)

    def tamper(packages: Path) -> None:
        if fault == "no extension":
            (packages / "torchvision" / "_C.so").unlink()
        if fault == "no torch library":
            (packages / "torch" / "lib" / "libtorch_cpu.so").unlink()
        if fault.startswith("half of "):
            (packages / fault.removeprefix("half of ") / "__init__.py").unlink()
        for path in list(packages.iterdir()) if gone else []:
            if path.name == gone or path.name.startswith(f"{gone}-"):
                shutil.rmtree(path)

    site.tamper = tamper
    return site


def write(site: Site, installer: str, root: Path) -> Path:
    if installer in ("pip", "uv"):
        site.installer = installer
        return site.write(root)
    if installer == "target":
        folder = root / "site-packages"
        site.fill(folder)
        return folder
    if installer == "conda":
        (root / "conda-meta").mkdir(parents=True)
        (root / "conda-meta" / f"pytorch-{site.torch}-{'cuda129' if site.torch_cuda else 'cpu'}_0.json").write_text(
            '{"channel": "https://conda.anaconda.org/conda-forge/linux-64"}', encoding="utf-8"
        )
    library = root / "lib" / f"python{site.python}"
    library.mkdir(parents=True)
    (root / "bin").mkdir()
    (root / "bin" / "python3").write_text("", encoding="utf-8")
    if installer == "managed":
        (library / "os.py").write_text("", encoding="utf-8")
        (library / "EXTERNALLY-MANAGED").write_text("", encoding="utf-8")
        site.fill(root / "local" / "lib" / f"python{site.python}" / "dist-packages")
        return root / "bin" / "python3"
    if installer == "conda":
        site.fill(library / "site-packages")
        return root
    (root / "nix-support").mkdir()
    (root / "nix-support" / "propagated-build-inputs").write_text("", encoding="utf-8")
    site.fill(library / "site-packages")
    return root


def steps(command: str) -> list[list[str]]:
    found: list[list[str]] = [[]]
    for word in shlex.split(command):
        if word == "&&":
            found.append([])
        else:
            found[-1].append(word)
    return found


def check_build(words: list[str]) -> str:
    """The name of the wheel that `build` with these words would make, by `plan`."""
    command, bound, _ = APP.parse_args(["plan", *words, "--json"], exit_on_error=False, print_error=False)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        command(*bound.args, **bound.kwargs)
    (row,) = json.loads(out.getvalue())
    return str(row["wheel"])


def check_conda(words: list[str], environment: PythonEnvironment) -> None:
    """Both packages are named, by versions that the tables have, and of torch's own kind."""
    torch = environment.torch
    assert torch is not None
    assert torch.channel == words[words.index("--channel") + 1]
    for spec in (word for word in words if "=" in word):
        name, version, build = spec.split("=")
        assert build == ("cuda*" if torch.kind is Backend.CUDA else "cpu*")
        assert torch.kind in (Backend.CPU, Backend.CUDA)
        assert version in releases() if name == "torchvision" else (name, version) == ("pytorch", torch.public)


def check_install(words: list[str], environment: PythonEnvironment, machine: Machine) -> None:
    """Versions exist, each torch keeps its version's line and its kind, and the index is that kind's."""
    torch = environment.torch
    options = [word for word in words if word.startswith("--")]
    values = {
        words[words.index(option) + 1]
        for option in ("--index-url", "--find-links", "--python", "--target", "--editable")
        if option in words
    }
    index = words[words.index("--index-url") + 1] if "--index-url" in words else ""
    names = [word for word in words if word not in values and not word.startswith("--") and not word.endswith(".whl")]
    requirements = {Requirement(name).name: Requirement(name).specifier for name in names}
    versions = {
        name: next((one.version for one in spec if one.operator == "=="), None) for name, spec in requirements.items()
    }
    if torch is not None and ("torch" in versions or "torchvision" in versions):
        tag = index.rpartition("/")[2]
        kind = "cuda" if tag.startswith("cu") else "rocm" if tag.startswith("rocm") else tag
        if index:
            assert kind == torch.kind, (kind, torch.kind)
        elif "--find-links" in options:
            assert torch.kind is Backend.ROCM
    vision = versions.get("torchvision")
    if vision is not None:
        assert any(re.fullmatch(vision.replace(".", r"\.").replace(r"\.*", r"\.\d+"), known) for known in releases()), (
            vision
        )
    wanted = versions.get("torch")
    if wanted is not None:
        known = wanted.partition("+")[0] in {row.torch for row in releases().values()}
        assert known or (torch is not None and wanted in (torch.version, torch.public)), wanted
        if torch is not None and not index:
            row = next((row for row in releases().values() if row.torch == wanted), None)
            if row is not None:
                assert (row.torch_cuda(machine.platform) is not None) == (torch.kind is Backend.CUDA), wanted
    if "torchvision" in names:  # no version: then the torch that is there is named with it
        assert wanted is not None or "--pre" in options


def check(command: str, environment: PythonEnvironment, machine: Machine) -> None:
    wheel = None
    for words in steps(command):
        pattern = next((word for word in words if word.startswith("dist/")), None)
        if words[0] == "build-torchvision":
            assert words[1] == "build"
            wheel = check_build(words[2:])
        elif words[:2] == ["conda", "install"] and "--channel" in words and "libstdcxx" not in words:
            check_conda(words, environment)
        elif pattern is not None and wheel is not None:
            assert fnmatch.fnmatch(f"dist/{wheel}", pattern), (wheel, pattern)
            check_install(words[words.index("install") + 1 :], environment, machine)
        elif "install" in words:
            assert environment.installer != "none"
            check_install(words[words.index("install") + 1 :], environment, machine)
        else:
            assert words[0] in ALLOWED or "venv" in words or "uninstall" in words, words


def printed(advice: Advice) -> list[str]:
    offers = (advice.best, advice.seed, advice.called_for)
    found = [f"{offer.build} && {offer.install}" for offer in offers if offer and offer.build and offer.install]
    found += [offer.build for offer in offers if offer and offer.build and not offer.install]
    return found + [
        quoted for note in advice.notes for quoted in re.findall(r"`([^`]+)`", note) if " install " in quoted
    ]


@example("2.6.0", "cu121", "0.19.1", "l40s", "pip", "none", "3.12")  # no track of CUDA 12.1
@example("2.10.0", "cu130", "0.25.0", "dgx-spark", "uv", "other gpu", "3.12")
@example("2.19.0", "", "0.19.1", "l40s", "managed", "none", "3.12")
@example("2.19.0", "cu118", "0.19.1", "zen2", "managed", "none", "3.12")
@example("2.9.1", "", "0.23.0", "l40s", "conda", "none", "3.14t")
@example("2.9.1", "rocm7.2.1", "0.25.0", "zen2", "managed", "none", "3.12")
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    torch=st.sampled_from(TORCHES),
    local=st.sampled_from(LOCALS),
    vision=st.sampled_from(VISIONS),
    machine=st.sampled_from(MACHINES),
    installer=st.sampled_from(INSTALLERS),
    fault=st.sampled_from(FAULTS),
    python=st.sampled_from(("3.9", "3.12", "3.13", "3.14t")),
)
def test_every_command_that_is_printed_can_be_run(
    torch: str, local: str, vision: str, machine: str, installer: str, fault: str, python: str
) -> None:
    with TemporaryDirectory() as folder:
        data = record(machine)
        site = site_of(torch, local, vision, fault, data["platform"] == "aarch64")
        site.python = python
        root = write(site, installer, Path(folder) / "env")
        environment = read_environment(root, {})
        seen = detect(sources(data), environment)
        for one in diagnose(inspect_installation(environment, Path(folder), {}), seen):
            assert one.fix or one.remedy.note, one.name
            if one.fix:
                check(one.fix, environment, seen)
        for command in printed(advise(seen)):
            check(command, environment, seen)


@pytest.mark.parametrize(
    "command",
    [
        "build-torchvision build torchvision-python312-cuda12_8-sm110-avx2 --torchvision 0.25.0",
        "build-torchvision build torchvision-python312-cuda12_8-sm89-avx2 --torchvision 0.29.1",
        "/env/bin/python -m pip install torchvision==0.23.9",
        "/env/bin/python -m pip install torch==2.6.7 torchvision==0.21.0",
        "/env/bin/python -m pip install --index-url https://download.pytorch.org/whl/cpu torchvision==0.25.0",
        "/env/bin/python -m pip install torchvision",
        "curl https://example.org",
    ],
)
def test_commands_of_the_kinds_that_people_were_given_are_caught(command: str, tmp_path: Path) -> None:
    site = Site().with_torch_cuda("2.10.0+cu128", "12.8", "sm80", "sm89")
    environment = read_environment(site.write(tmp_path), {})
    machine = detect(sources(record("l40s")), environment)
    with pytest.raises((AssertionError, BadInput)):
        check(command, environment, machine)

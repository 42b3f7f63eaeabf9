"""An index of variants as uv chooses from it: the real uv over loopback, on this CPU and on others that it is told of.

uv asks an environment's Python for the processor. A wrapper around Python gives it another one's answer: the flags of
recorded x86-64 machines, the core and the capabilities of Arm ones. GPUs are uv's own pretence, by its variables.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from _machines import record, sources
from _sealed import sealed
from _serve import Served, serve
from _wheels import record_of
from conftest import build_torchvision
from test_served_index import PLAIN, PYTHON, pip, variant
from uv import find_uv_bin
from variantlib.variants_json import VariantsJson

from build_torchvision.choose.advice import advise
from build_torchvision.facts import gpus, isas
from build_torchvision.flags import cuda_codegen
from build_torchvision.machine.report import detect
from build_torchvision.publish.admission import Wheel, admit
from build_torchvision.publish.site import write_site
from build_torchvision.publish.stock import read_stock
from build_torchvision.variants import CORE_SMS, Variant, parse
from build_torchvision.verify.package import parse_file_name
from build_torchvision.wheel.descriptor import VARIANT_JSON, variant_json

pytestmark = [
    pytest.mark.loopback,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the wheels made from bytes hold x86-64 code"),
]
ISAS = ("avx2", "avx512", "avx512vnni", "avx512bf16")
SELECTING = re.compile(r"Selecting: torchvision==(\S+) \[compatible\] \((\S+)\)")
V2 = "fpu sse sse2 ss ht syscall nx rdtscp lm cx16 pni ssse3 sse4_1 sse4_2 popcnt lahf_lm"
V3 = f"{V2} avx avx2 bmi1 bmi2 f16c fma abm movbe xsave osxsave"
V4 = f"{V3} avx512f avx512bw avx512cd avx512dq avx512vl"


@dataclass(frozen=True)
class Chosen:
    """What uv took: the file, and the line of its log that says so. `file` is empty where it took none."""

    file: str
    line: str
    log: str

    @property
    def label(self) -> str | None:
        """The variant's label; "plain" for the stock wheel."""
        return (parse_file_name(self.file).label or "plain") if self.file else None


def plain_wheel(folder: Path, platform_tag: str = "manylinux_2_28_x86_64", label: str = "", extra: bytes = b"") -> Path:
    """A wheel of torchvision 0.21.0 for any Python that holds nothing; with a label it says `extra` in variant.json."""
    info = "torchvision-0.21.0.dist-info"
    members = {
        "torchvision/__init__.py": b"",
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: torchvision\nVersion: 0.21.0\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nTag: py3-none-{platform_tag}\n".encode(),
    }
    if extra:
        members[f"{info}/{VARIANT_JSON}"] = extra
    folder.mkdir(exist_ok=True)
    path = folder / f"torchvision-0.21.0-py3-none-{platform_tag}{'-' + label if label else ''}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        archive.writestr(f"{info}/RECORD", record_of(members, "torchvision-0.21.0"))
    return path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stock wheel and the four x86-64 variants, by the command itself."""
    folder = tmp_path_factory.mktemp("variants")
    for isa in ISAS:
        sealed(folder / "dist", variant(isa), with_variant_label=True)
    stock = plain_wheel(folder / "stock")
    ran = build_torchvision("index", folder / "dist", "--stock", stock, "--out", folder / "site", "--json")
    assert ran.code == 0, ran.err
    return folder / "site"


@pytest.fixture(scope="module")
def served(site: Path) -> Iterator[Served]:
    with serve(site) as found:
        yield found


def pretend(env: Path, folder: Path, **answers: Any) -> Path:
    """A Python of the environment `env` that answers uv's question about the machine with `answers`."""
    path = folder / "python"
    path.write_text(
        f"#!{sys.executable}\n"
        "import json, subprocess, sys\n"
        f"answers = json.loads({json.dumps(json.dumps(answers))})\n"
        f"done = subprocess.run([{str(env)!r}, *sys.argv[1:]], stdout=subprocess.PIPE)\n"
        "try:\n"
        "    said = json.loads(done.stdout)\n"
        "    said.update(answers)\n"
        "    said['markers']['platform_machine'] = said['arch']\n"
        "    out = json.dumps(said).encode()\n"
        "except ValueError:\n"
        "    out = done.stdout\n"
        "sys.stdout.buffer.write(out)\n"
        "sys.exit(done.returncode)\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def flags(text: str) -> dict[str, Any]:
    return {"cpu_info": {"detected": {"kind": "flags", "flags": text}}}


def uv(python: Path, url: str, *options: str, preview: bool = True, **environment: str) -> Chosen:
    command = [find_uv_bin(), "-v", "pip", "install", "--no-config", "--no-cache", "--no-deps", "--python", python]
    command += ["--preview-features", "wheel-variants"] if preview else []
    done = subprocess.run(
        [*command, "--default-index", url, *options, "torchvision"],
        capture_output=True,
        text=True,
        check=False,
        env={**PLAIN, **environment},
    )
    found = SELECTING.search(done.stderr)
    line = next((row for row in done.stderr.splitlines() if "Selecting:" in row), "")
    print(line.strip())  # -s shows what uv says of each
    return Chosen(found[2] if found and done.returncode == 0 else "", line, done.stderr)


def told_apart(isa: str) -> str:
    row = isas()[isa]
    return isa if row.told_apart or row.contains is None else told_apart(row.contains)


def recommended(name: str) -> Variant | None:
    """What `detect` recommends for the recorded machine `name`."""
    best = advise(detect(sources(record(name))), PYTHON).best
    return best.choice.variant if best else None


def recorded_flags(name: str) -> str:
    found = re.search(r"^flags\s*:\s*(.+)$", record(name)["files"]["/proc/cpuinfo"], re.MULTILINE)
    assert found
    return found[1]


# --- the CPU ----------------------------------------------------------------------------------------------------------


def test_uv_takes_what_detect_recommends_for_this_cpu(env: Path, served: Served) -> None:
    best = build_torchvision("detect", "--python", env, "--json").json()["best"]
    cpu = parse(best["variant"]).isa if best else None
    found = uv(env, f"{served.url}simple")
    assert found.label == (told_apart(cpu) if cpu in ISAS else "plain"), found.line
    assert list(env.parent.parent.glob("lib/python3*/site-packages/torchvision-0.21.0.dist-info"))


TABLE = [
    ("x86-64-v2", V2, "plain"),
    ("x86-64-v3", V3, "avx2"),
    ("x86-64-v4", V4, "avx512"),
    ("x86-64-v4 with VNNI", f"{V4} avx512_vnni", "avx512"),
    ("x86-64-v4 with VNNI and BF16", f"{V4} avx512_vnni avx512_bf16", "avx512"),
]


@pytest.mark.parametrize(("name", "words", "label"), TABLE, ids=[row[0] for row in TABLE])
def test_each_level_of_x86_64_gets_its_wheel(
    name: str,
    words: str,
    label: str,
    env: Path,
    served: Served,
    tmp_path: Path,
) -> None:
    found = uv(pretend(env, tmp_path, **flags(words)), f"{served.url}simple")
    assert found.label == label, f"{name}: {found.line or found.log[-2000:]}"
    end = "" if label == "plain" else f"-{label}"
    python = "py3-none" if label == "plain" else f"cp{PYTHON}-cp{PYTHON}"
    assert found.line.endswith(
        f"Selecting: torchvision==0.21.0 [compatible] (torchvision-0.21.0-{python}-manylinux_2_28_x86_64{end}.whl)"
    )


@pytest.mark.parametrize("name", ["haswell", "zen2", "a100", "h100", "b200", "l40s"])
def test_uv_and_detect_agree_on_the_cpus_of_recorded_machines(
    name: str,
    env: Path,
    served: Served,
    tmp_path: Path,
) -> None:
    best = recommended(name)
    assert best is not None
    found = uv(pretend(env, tmp_path, **flags(recorded_flags(name))), f"{served.url}simple", "--dry-run")
    assert found.label == told_apart(best.isa), found.line


def test_without_the_preview_feature_uv_takes_the_plain_wheel(env: Path, served: Served) -> None:
    assert uv(env, f"{served.url}simple", preview=False).label == "plain"


def test_pip_takes_the_plain_wheel_and_from_a_variants_own_index_that_variant(
    env: Path,
    served: Served,
    site: Path,
) -> None:
    done = pip(env, "--index-url", f"{served.url}simple", "torchvision")
    assert done.returncode == 0, done.stderr
    (packages,) = env.parent.parent.glob("lib/python3*/site-packages")
    assert not list(packages.glob("torchvision-*.dist-info/variant.json"))
    for isa in ISAS:
        done = pip(env, "--force-reinstall", "--index-url", f"{served.url}cpu-{isa}/simple", "torchvision")
        assert done.returncode == 0, done.stderr
        (descriptor,) = packages.glob("torchvision-*.dist-info/build_torchvision.json")
        assert json.loads(descriptor.read_text())["variant"] == variant(isa)


def test_each_answer_that_lists_the_wheels_lists_the_metadata_with_its_hash(site: Path) -> None:
    (page,) = (site / "simple/torchvision").glob("*-variants.json")
    digest = sha256(page.read_bytes()).hexdigest()
    assert f'href="{page.name}#sha256={digest}"' in (page.parent / "index.html").read_text()
    rows = json.loads((page.parent / "index.json").read_text())["files"]
    assert [row["hashes"] for row in rows if row["filename"] == page.name] == [{"sha256": digest}]
    data = json.loads(page.read_text())
    assert data["$schema"] == "https://variants-schema.wheelnext.dev/peps/850/v0.2.0.json"
    assert all(re.fullmatch(r"[0-9a-z_.]+", label) for label in data["variants"])
    assert set(data["providers"]) == set(data["default-priorities"]["namespace"])
    assert set(VariantsJson(data).variants) == {"avx2", "avx512"}
    listed = {row["filename"] for row in rows}
    assert {parse_file_name(name).label for name in listed if name.endswith(".whl")} == {None, "avx2", "avx512"}


def test_a_changed_wheel_and_changed_metadata_are_refused(env: Path, site: Path, tmp_path: Path) -> None:
    shutil.copytree(site, tmp_path / "changed")
    (page,) = (tmp_path / "changed/simple/torchvision").glob("*-variants.json")
    page.write_text(page.read_text().replace('"v4"', '"v3"'))
    with serve(tmp_path / "changed") as changed:
        found = uv(env, f"{changed.url}simple")
    assert found.file == "", found.line
    assert "ash mismatch" in found.log


# --- the GPU ----------------------------------------------------------------------------------------------------------

LABELS = {
    f"cu128_{sm}_{isa}": parse(f"torchvision-python{PYTHON}-cuda12_8-{sm}-{isa}")
    for sm in CORE_SMS
    for isa in ("avx2", "avx512")
}


@pytest.fixture(scope="module")
def gpu_served(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The nine SMs of the default matrix with two ISAs each, and the stock wheel. The wheels hold nothing."""
    folder = tmp_path_factory.mktemp("gpus")
    (cpu,) = site.glob("files/*-avx2.whl")
    model, wheels = admit(cpu), []
    for label, chosen in LABELS.items():
        wheels.append(listed(model, chosen, label, folder))
    write_site(wheels, folder / "site", stock=[read_stock(plain_wheel(folder / "stock"))])
    with serve(folder / "site") as found:
        yield found


def listed(model: Wheel, chosen: Variant, label: str, folder: Path) -> Wheel:
    text = variant_json(chosen).encode()
    path = plain_wheel(folder / "dist", f"manylinux_2_28_{chosen.platform}", label, text)
    stock = read_stock(plain_wheel(folder / "bare", f"manylinux_2_28_{chosen.platform}"))
    return replace(
        model,
        path=path,
        variant=chosen,
        file_name=parse_file_name(path.name),
        size=path.stat().st_size,
        sha256=sha256(path.read_bytes()).hexdigest(),
        metadata=stock.metadata,
        requires_python="",
        variant_json=text,
    )


def gencode(chosen: Variant) -> Sequence[str]:
    found = cuda_codegen(chosen)
    assert found
    return found.gencode


@pytest.mark.parametrize("sm", [sm for sm in gpus() if sm in CORE_SMS])
@pytest.mark.parametrize(("words", "isa"), [(V3, "avx2"), (V4, "avx512")], ids=["v3", "v4"])
def test_each_gpu_gets_device_code_that_is_its_own(
    sm: str,
    words: str,
    isa: str,
    env: Path,
    gpu_served: Served,
    tmp_path: Path,
) -> None:
    """Variants of one device code (sm120 and sm121, sm100 and sm103) are one wheel under two names: either will do."""
    wanted = parse(f"torchvision-python{PYTHON}-cuda12_8-{sm}-{isa}")
    found = uv(
        pretend(env, tmp_path, **flags(words)),
        f"{gpu_served.url}simple",
        "--dry-run",
        NV_VARIANT_PROVIDER_FORCE_SM_ARCH=gpus()[sm].capability,
        NV_VARIANT_PROVIDER_FORCE_CUDA_DRIVER_VERSION="13.0",
    )
    codegen = cuda_codegen(wanted)
    assert codegen
    if codegen.kind == "ptx":
        assert found.label == "plain", f"uv takes PTX across majors now: {found.line}"
        return
    assert found.label in LABELS, found.line or found.log[-2000:]
    taken = LABELS[str(found.label)]
    assert (gencode(taken), taken.isa) == (gencode(wanted), isa), found.line


def test_a_gpu_that_no_variant_serves_gets_the_plain_wheel(env: Path, gpu_served: Served, tmp_path: Path) -> None:
    python = pretend(env, tmp_path, **flags(V4))
    pretended = {"NV_VARIANT_PROVIDER_FORCE_SM_ARCH": "7.5", "NV_VARIANT_PROVIDER_FORCE_CUDA_DRIVER_VERSION": "13.0"}
    assert uv(python, f"{gpu_served.url}simple", "--dry-run", **pretended).label == "plain"
    assert uv(python, f"{gpu_served.url}simple", "--dry-run").label == "plain"


# --- Arm --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def arm_served(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("arm")
    (cpu,) = site.glob("files/*-avx2.whl")
    model = admit(cpu)
    wheels = [
        listed(model, parse(f"torchvision-python{PYTHON}-cpu-{isa}"), isa, folder) for isa in ("armv8_2", "armv9")
    ]
    stock = read_stock(plain_wheel(folder / "stock", "manylinux_2_28_aarch64"))
    write_site(wheels, folder / "site", stock=[stock])
    with serve(folder / "site") as found:
        yield found


ARM = {
    "graviton2": "armv8_2",
    "graviton3": "armv8_2",
    "graviton4": "armv8_2",  # uv knows no version above 8.4a: armv9 is asked for by name
    "orin": "plain",  # nor other cores than Neoverse N1, N2, V1 and V2
    "dgx-spark": "plain",
}


@pytest.mark.parametrize(("name", "label"), ARM.items(), ids=list(ARM))
def test_what_uv_takes_on_arm(name: str, label: str, env: Path, arm_served: Served, tmp_path: Path) -> None:
    text = record(name)["files"]["/proc/cpuinfo"]
    implementers = re.findall(r"^CPU implementer\s*:\s*(\S+)", text, re.MULTILINE)
    parts = re.findall(r"^CPU part\s*:\s*(\S+)", text, re.MULTILINE)
    cores = sorted(set(zip(implementers, parts, strict=True)))
    capabilities = (1 << 32) - 1  # all: what uv decides by is the core
    answers = {"kind": "linux_aarch64", "cores": cores, "hwcaps": [capabilities, capabilities, 0, 0]}
    python = pretend(env, tmp_path, arch="aarch64", cpu_info={"detected": answers})
    found = uv(python, f"{arm_served.url}simple", "--dry-run")
    assert found.label == label, found.line or found.log[-2000:]


def test_uv_is_the_first_that_has_variants() -> None:
    done = subprocess.run([find_uv_bin(), "--version"], capture_output=True, text=True, check=True)
    version = re.search(r"(\d+)\.(\d+)\.(\d+)", done.stdout)
    assert version
    assert tuple(map(int, version.groups())) >= (0, 13, 9), os.fspath(find_uv_bin())

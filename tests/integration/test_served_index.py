"""An index behind a plain file server: pip, uv and our own `install` work against it, and refuse what was changed."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from _sealed import sealed
from _serve import Served, serve
from _wheels import pack
from conftest import build_torchvision
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from test_audit import SOURCE
from test_index import keys
from uv import find_uv_bin

from build_torchvision.wheel import archive

pytestmark = [
    pytest.mark.loopback,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the wheels made from bytes hold x86-64 code"),
]
PYTHON = f"{sys.version_info.major}{sys.version_info.minor}"
ISAS = ("avx2", "avx512", "avx512vnni", "avx512bf16")
PLAIN = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "UV_", "VIRTUAL_ENV"))}


def variant(isa: str) -> str:
    return f"torchvision-python{PYTHON}-cpu-{isa}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    for isa in ISAS:
        sealed(folder / "dist", variant(isa))
    ran = build_torchvision("index", folder / "dist", "--out", folder / "site", "--json")
    assert ran.code == 0, ran.err
    assert [row["variant"] for row in ran.json()] == sorted(map(variant, ISAS))
    return folder / "site"


@pytest.fixture
def served(site: Path) -> Iterator[Served]:
    with serve(site) as found:
        yield found


def pip(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [python, "-m", "pip", "install", "--isolated", "--no-deps", "--no-cache-dir", "--no-input", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=PLAIN)


def uv(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [find_uv_bin(), "pip", "install", "--no-config", "--no-cache", "--no-deps", "--python", python]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, env=PLAIN)


def installed(python: Path) -> str | None:
    (packages,) = python.parent.parent.glob("lib/python3*/site-packages")
    found = [path.name for path in packages.glob("torchvision-*.dist-info")]
    return re.sub(r"torchvision-(.*)\.dist-info", r"\1", found[0]) if found else None


# --- pip and uv -------------------------------------------------------------------------------------------------------


def test_pip_takes_the_one_variant_of_its_own_index(env: Path, served: Served) -> None:
    done = pip(env, "--index-url", f"{served.url}cpu-avx512/simple", "torchvision")
    assert done.returncode == 0, done.stderr
    assert installed(env) == "0.21.0+cpu.avx512"
    kinds = [path.rpartition(".")[2] for path in served.asked]
    assert kinds.index("metadata") < kinds.index("whl"), "the metadata beside the wheel was not used"


def test_pip_takes_an_exact_version_of_the_index_of_all(env: Path, served: Served) -> None:
    done = pip(env, "--index-url", f"{served.url}simple", "torchvision==0.21.0+cpu.avx2")
    assert done.returncode == 0, done.stderr
    assert installed(env) == "0.21.0+cpu.avx2"


def test_uv_takes_the_same(env: Path, served: Served) -> None:
    done = uv(env, "--default-index", f"{served.url}cpu-avx512/simple", "torchvision")
    assert done.returncode == 0, done.stderr
    assert installed(env) == "0.21.0+cpu.avx512"
    done = uv(env, "--default-index", f"{served.url}simple", "torchvision==0.21.0+cpu.avx2")
    assert done.returncode == 0, done.stderr
    assert installed(env) == "0.21.0+cpu.avx2"


@pytest.mark.parametrize("tool", [pip, uv])
def test_a_plain_name_in_the_index_of_all_gets_the_last_local_version(tool: object, env: Path, served: Served) -> None:
    """Why each variant has an index of its own: the README and the page say so."""
    option = "--index-url" if tool is pip else "--default-index"
    done = tool(env, option, f"{served.url}simple", "torchvision")  # type: ignore[operator]
    assert done.returncode == 0, done.stderr
    assert installed(env) == "0.21.0+cpu.avx512vnni"


@pytest.fixture
def tampered(site: Path, tmp_path: Path) -> Iterator[Served]:
    """The same site, with a whole wheel in the place of each, its RECORD right, and one line of Python more."""
    folder = tmp_path / "tampered"
    shutil.copytree(site, folder)
    for path in folder.glob("files/*.whl"):
        tree = archive.unpack(path, tmp_path / path.stem)
        (tree / "torchvision/__init__.py").write_text("import os\n")
        pack(tree, path)
    with serve(folder) as found:
        yield found


def test_a_tampered_wheel_is_refused_by_all_three(env: Path, tampered: Served) -> None:
    done = pip(env, "--index-url", f"{tampered.url}cpu-avx2/simple", "torchvision")
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr
    done = uv(env, "--default-index", f"{tampered.url}cpu-avx2/simple", "torchvision")
    assert done.returncode != 0
    assert "Hash mismatch" in done.stderr
    ran = build_torchvision("install", "cpu-avx2", "--from", tampered.url, "--python", env, "--no-deps")
    assert ran.code == 1
    assert "It is not the file that the index lists" in ran.err
    assert installed(env) is None


# --- our own install --------------------------------------------------------------------------------------------------


def test_install_takes_what_detect_recommends(env: Path, served: Served) -> None:
    best = build_torchvision("detect", "--python", env, "--json").json()["best"]["variant"]
    ran = build_torchvision("install", "--from", served.url, "--python", env, "--no-deps", "--json")
    assert ran.code == 0, ran.err
    rows = ran.json()["wheels"]
    cpu = best if "-cpu-" in best else rows[0]["variant"]
    assert rows[0]["variant"] == cpu
    assert installed(env) == rows[0]["version"]
    assert len(rows) == len(ISAS)


def test_install_says_what_it_chose_and_why_and_a_dry_run_changes_nothing(env: Path, served: Served) -> None:
    ran = build_torchvision("install", "cpu-avx2", "--from", served.url, "--python", env.parent.parent, "--dry-run")
    assert ran.code == 0, ran.err
    assert "would install torchvision 0.21.0+cpu.avx2" in ran.out
    assert "why" in ran.out
    assert installed(env) is None


def test_install_refuses_a_torch_that_is_not_the_wheels(env: Path, served: Served) -> None:
    (packages,) = env.parent.parent.glob("lib/python3*/site-packages")
    (packages / "torch").mkdir()
    (packages / "torch/__init__.py").touch()
    (packages / "torch/version.py").write_text("__version__ = '2.7.1+cpu'\ncuda = None\n")
    info = packages / "torch-2.7.1+cpu.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.7.1+cpu\n")
    ran = build_torchvision("install", "--from", served.url, "--python", env, "--no-deps")
    assert ran.code == 3
    assert "goes with torch==2.6.0, and torch 2.7.1+cpu is installed" in ran.err
    assert installed(env) is None


def test_install_takes_only_what_a_trusted_key_signed(env: Path, site: Path, tmp_path: Path) -> None:
    private, public = keys(tmp_path, "maker")
    _, stranger = keys(tmp_path, "stranger")
    done = build_torchvision("index", site / "files", "--out", tmp_path / "signed", "--sign", private)
    assert done.code == 0, done.err
    with serve(tmp_path / "signed") as signed:
        ask = ("install", "cpu-avx2", "--from", signed.url, "--python", env, "--no-deps", "--trust")
        ran = build_torchvision(*ask, stranger)
        assert (ran.code, installed(env)) == (1, None)
        ran = build_torchvision(*ask, public)
        assert (ran.code, installed(env)) == (0, "0.21.0+cpu.avx2"), ran.err


def test_an_address_that_is_no_index_is_refused(env: Path, site: Path) -> None:
    with serve(site / "files") as elsewhere:
        ran = build_torchvision("install", "--from", elsewhere.url, "--python", env)
        assert ran.code == 5
        assert "index.json" in ran.err
    ran = build_torchvision("install", "--from", elsewhere.url, "--python", env)
    assert ran.code == 5  # the server is gone


def test_a_wheel_for_every_python_is_taken_by_all_three(env: Path, tmp_path: Path) -> None:
    sealed(tmp_path / "dist", any_python=True, variant="torchvision-python313-cpu-avx2")
    ran = build_torchvision("index", tmp_path / "dist", "--out", tmp_path / "site")
    assert ran.code == 0, ran.err
    with serve(tmp_path / "site") as served:
        ran = build_torchvision("install", "--from", served.url, "--python", env, "--no-deps")
        assert (ran.code, installed(env)) == (0, "0.21.0+cpu.avx2"), ran.err
        assert not any(path.endswith("/index.json") for path in served.asked), served.asked
        for tool, option in ((pip, "--index-url"), (uv, "--default-index")):
            reinstall = "--force-reinstall" if tool is pip else "--reinstall"
            done = tool(env, reinstall, option, f"{served.url}cpu-avx2/simple", "torchvision")
            assert done.returncode == 0, done.stderr


# --- what lies beside the wheels --------------------------------------------------------------------------------------


def test_sboms_meet_the_schema_and_list_what_is_bundled(site: Path) -> None:
    bills = sorted(site.glob("files/*.cdx.json"))
    assert len(bills) == len(ISAS)
    for path in bills:
        text = path.read_text()
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
        data = json.loads(text)
        with zipfile.ZipFile(path.with_name(path.name.removesuffix(".cdx.json"))) as wheel:
            held = {name.rpartition("/")[2] for name in wheel.namelist() if name.startswith("torchvision.libs/")}
        parts = {row["bom-ref"]: row for row in data["components"]}
        assert set(parts) == {*held, "torch"}
        known = {row["name"]: (row["version"], json.dumps(row["licenses"])) for row in data["components"]}
        assert known["libjpeg-turbo"][0] == "2.1.5"
        assert "IJG AND BSD-3-Clause AND Zlib" in known["libjpeg-turbo"][1]
        assert known["libpng"] == ("1.6.39", '[{"license": {"id": "libpng-2.0"}}]')
        source = data["metadata"]["component"]["externalReferences"][0]
        assert source["hashes"] == [{"alg": "SHA-256", "content": SOURCE}]
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text.replace('"library"', '"lib"')) is not None

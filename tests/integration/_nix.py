"""Real Nix for the tests: a store of their own below a temporary folder, no daemon, no sandbox, no network."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from build_torchvision.errors import ProcessFailed
from build_torchvision.flags import cuda_codegen, isa_flags
from build_torchvision.process import run
from build_torchvision.recipes.nix import SYSTEMS
from build_torchvision.variants import Variant, enumerate_variants, parse

ROOT = Path(__file__).parents[2]
COPIED = ("nix", "src", ".flox/pkgs", "tests/integration/nix", "default.nix", "release.nix")
NAMES = [str(variant) for variant in enumerate_variants()]
ERAS_FOLDER = "tests/integration/nix/eras"
ERAS = ("25.11", "26.05", "unstable", "skewed", "future")
"""Package sets that behave as nixpkgs of that time does; see the comment in each."""


def need_nix() -> None:
    """Install Debian's nix-bin where it is missing, as root or with sudo; skip where that cannot be done."""
    if shutil.which("nix-instantiate"):
        return
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    may = not sudo or (shutil.which("sudo") and run([*sudo, "true"], action="asking sudo", check=False).returncode == 0)
    if not (may and shutil.which("apt-get")):
        pytest.skip("needs nix-instantiate: install nix-bin (on Debian and Ubuntu, root's tests do that themselves)")
    for command in (["update", "-q"], ["install", "-y", "-q", "--no-install-recommends", "nix-bin"]):
        run([*sudo, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", *command], action="installing nix-bin")


@dataclass(frozen=True, kw_only=True)
class Nix:
    """A copy of this project's tree, as Flox makes one too, and the Nix store to evaluate and build it in."""

    tree: Path
    state: Path
    era: str = "26.05"
    outside: Path | None = None
    """Another package set's root than that of an era."""

    @property
    def nixpkgs(self) -> Path:
        """The package set's root."""
        return self.outside or self.tree / ERAS_FOLDER / self.era

    def of(self, era: str) -> Nix:
        """The same tree with the package set of `era`."""
        return replace(self, era=era)

    @property
    def env(self) -> dict[str, str]:
        return {
            **os.environ,
            "NIX_STORE_DIR": str(self.state / "store"),
            "NIX_STATE_DIR": str(self.state / "var"),
            "NIX_LOG_DIR": str(self.state / "log"),
            "NIX_CONF_DIR": str(self.state / "etc"),
            "NIX_PATH": f"nixpkgs={self.nixpkgs}",
            "HOME": str(self.state),
        }

    def run(self, *command: str | Path, timeout: float = 300) -> str:
        """Standard output; raises ProcessFailed with Nix's last lines."""
        return self._run(*command, timeout=timeout).stdout

    def _run(self, *command: str | Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        return run(command, action="running Nix", cwd=self.tree, env=self.env, timeout=timeout)

    def eval(self, expression: str) -> Any:
        """The value of `expression`, in which `root`, `pkgs` (x86_64-linux), `load` and `build` are known."""
        return json.loads(self._eval(expression).stdout)

    def warnings(self, expression: str) -> str:
        """What Nix says beside the value of `expression`."""
        return self._eval(expression).stderr

    def _eval(self, expression: str) -> subprocess.CompletedProcess[str]:
        text = f"""let root = {self.tree}; nixpkgs = {self.nixpkgs};
          pkgs = import nixpkgs {{ system = "x86_64-linux"; }};
          flox = import (root + "/tests/integration/nix/flox.nix");
          load = folder: catalogs: flox {{ inherit pkgs folder catalogs; }};
          build = arguments: import (root + "/nix/torchvision.nix") ({{ inherit pkgs; }} // arguments);
          in {expression}"""
        return self._run("nix-instantiate", "--eval", "--strict", "--json", "--expr", text)

    def refusal(self, expression: str) -> str:
        """What Nix says of an `expression` that must not evaluate."""
        with pytest.raises(ProcessFailed) as caught:
            self.eval(expression)
        return caught.value.problem

    def look(self, folder: Path | None = None) -> dict[str, Any]:
        """evaluate.nix: what reaches the build environment, per recipe of `folder`."""
        extra = ["--arg", "folder", str(folder)] if folder else []
        command = ["nix-instantiate", "--eval", "--strict", "--json", "tests/integration/nix/evaluate.nix"]
        found: dict[str, Any] = json.loads(
            self.run(*command, "--arg", "root", str(self.tree), "--arg", "nixpkgs", str(self.nixpkgs), *extra)
        )
        return found

    def copy(self, to: Path) -> Nix:
        """The same tree once more, for a fault to be planted in it."""
        return make(to, self.state).of(self.era)

    def plant(self, file: str, old: str, new: str) -> None:
        """Replace `old`, which must be there, in a file of the tree."""
        path = self.tree / file
        text = path.read_text("utf-8")
        assert old in text, f"{old!r} is not in {file}: the plant is out of date"
        path.write_text(text.replace(old, new), encoding="utf-8")


def make(tree: Path, state: Path) -> Nix:
    for name in COPIED:
        source, target = ROOT / name, tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "inputs.json"))
        else:
            shutil.copyfile(source, target)
    (state / "etc").mkdir(parents=True, exist_ok=True)
    (state / "etc" / "nix.conf").write_text("sandbox = false\nbuild-users-group =\nsubstituters =\n")
    return Nix(tree=tree, state=state)


def unlock(folder: Path) -> None:
    """Nix makes its store read-only; so that the temporary folder can be removed again."""
    subprocess.run(["chmod", "-R", "u+w", str(folder)], check=False)


def default(arguments: str = "") -> str:
    """This project's default.nix, as an expression."""
    return f'import (root + "/default.nix") {{ inherit nixpkgs; {arguments} }}'


def one_recipe(nix: Nix, *names: str) -> Path:
    """A folder of recipes with these alone."""
    folder = Path(tempfile.mkdtemp(dir=nix.tree / ".flox"))
    for name in names:
        text = (nix.tree / f".flox/pkgs/{name}.nix").read_text("utf-8")
        (folder / f"{name}.nix").write_text(text, encoding="utf-8")
    return folder


def arch_list(environment: dict[str, Any]) -> str | None:
    """TORCH_CUDA_ARCH_LIST when the build starts: the last of its exports."""
    found = re.findall(r'export TORCH_CUDA_ARCH_LIST="(.*)"', environment["preConfigure"])
    return found[-1] if found else None


def problems(variant: Variant, seen: dict[str, Any]) -> list[str]:
    """What of a recipe's evaluation is not as the variant's name says."""
    package, torch, codegen = seen["package"], seen["torch"], cuda_codegen(variant)
    flags, arches = " ".join(isa_flags(variant)), codegen.arch_list if codegen else None
    found = []

    def same(what: str, is_: object, should: object) -> None:
        if is_ != should:
            found.append(f"{what} is {is_!r}, not {should!r}")

    for who, environment in (("torchvision", package), ("torch", torch)):
        same(f"{who}'s system", environment["system"], SYSTEMS[variant.platform])
        same(f"{who}'s architecture list", arch_list(environment), arches)
        if not f" {environment['before']} ".endswith(f" {flags} "):
            found.append(f"{who}'s NIX_CFLAGS_COMPILE_BEFORE is {environment['before']!r}, without {flags!r}")
        if "-m" in environment["after"]:
            found.append(f"{who}'s NIX_CFLAGS_COMPILE outdoes the source's own flags: {environment['after']!r}")
        if "MAX_JOBS=$NIX_BUILD_CORES" not in environment["preConfigure"]:
            found.append(f"{who} does not limit its jobs by NIX_BUILD_CORES")
        same(f"{who}'s gpuArch", environment["gpuArch"], arches)
        same(f"{who}'s cpuISA", environment["cpuISA"], variant.isa)
        same(f"{who}'s cudaVersion", environment["cudaVersion"], variant.cuda)
    base = codegen.arch_list.removesuffix("+PTX") if codegen else ""
    same("the package set's capabilities", torch["arches"], base)
    if codegen:
        number = base.replace(".", "")
        gencode = f"-gencode=arch=compute_{number},code=sm_{number}"
        gencode += f" -gencode=arch=compute_{number},code=compute_{number}" if codegen.ptx else ""
        for library in ("nccl", "magma"):
            same(library, seen[library], [gencode])
        same("the toolkit", torch["toolkit"], variant.cuda)
        nvcc = [f"-gencode={option}" for option in codegen.gencode] if codegen.kind == "ptx" else []
        same("NVCC_FLAGS", re.findall(r'NVCC_FLAGS="(.*)"', package["preConfigure"]), [" ".join(nvcc)] if nvcc else [])
        same("FORCE_CUDA", re.findall(r"FORCE_CUDA=(\d)", package["preConfigure"])[-1:], ["1"])
    if not re.search(r'TORCHVISION_INCLUDE="\S+-libwebp-\S+:\$TORCHVISION_INCLUDE"', package["preConfigure"]):
        found.append("it is built without WebP")
    same("pname", package["pname"], str(variant))
    same("name", package["name"], f"{variant}-{package['version']}")
    same("codegenKind", package["codegenKind"], codegen.kind if codegen else None)
    same("platforms", package["meta"]["platforms"], [SYSTEMS[variant.platform]])
    same("broken", package["meta"]["broken"], False)
    same("imports", package["pythonImportsCheck"], ["torchvision", "torchvision.ops", "torchvision.io"])
    if variant.gpu and variant.gpu.products[0] not in package["meta"]["description"]:
        found.append("the description does not name the GPU")
    if torch["drvPath"] not in package["propagated"]:
        found.append("the torch that it names is not the one that it is built with")
    return found


def sharing(looked: dict[str, Any]) -> list[str]:
    """Where a torch is built more than once, or shared by variants that are compiled differently (trap 3)."""
    by_code: dict[tuple[str | None, tuple[str, ...], str | None], set[str]] = {}
    for name, seen in looked.items():
        variant = parse(name)
        codegen = cuda_codegen(variant)
        key = (codegen.arch_list if codegen else None, isa_flags(variant), variant.cuda)
        by_code.setdefault(key, set()).add(seen["torch"]["drvPath"])
    found = [f"{key} has {len(paths)} torches" for key, paths in by_code.items() if len(paths) != 1]
    every = [path for paths in by_code.values() for path in paths]
    return found + ([] if len(every) == len(set(every)) else ["variants of different code share a torch"])

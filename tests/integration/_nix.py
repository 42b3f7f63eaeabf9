"""Real Nix for the tests: a store of their own below a temporary folder, no daemon, no sandbox, no network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from build_torchvision.errors import ProcessFailed
from build_torchvision.process import run

ROOT = Path(__file__).parents[2]
COPIED = ("nix", "src", ".flox/pkgs", "tests/integration/nix", "default.nix", "release.nix")
MIRROR = "tests/integration/nix/nixpkgs"


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

    @property
    def nixpkgs(self) -> Path:
        return self.tree / MIRROR

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
        return run(command, action="running Nix", cwd=self.tree, env=self.env, timeout=timeout).stdout

    def eval(self, expression: str) -> Any:
        """The value of `expression`, in which `root`, `pkgs` (x86_64-linux) and `load` are known."""
        text = f"""let root = {self.tree}; nixpkgs = {self.nixpkgs};
          pkgs = import nixpkgs {{ system = "x86_64-linux"; }};
          flox = import (root + "/tests/integration/nix/flox.nix");
          load = folder: catalogs: flox {{ inherit pkgs folder catalogs; }};
          build = arguments: import (root + "/nix/torchvision.nix") ({{ inherit pkgs; }} // arguments);
          in {expression}"""
        return json.loads(self.run("nix-instantiate", "--eval", "--strict", "--json", "--expr", text))

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
        return make(to, self.state)

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

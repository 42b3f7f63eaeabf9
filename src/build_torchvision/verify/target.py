"""Where a package is run: an interpreter that has torch, and folders laid over its packages for the time of a run."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from build_torchvision.errors import BadInput, BuildTorchvisionError, MissingInput
from build_torchvision.process import run
from build_torchvision.wheel import archive

BESIDE = {"numpy": "numpy", "PIL": "pillow"}  # what the probe imports beside torch: module -> package
_START = """\
import runpy, sys
mark = sys.argv.index("--")
sys.path[:0] = sys.argv[1:mark]
sys.argv[:] = sys.argv[mark + 1 :]
if sys.argv[0].endswith(".py"):
    runpy.run_path(sys.argv[0], run_name="__main__")
else:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
_FACTS = """\
import importlib.metadata, importlib.util, json, sys, sysconfig

def site(name):
    spec = importlib.util.find_spec(name)
    return spec.submodule_search_locations[0] if spec and spec.submodule_search_locations else None

def version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None

print(json.dumps({
    "python": "%d%d" % sys.version_info[:2] + ("t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""),
    "folders": {name: site(name) for name in ("torch", "torchvision", "numpy", "PIL", "pytest", "scipy")},
    "torchvision": version("torchvision"),
}))
"""


@dataclass(frozen=True, kw_only=True)
class Place:
    """`over` are folders searched before the interpreter's own packages; `env` are variables added for its runs."""

    python: Path
    over: tuple[Path, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)

    def command(self, program: str | Path, *arguments: str | Path) -> list[str | Path]:
        """Run a script (its path ends in .py) or a module there, isolated from the user's own Python settings."""
        return [self.python, "-I", "-c", _START, *self.over, "--", program, *arguments]

    def under(self, **variables: str) -> Place:
        """The same place with more environment variables."""
        return replace(self, env={**self.env, **variables})


@dataclass(frozen=True, kw_only=True)
class PythonTarget:
    """An existing environment: its interpreter, Python ("312"), the folder that holds torch/, and what else it has.

    `torchvision` is the version of the one installed there, None without.
    """

    python: Path
    version: str
    site: Path
    torchvision: str | None
    modules: frozenset[str]


def existing(given: Path) -> PythonTarget:
    """The environment of an interpreter, or of a folder with bin/python. It is asked, and nothing in it is imported.

    Raises BadInput where there is none or it has no torch, MissingInput naming what the checks need and it lacks.
    """
    action = f"Verify in the environment of {given}"
    python = given / "bin" / "python" if given.is_dir() else given
    if not python.is_file():
        raise BadInput(action, f"{python} is no interpreter.", "Name one, such as --python .venv/bin/python.")
    try:
        done = run([python.absolute(), "-I", "-c", _FACTS], action=action, timeout=60)
        facts = json.loads(done.stdout)
    except (BuildTorchvisionError, OSError, ValueError) as error:
        raise BadInput(action, f"it does not run ({error}).", "Name a working interpreter with --python.") from error
    folders = facts["folders"]
    if folders["torch"] is None:
        raise BadInput(action, "it has no torch.", "Name an environment that has it, or leave --python out.")
    lacking = [package for module, package in BESIDE.items() if folders[module] is None]
    if lacking:
        raise MissingInput(
            action,
            f"it lacks {' and '.join(lacking)}, which the checks compare with.",
            f"Install {' '.join(lacking)} there, or leave --python out for an environment of its own.",
        )
    return PythonTarget(
        python=python.absolute(),
        version=facts["python"],
        site=Path(folders["torch"]).parent,
        torchvision=facts["torchvision"],
        modules=frozenset(name for name, folder in folders.items() if folder),
    )


@contextmanager
def laid_over(wheel: Path, environment: PythonTarget) -> Iterator[Place]:
    """`wheel` unpacked into a temporary folder over `environment`, which is left as it is. Raises BadInput."""
    with tempfile.TemporaryDirectory(prefix="verify-") as scratch:
        site = archive.unpack(wheel, Path(scratch, "site"))
        if any(site.glob("*.data")):
            raise BadInput(f"Verify {wheel.name} in place", "it holds a .data folder.", "Leave --python out.")
        yield Place(python=environment.python, over=(site,))

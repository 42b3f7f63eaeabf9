"""Find or install a Python, and fill environments with torch: in the cache's file system, for the time of a command."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from build_torchvision.errors import BuildTorchvisionError, CannotWrite, FetchFailed, MissingInput
from build_torchvision.inputs.cache import ENVIRONMENT, cache_dir
from build_torchvision.inputs.programs import uv as uv_program
from build_torchvision.process import TAIL_LINES, run
from build_torchvision.progress import waiting
from build_torchvision.verify.package import parse_file_name
from build_torchvision.verify.target import BESIDE
from build_torchvision.writing import writing

TORCH_BYTES = 6 << 30
"""Free space to ask for before torch and its CUDA libraries are fetched: 5 GB unpacked, and uv's own files."""
FULL = 64 << 20  # bytes; with less left after a failure, the disk is what failed
ANOTHER_DISK = f"Free space there, or set {ENVIRONMENT} and UV_CACHE_DIR to folders on a larger disk."
ATTEMPTS = 3
NETWORK_FAILED = 2  # uv's exit code for what no other requirement would mend; 1 stands for requirements (its reference)
_PYTHON_FACTS = "import sys, sysconfig; print(*sys.version_info[:2], sysconfig.get_config_var('Py_GIL_DISABLED') or 0)"


def find_python(python: str, *, install: bool = True) -> Path:
    """An interpreter that really runs, for "313" or "313t": this one, PATH's, pyenv's or uv's.

    Where there is none, uv installs it among its own Pythons, unless `install` is False. Raises MissingInput when that
    fails.
    """
    version = f"{python[0]}.{python[1:]}"
    for candidate in _candidates(version):
        if _runs(candidate, version):
            return candidate
    action = f"finding Python {version}"
    failure = "no such interpreter is on this machine."
    if install:
        done = run([uv_program(), "python", "install", "-q", version], action=action, check=False, timeout=1800)
        found = _uv_python(version)
        if done.returncode == 0 and found is not None and _runs(found, version):
            return found
        failure = f"no such interpreter is on this machine, and uv could not install one ({cause(done.stderr)})."
    raise MissingInput(
        action,
        failure,
        f"Install Python {version}, name an environment that has it with --python, or read the files alone: --static.",
    )


def _candidates(version: str) -> Iterator[Path]:
    yield Path(sys.executable)
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        path = Path(folder, f"python{version}")
        if folder and path.is_file():
            yield path
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted(root.glob(f"versions/{version}*/bin/python{version}"))
    found = _uv_python(version)
    if found is not None:
        yield found


def _uv_python(version: str) -> Path | None:
    found = run([uv_program(), "python", "find", "--no-project", version], action="finding Python", check=False)
    return Path(found.stdout.strip()) if found.returncode == 0 and found.stdout.strip() else None


def _runs(candidate: Path, version: str) -> bool:
    """A shim of a version manager exists for versions that are not installed, so each candidate is asked."""
    try:
        done = run([candidate, "-I", "-c", _PYTHON_FACTS], action="asking Python's version", check=False, timeout=30)
    except (BuildTorchvisionError, OSError):
        return False
    wanted = [*version.removesuffix("t").split("."), "1" if version.endswith("t") else "0"]
    return done.returncode == 0 and done.stdout.split() == wanted


@contextmanager
def environments_folder() -> Iterator[Path]:
    """A folder for the environments of one command, in the cache and gone afterwards.

    It is in the cache's file system, where uv can link files from its own cache instead of copying 5 GB; a temporary
    folder may be memory. What a killed command left there is swept. Raises CannotWrite.
    """
    root = cache_dir() / "environments"
    with writing("Make an environment", root, hint=ANOTHER_DISK):
        _made(root)
    for left in root.glob("verify-*"):
        _sweep(left)
    with (
        tempfile.TemporaryDirectory(prefix="verify-", dir=root, ignore_cleanup_errors=True) as name,
        FileLock(Path(name, "in-use.lock")),
    ):
        yield Path(name)


def _sweep(left: Path) -> None:
    """Remove the folder of a command that is gone: nobody holds its lock."""
    with suppress(Timeout, OSError), FileLock(left / "in-use.lock", timeout=0):
        shutil.rmtree(left, ignore_errors=True)


@contextmanager
def environment(
    wheel: Path,
    *,
    torch_requirement: str,
    python: str = "313",
    cache: Path | None = None,
    interpreter: Path | None = None,
) -> Iterator[Path]:
    """A virtual environment holding torch, numpy, Pillow and `wheel`; its folder, gone afterwards.

    `torch_requirement` is "==2.6.0", a whole requirement, or a torch wheel's path; `interpreter` is an emulated Python
    where the machine's own will not do. With `cache`, a folder, the environment is kept there for the next wheel of the
    same Python and torch, locked while in use, and only the wheel is installed anew.
    Raises MissingInput without an interpreter or such a torch, FetchFailed or CannotWrite where torch cannot be had:
    none of these says anything of the wheel. ProcessFailed means that the wheel itself cannot be installed.
    """
    kind = interpreter.name if interpreter else "native"
    interpreter = interpreter or find_python(python)
    torch = torch_requirement if re.match(r"[\w/.~]", torch_requirement) else f"torch{torch_requirement}"
    if cache is None:
        with (
            environments_folder() as folder,
            environment(
                wheel, torch_requirement=torch_requirement, python=python, cache=folder, interpreter=interpreter
            ) as venv,
        ):
            yield venv
        return
    venv = cache / f"{python}-{kind}-{re.sub(r'[^A-Za-z0-9.]+', '_', torch)}"
    with (
        writing(f"Make an environment for {wheel.name}", cache, hint=ANOTHER_DISK),
        FileLock(f"{_made(cache) / venv.name}.lock"),
        tempfile.TemporaryDirectory(prefix="wheel-", dir=cache) as scratch,
    ):
        if not (venv / "complete").exists():
            shutil.rmtree(venv, ignore_errors=True)
            fill(venv, interpreter, torch, action=f"installing {torch} for Python {python}")
            (venv / "complete").touch()
        plain = Path(scratch, parse_file_name(wheel.name).plain)
        plain.symlink_to(wheel.resolve())  # an installer that knows no variants refuses a file name with a label
        _install_wheel(venv, plain, wheel.name)
        yield venv


def _install_wheel(venv: Path, plain: Path, name: str) -> None:
    """Install the wheel with nothing but what is there: its requirements must hold beside this torch."""
    action = f"installing {name}"
    command: list[str | Path] = [
        uv_program(),
        "pip",
        "install",
        "-q",
        "--offline",
        "--python",
        venv / "bin" / "python",
    ]
    try:
        run([*command, "--reinstall-package", "torchvision", plain], action=action, env=_environ(), timeout=900)
    except BuildTorchvisionError:
        _require_space(action, FULL, venv)
        raise


def fill(venv: Path, interpreter: Path, torch: str, *wanted: str | Path, action: str) -> None:
    """Install torch, numpy, Pillow and what else is `wanted` (uv's options too) into `venv`, made where it is not.

    What was fetched stays in uv's cache, so another attempt goes on from there. Raises CannotWrite where the disk is
    too full (before anything is fetched, if it shows), FetchFailed where the network failed in each of ATTEMPTS, and
    MissingInput where there is no such torch.
    """
    uv, env = uv_program(), _environ()
    venv.parent.mkdir(parents=True, exist_ok=True)
    if not venv.exists():
        made = run(
            [uv, "venv", "-q", "--no-project", "--python", interpreter, venv], action=action, env=env, check=False
        )
        if made.returncode:
            _require_space(action, FULL, venv)
            problem = f"no environment can be made in {venv.parent}: {cause(made.stderr)}."
            raise MissingInput(action, problem, "Check the folder, or name an environment with --python.")
    command: list[str | Path] = [uv, "pip", "install", "-q", "--python", venv / "bin" / "python"]
    command += [torch, *BESIDE.values(), *wanted]
    offline = run([*command, "--offline"], action=action, env=env, check=False, timeout=3600)
    if offline.returncode == 0:
        return  # all of it was in uv's cache
    _require_space(action, TORCH_BYTES, venv)
    for attempt in range(1, ATTEMPTS + 1):
        with waiting(f"Fetch and install {torch} and what it needs, up to 5 GB"):
            done = run(command, action=action, env=env, check=False, timeout=3600)
        if done.returncode == 0:
            return
        _require_space(action, FULL, venv)
        if done.returncode != NETWORK_FAILED:
            problem = f"it cannot be installed: {cause(done.stderr)}."
            raise MissingInput(action, problem, "Check the version and the Python, or name an environment: --python.")
        if attempt == ATTEMPTS:
            tail = "\n".join(done.stderr.strip().splitlines()[-TAIL_LINES:])
            raise FetchFailed(
                action,
                f"the network failed in {ATTEMPTS} attempts: {cause(done.stderr)}.\n{tail}\n",
                "Check the network and type the same again: what was fetched is kept.",
            )


def cause(text: str) -> str:
    """The innermost cause that uv names, for people to read first; its first line without any."""
    causes = re.findall(r"^\s*(?:cause|Caused by):\s*(.+)$", text, re.MULTILINE | re.IGNORECASE)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return str(causes[-1] if causes else lines[0] if lines else "no reason given").rstrip(".")


def _require_space(action: str, wanted: int, venv: Path) -> None:
    """Raises CannotWrite where a file system that an installation fills has less than `wanted` bytes free."""
    folders = [venv.parent, Path(os.environ.get("UV_CACHE_DIR") or _uv_cache())]
    for folder in folders:
        with suppress(OSError):
            free = shutil.disk_usage(_existing_parent(folder)).free
            if free < wanted:
                raise CannotWrite(
                    action,
                    f"no space is left for torch: {folder} has {free / 2**30:.1f} GiB free, and "
                    f"{wanted / 2**30:.1f} GiB are needed.",
                    ANOTHER_DISK,
                )


def _uv_cache() -> str:
    return run([uv_program(), "cache", "dir"], action="asking uv for its cache", check=False).stdout.strip() or "."


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _existing_parent(folder: Path) -> Path:
    return next((path for path in (folder, *folder.parents) if path.exists()), Path("/"))


def _environ() -> dict[str, str]:
    """The environment of uv: no other environment is active, and a slow network is waited for."""
    hidden = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")
    patient = {"UV_HTTP_TIMEOUT": "120", "UV_HTTP_RETRIES": "5"}
    return {**patient, **{name: value for name, value in os.environ.items() if name not in hidden}}

"""Run a wheel beside its torch, in an environment of its own or in an existing one, and call every operator there."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from filelock import FileLock

from build_torchvision.compatibility import CodegenKind
from build_torchvision.errors import BuildTorchvisionError, MissingInput
from build_torchvision.inputs.emulator import CHOOSE_CPU, Emulator
from build_torchvision.inputs.programs import uv as uv_program
from build_torchvision.process import run
from build_torchvision.verify.checks import Check, Report
from build_torchvision.verify.gpu import VisibleGpu
from build_torchvision.verify.gpu_run import has_nvjpeg, on, run_on_gpu
from build_torchvision.verify.installed import InstalledTree
from build_torchvision.verify.libraries import CODECS
from build_torchvision.verify.package import Package, parse_file_name
from build_torchvision.verify.run_probe import digests, probe
from build_torchvision.verify.target import BESIDE, Place, PythonTarget, laid_over
from build_torchvision.verify.upstream import CPU_SUITE, Stock, gpu_suite, upstream_tests

SLOWER = 10  # how many times longer an emulated processor may take
_PYTHON_FACTS = "import sys, sysconfig; print(*sys.version_info[:2], sysconfig.get_config_var('Py_GIL_DISABLED') or 0)"


def find_python(python: str) -> Path:
    """An interpreter that really runs, for "313": this one, PATH, pyenv's or uv's. Raises MissingInput without one."""
    version = f"{python[0]}.{python[1:]}"
    for candidate in _candidates(version):
        if _runs(candidate, version):
            return candidate
    raise MissingInput(
        f"verifying with Python {version}",
        "no such interpreter is on this machine.",
        f"Type `uv python install {version}`, or verify the static part alone.",
    )


def _candidates(version: str) -> Iterator[Path]:
    yield Path(sys.executable)
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        path = Path(folder, f"python{version}")
        if folder and path.is_file():
            yield path
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted(root.glob(f"versions/{version}*/bin/python{version}"))
    found = run([uv_program(), "python", "find", "--no-project", version], action="finding Python", check=False)
    if found.returncode == 0 and found.stdout.strip():
        yield Path(found.stdout.strip())


def _runs(candidate: Path, version: str) -> bool:
    """A shim of a version manager exists for versions that are not installed, so each candidate is asked."""
    try:
        done = run([candidate, "-I", "-c", _PYTHON_FACTS], action="asking Python's version", check=False, timeout=30)
    except (BuildTorchvisionError, OSError):
        return False
    return done.returncode == 0 and done.stdout.split() == [*version.split("."), "0"]


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
    where the machine's own will not do. With `cache`, the environment is
    kept there for the next wheel of the same Python and torch, locked while in use, and only the wheel
    is installed anew.
    Raises MissingInput without an interpreter, ProcessFailed when something cannot be installed.
    """
    kind = interpreter.name if interpreter else "native"
    interpreter = interpreter or find_python(python)
    torch = torch_requirement if re.match(r"[\w/.~]", torch_requirement) else f"torch{torch_requirement}"
    with tempfile.TemporaryDirectory(prefix="verify-") as scratch:
        plain = Path(scratch, parse_file_name(wheel.name).plain)
        plain.symlink_to(wheel.resolve())  # an installer that knows no variants refuses a file name with a label
        if cache is None:
            venv = Path(scratch, "venv")
            _install(venv, interpreter, torch, plain)
            yield venv
            return
        venv = cache / f"verify-{python}-{kind}-{re.sub(r'[^A-Za-z0-9.]+', '_', torch)}"
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{venv}.lock"):
            if not (venv / "complete").exists():
                shutil.rmtree(venv, ignore_errors=True)
            _install(venv, interpreter, torch, plain)
            (venv / "complete").touch()
            yield venv


def _install(venv: Path, interpreter: Path, torch: str, wheel: Path) -> None:
    again = ("--reinstall-package", "torchvision")
    fill(venv, interpreter, torch, wheel, *again, action=f"installing {wheel.name} beside {torch}")


def fill(venv: Path, interpreter: Path, torch: str, *wanted: str | Path, action: str) -> None:
    """Install torch, numpy, Pillow and what else is `wanted` (uv's options too) into `venv`, made where it is not.

    Raises ProcessFailed when something cannot be installed.
    """
    uv = uv_program()
    env = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")}
    hint = "Check the network and the free disk space: torch takes up to 5 GB."
    if not venv.exists():
        run([uv, "venv", "-q", "--no-project", "--python", interpreter, venv], action=action, env=env)
    command: list[str | Path] = [uv, "pip", "install", "-q", "--python", venv / "bin" / "python"]
    run([*command, torch, *BESIDE.values(), *wanted], action=action, hint=hint, env=env, timeout=3600)


def probe_installed(tree: InstalledTree, *, timeout: float = 900) -> Report:
    """Call every operator of `tree` with the Python and the packages that it propagates. `timeout` in seconds.

    Raises MissingInput where it propagates no Python.
    """
    name = f"bin/python{tree.python[0]}.{tree.python[1:]}"
    python = next((root / name for root in tree.closure if (root / name).is_file()), None)
    if python is None:
        raise MissingInput(
            f"Call the operators of {tree.path}", f"it propagates no {name}.", "Verify the static part alone: --static."
        )
    place = Place(python=python, over=tuple(root / tree.site.relative_to(tree.path) for root in tree.closure))
    rows = probe(place, tree.codecs, timeout=timeout)
    return Report(variant=str(tree.claim() or tree.path.name), checks=tuple(row.check for row in rows))


def run_in_venv(
    wheel: Path,
    *,
    torch_requirement: str,
    python: str = "313",
    cache: Path | None = None,
    upstream: Path | None = None,
    emulator: Emulator | None = None,
    processors: Sequence[str] = (),
    time_box: float | None = None,
    gpu: tuple[VisibleGpu, CodegenKind] | None = None,
) -> Report:
    """Install `wheel` beside torch and call every operator; with `upstream`, a source tree, its operator tests too.

    With `emulator` all of it runs there: the operators on each of `processors`, whose results must be the same bits,
    and the tests on the first. With `gpu`, the CUDA operators are called too, and the tests are those that need CUDA.
    `time_box` ends the tests after so many seconds. A wheel that cannot be installed or loaded is a check that does not
    hold. Raises MissingInput without a Python.
    """
    interpreter = emulator.interpreter if emulator else None
    where = f", {emulator.platform} under {emulator.qemu.name}" if emulator else ""

    @contextmanager
    def installed() -> Iterator[tuple[Place, str, Stock]]:
        with environment(
            wheel, torch_requirement=torch_requirement, python=python, cache=cache, interpreter=interpreter
        ) as venv:
            place = Place(python=venv / "bin" / "python")
            said = f"beside torch{torch_requirement}, Python {python}{where}"
            yield place, said, Stock.of_torch(place, torch_requirement.removeprefix("=="))

    return _run_at(wheel, installed(), upstream, processors, time_box, gpu)


def run_in_place(
    wheel: Path,
    existing: PythonTarget,
    *,
    upstream: Path | None = None,
    gpu: tuple[VisibleGpu, CodegenKind] | None = None,
) -> Report:
    """As `run_in_venv`, in an environment that has torch already and that is left as it is."""

    @contextmanager
    def over() -> Iterator[tuple[Place, str, Stock]]:
        with laid_over(wheel, existing) as place:
            said = f"laid over {existing.python}, Python {existing.version}"
            yield place, said, Stock.installed(existing)

    return _run_at(wheel, over(), upstream, (), None, gpu)


def _run_at(
    wheel: Path,
    where: AbstractContextManager[tuple[Place, str, Stock]],
    upstream: Path | None,
    processors: Sequence[str],
    time_box: float | None,
    gpu: tuple[VisibleGpu, CodegenKind] | None,
) -> Report:
    package = Package(wheel)
    codecs = package.descriptor.codec_names() if package.descriptor else tuple(CODECS)
    checks: list[Check] = []
    try:
        with where as (place, said, stock):
            checks.append(Check(name="installs", ok=True, detail=said, part="cpu"))
            seen: dict[str, dict[str, str]] = {}
            for processor in processors or (None,):
                there, label = (emulating(place, processor), f"runs on {processor}") if processor else (place, "runs")
                rows = probe(there, codecs, label=label, timeout=900 * (SLOWER if processors else 1))
                checks += (row.check for row in rows)
                seen[processor or ""] = digests(rows)
            if len(seen) > 1:
                checks.append(same_bits(seen))
            if gpu is not None:
                checks += run_on_gpu(place, package, *gpu)
            if upstream is not None and gpu is not None:
                there = on(place, gpu[0], jit=gpu[1] == "ptx")
                checks.append(upstream_tests(upstream, there, gpu_suite(nvjpeg=has_nvjpeg(package)), stock))
            elif upstream is not None:
                there = emulating(place, processors[0]) if processors else place
                checks.append(upstream_tests(upstream, there, CPU_SUITE, stock, time_box=time_box))
    except MissingInput:
        raise
    except BuildTorchvisionError as error:
        problem = f"{error.problem} {error.hint}"
        checks.append(Check(name="runs" if checks else "installs", ok=False, detail=problem, part="cpu"))
    return Report(variant=package.descriptor.variant if package.descriptor else wheel.name, checks=tuple(checks))


def emulating(place: Place, processor: str) -> Place:
    """`place` on the processor that qemu calls so."""
    return place.under(**{CHOOSE_CPU: processor})


def same_bits(seen: Mapping[str, Mapping[str, str]]) -> Check:
    """Whether every processor (the keys) saw the same results, bit for bit."""
    (first, expected), *others = seen.items()
    problems = [
        f"{name}: {processor} gives other bits than {first}"
        for processor, found in others
        for name in sorted({*expected, *found})
        if found.get(name) != expected.get(name)
    ]
    if not expected:
        problems.append("nothing to compare")
    return Check.of(
        "same results", problems, f"{len(expected)} checks saw the same bits on {' and '.join(seen)}", part="cpu"
    )

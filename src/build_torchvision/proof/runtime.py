"""The runtime proof: a wheel installed beside its torch in a fresh environment, and every operator called there."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock
from uv import find_uv_bin

from build_torchvision.errors import BadInput, BuildTorchvisionError, MissingInput
from build_torchvision.inputs.emulator import CHOOSE_CPU, Emulator
from build_torchvision.process import run
from build_torchvision.proof.checks import Check, Proof
from build_torchvision.proof.installed import Installed
from build_torchvision.proof.libraries import CODECS
from build_torchvision.proof.package import Package, parse_file_name

PROBE = Path(__file__).with_name("_runtime_probe.py")
TIME_BOX = Path(__file__).with_name("_time_boxed_tests.py")
SLOWER = 10  # how many times longer an emulated processor may take
BESIDE = ("numpy", "pillow")
TEST_TOOLS = ("pytest>=8", "scipy")  # without scipy 60 tests are skipped
UPSTREAM_PASSES = 755
"""How many of upstream's operator tests pass on a CPU (0.21.0); the number may only grow."""
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
    found = run([find_uv_bin(), "python", "find", "--no-project", version], asked="finding Python", check=False)
    if found.returncode == 0 and found.stdout.strip():
        yield Path(found.stdout.strip())


def _runs(candidate: Path, version: str) -> bool:
    """A shim of a version manager exists for versions that are not installed, so each candidate is asked."""
    try:
        done = run([candidate, "-I", "-c", _PYTHON_FACTS], asked="asking Python's version", check=False, timeout=30)
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
    interpreter = interpreter or find_python(python)
    torch = torch_requirement if re.match(r"[\w/.~]", torch_requirement) else f"torch{torch_requirement}"
    with tempfile.TemporaryDirectory(prefix="verify-") as scratch:
        plain = Path(scratch, parse_file_name(wheel.name).plain)
        plain.symlink_to(wheel.resolve())  # an installer that knows no variants refuses a file name with a label
        if cache is None:
            venv = Path(scratch, "venv")
            _fill(venv, interpreter, torch, plain)
            yield venv
            return
        venv = cache / f"verify-{python}-{re.sub(r'[^A-Za-z0-9.]+', '_', torch)}"
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{venv}.lock"):
            if not (venv / "complete").exists():
                shutil.rmtree(venv, ignore_errors=True)
            _fill(venv, interpreter, torch, plain)
            (venv / "complete").touch()
            yield venv


def _fill(venv: Path, interpreter: Path, torch: str, wheel: Path) -> None:
    asked, uv = f"installing {wheel.name} beside {torch}", find_uv_bin()
    env = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")}
    remedy = "Check the network and the free disk space: torch takes up to 5 GB."
    if not venv.exists():
        run([uv, "venv", "-q", "--no-project", "--python", interpreter, venv], asked=asked, env=env)
    command: list[str | Path] = [
        uv,
        "pip",
        "install",
        "-q",
        "--python",
        venv / "bin" / "python",
        "--reinstall-package",
        "torchvision",
    ]
    run([*command, torch, *BESIDE, wheel], asked=asked, remedy=remedy, env=env, timeout=3600)


def probe(
    venv: Path, codecs: Collection[str], *, timeout: float = 900, processor: str | None = None
) -> tuple[tuple[Check, ...], dict[str, str]]:
    """Call every operator of the torchvision in `venv`; `codecs` are those it should have. `timeout` in seconds.

    `processor` is the one to emulate, in qemu's words. Returns the checks, and of each a digest of the results' bits.
    """
    return _probe([venv / "bin" / "python", "-I", PROBE], codecs, timeout, processor)


def probe_installed(tree: Installed, *, timeout: float = 900) -> Proof:
    """Call every operator of `tree` with the Python and the packages that it propagates. `timeout` in seconds.

    Raises MissingInput where it propagates no Python.
    """
    name = f"bin/python{tree.python[0]}.{tree.python[1:]}"
    python = next((root / name for root in tree.closure if (root / name).is_file()), None)
    if python is None:
        raise MissingInput(
            f"Call the operators of {tree.path}", f"it propagates no {name}.", "Verify the static part alone: --static."
        )
    folders = [str(root / tree.site.relative_to(tree.path)) for root in tree.closure]
    start = (
        f"import runpy, sys; sys.path[:0] = {folders!r}; del sys.argv[0]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    checks, _ = _probe([python, "-I", "-c", start, PROBE], tree.codecs, timeout)
    return Proof(variant=str(tree.claim() or tree.path.name), checks=checks)


def _probe(
    command: list[str | Path], codecs: Collection[str], timeout: float, processor: str | None = None
) -> tuple[tuple[Check, ...], dict[str, str]]:
    with tempfile.TemporaryDirectory(prefix="probe-") as scratch:
        results = Path(scratch, "results.jsonl")
        done = run(
            [*command, results, json.dumps({"codecs": sorted(codecs)})],
            asked="calling every operator",
            cwd=Path(scratch),  # not a folder with a torchvision/ of its own
            env=_emulating(processor),
            check=False,
            timeout=timeout,
        )
        text = results.read_text() if results.exists() else ""
        return read_results(text, done, f" on {processor}" if processor else ""), read_digests(text)


def _emulating(processor: str | None) -> dict[str, str]:
    return {**os.environ, **({CHOOSE_CPU: processor} if processor else {})}


def read_digests(text: str) -> dict[str, str]:
    """What the probe says of the bits that each check saw: check -> digest."""
    return {row["name"]: row["digest"] for row in map(json.loads, text.splitlines()) if row.get("digest")}


def read_results(text: str, done: subprocess.CompletedProcess[str], where: str = "") -> tuple[Check, ...]:
    """The probe's lines as checks. A probe that died becomes a failing check, with what it was doing."""
    checks: list[Check] = []
    doing = "starting"
    for line in text.splitlines():
        row = json.loads(line)
        if "start" in row:
            doing = row["start"]
        else:
            checks.append(Check(name=f"runs{where}: {row['name']}", ok=row["ok"], detail=row["detail"]))
            doing = "ending"
    if done.returncode not in (0, 1) or not checks or (done.returncode == 1 and all(check.ok for check in checks)):
        checks.append(Check(name=f"runs{where}: to the end", ok=False, detail=f"at {doing}: {_death(done)}"))
    return tuple(checks)


def _death(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode == -signal.SIGILL:
        return "stopped by SIGILL: the CPU here lacks an instruction of the package. Verify it on a CPU of its ISA."
    if done.returncode < 0:
        return f"stopped by {signal.Signals(-done.returncode).name}"
    return f"ended with exit code {done.returncode}: {' '.join(done.stderr.strip().splitlines()[-3:])}"


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
) -> Proof:
    """Install `wheel` beside torch and call every operator; with `upstream`, a source tree, its operator tests too.

    With `emulator` all of it runs there: the operators on each of `processors`, whose results must be the same bits,
    and the tests on the first. `time_box` ends the tests after so many seconds. A wheel that cannot be installed or
    loaded is a check that does not hold. Raises MissingInput without a Python.
    """
    package = Package(wheel)
    codecs = package.descriptor.get("codecs", tuple(CODECS))
    checks: list[Check] = []
    interpreter = emulator.interpreter if emulator else None
    where = f", {emulator.platform} under {emulator.qemu.name}" if emulator else ""
    try:
        with environment(
            wheel, torch_requirement=torch_requirement, python=python, cache=cache, interpreter=interpreter
        ) as venv:
            detail = f"beside torch{torch_requirement}, Python {python}{where}"
            checks.append(Check(name="installs", ok=True, detail=detail))
            seen: dict[str, dict[str, str]] = {}
            for processor in processors or (None,):
                found, digests = probe(venv, codecs, processor=processor, timeout=900 * (SLOWER if emulator else 1))
                checks += found
                seen[processor or ""] = digests
            if len(seen) > 1:
                checks.append(same_bits(seen))
            if upstream is not None:
                first = processors[0] if processors else None
                checks.append(upstream_tests(upstream, venv, time_box=time_box, processor=first))
    except MissingInput:
        raise
    except BuildTorchvisionError as error:
        checks.append(Check(name="runs" if checks else "installs", ok=False, detail=f"{error.obstacle} {error.remedy}"))
    return Proof(variant=str(package.descriptor.get("variant", wheel.name)), checks=tuple(checks))


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
    return Check.of("same results", problems, f"{len(expected)} checks saw the same bits on {' and '.join(seen)}")


def upstream_tests(
    source_root: Path,
    venv: Path,
    *,
    at_least: int = UPSTREAM_PASSES,
    timeout: float = 7200,
    time_box: float | None = None,
    processor: str | None = None,
) -> Check:
    """Run upstream's test_ops.py against the torchvision in `venv`: no failure, and at least `at_least` passes.

    `time_box`, in seconds, stops before all have run: then one must pass, and which ran is told. The tests are copied
    away first: in the source tree they would import its torchvision/, which has no operators.
    """
    tests = source_root / "test"
    if not (tests / "test_ops.py").is_file():
        raise BadInput(f"running the tests of {source_root}", "it has no test/test_ops.py.", "Give a source tree.")
    asked = "running upstream's operator tests"
    python = venv / "bin" / "python"
    with tempfile.TemporaryDirectory(prefix="upstream-") as scratch:
        root = Path(scratch)
        shutil.copytree(tests, root / "test", ignore=shutil.ignore_patterns("__pycache__", "*.mp4", "*.avi"))
        if (source_root / "pytest.ini").is_file():
            shutil.copyfile(source_root / "pytest.ini", root / "pytest.ini")
        run([find_uv_bin(), "pip", "install", "-q", "--python", python, *TEST_TOOLS], asked=asked)
        report = root / "report.xml"
        command: list[str | Path] = [
            python,
            "-I",
            *(("-m", "pytest") if time_box is None else (TIME_BOX, str(time_box))),
        ]
        command += ["test/test_ops.py", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
        limit = timeout if time_box is None else 2 * time_box + 1200
        done = run(command, asked=asked, cwd=root, env=_emulating(processor), check=False, timeout=limit)
        if not report.is_file():
            return Check(name="upstream tests", ok=False, detail=_death(done))
        return count_tests(report.read_text(), at_least if time_box is None else 1, which=time_box is not None)


def count_tests(report: str, at_least: int, *, which: bool = False) -> Check:
    """The verdict on a JUnit report; `which` names the functions that ran, and how many of their cases."""
    cases = list(ET.fromstring(report).iter("testcase"))
    bad = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skips = [skip for case in cases if (skip := case.find("skipped")) is not None]
    reasons = Counter(skip.get("message") or "no reason given" for skip in skips)
    why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    passed = len(cases) - len(bad) - len(skips)
    counts = f"{passed} passed, {len(bad)} failed, {len(skips)} skipped" + (f" ({why})" if why else "")
    problems = [f"{counts}: {case.get('classname')}::{case.get('name')} failed" for case in bad[:3]]
    if passed < at_least:
        problems.append(f"{counts}, where at least {at_least} should pass")
    if which:
        ran = Counter(
            f"{str(case.get('classname')).rpartition('.')[2]}.{str(case.get('name')).partition('[')[0]}"
            for case in cases
            if case.find("skipped") is None
        )
        counts += f"; what ran: {', '.join(f'{name} x {count}' for name, count in sorted(ran.items()))}"
    return Check.of("upstream tests", problems, counts)

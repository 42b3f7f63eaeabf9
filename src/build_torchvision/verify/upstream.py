"""Upstream's own tests, run against a package; what fails is tried with the stock package beside the same torch."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from build_torchvision.errors import BadInput, BuildTorchvisionError
from build_torchvision.facts import Release, releases
from build_torchvision.inputs.programs import uv as uv_program
from build_torchvision.process import run
from build_torchvision.progress import waiting
from build_torchvision.verify.checks import Check
from build_torchvision.verify.libraries import CODECS
from build_torchvision.verify.run_probe import death
from build_torchvision.verify.target import Place, PythonTarget

TIME_BOX = Path(__file__).with_name("_time_boxed_tests.py")
TEST_TOOLS = {"pytest": "pytest>=8", "scipy": "scipy", "requests": "requests"}  # without scipy 60 tests are skipped
NEED_NETWORK = ("test/test_image.py::test_decode_gif[",)  # it downloads its pictures; others begin with its name
MANY = 200  # so many failures are no trait of upstream's tests, and are not tried again


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Which of upstream's tests to run: files of its test/, a pytest mark, and how many are expected to pass.

    A failure that is upstream's own counts as a pass: it ran, and what it found is no fault of the package. `at_least`
    is None where nobody has counted how many pass for the release: then one must, and the report says so.
    """

    files: tuple[str, ...]
    at_least: int | None
    mark: str | None = None
    deselected: tuple[str, ...] = ()
    """Tests that are left out, by the beginning of what pytest calls them."""


REPEATS = 3  # a failure of ours alone that passes so many times alone, in one process, is unsteady, and named


def cpu_suite(release: Release, codecs: Collection[str] = ()) -> Suite:
    """The tests of operators, and of images but for those that need the network; the release's row has their numbers.

    Images are tested where the package has every codec; without one those tests cannot pass.
    """
    counts, files = release.upstream_tests, {"ops": "test_ops.py"}
    if CODECS.keys() <= set(codecs):
        files["image"] = "test_image.py"
    known = all(suite in counts for suite in files)
    return Suite(
        files=tuple(files.values()),
        at_least=sum(counts[suite] for suite in files) if known else None,
        deselected=NEED_NETWORK if "image" in files else (),
    )


def gpu_suite(release: Release, *, nvjpeg: bool) -> Suite:
    """The CUDA tests of operators, and where nvJPEG is built in those of images."""
    counts = release.upstream_tests
    if nvjpeg:
        return Suite(files=("test_ops.py", "test_image.py"), at_least=counts.get("cuda"), mark="needs_cuda")
    return Suite(files=("test_ops.py",), at_least=counts.get("cuda_without_nvjpeg"), mark="needs_cuda")


@dataclass(frozen=True, kw_only=True)
class Stock:
    """The published torchvision to compare failures with: installed at `place` already, or fetched there."""

    place: Place
    version: str | None
    fetch: bool

    @classmethod
    def beside(cls, environment: PythonTarget, release: Release) -> Stock:
        """The one of an existing environment; where it has none that of `release`, which nothing is changed for."""
        place, own = Place(python=environment.python), environment.torchvision
        published = release.torchvision if release.listed else None
        return cls(place=place, version=own or published, fetch=own is None)

    @classmethod
    def of_torch(cls, place: Place, torch: str) -> Stock:
        """The release that belongs to `torch` ("2.6.0"), to be laid over `place`; none where no release does."""
        paired = [known.torchvision for known in releases().values() if known.torch == torch]
        return cls(place=place, version=paired[0] if paired else None, fetch=True)

    def ready(self, scratch: Path) -> Place:
        """Where it can be imported. Raises ProcessFailed when it cannot be fetched."""
        if not self.fetch:
            return self.place
        command: list[str | Path] = [uv_program(), "pip", "install", "-q", "--no-deps", "--python", self.place.python]
        run([*command, "--target", scratch, f"torchvision=={self.version}"], action="fetching the stock torchvision")
        return Place(python=self.place.python, over=(scratch,))


@dataclass(frozen=True, kw_only=True)
class UpstreamCase:
    """One test's outcome. `test` is its function ("TestNMS::test_nms_ref"), `node` what pytest calls it."""

    node: str
    test: str
    outcome: str
    message: str

    @property
    def file(self) -> str:
        """The file of upstream's that holds it ("test_ops.py")."""
        return self.node.partition("::")[0].rpartition("/")[2]


def upstream_tests(
    source_root: Path,
    place: Place,
    suite: Suite,
    stock: Stock | None = None,
    *,
    timeout: float = 7200,
    time_box: float | None = None,
) -> Check:
    """Run upstream's tests against the torchvision at `place`: at least so many pass, and what fails is upstream's own.

    A failure is upstream's own when the same test fails with `stock` too, beside the same torch; each is named, and so
    is one that does not come back when its test is repeated. Both are tried alone: pytest may have been told to run
    many tests at once (PYTEST_ADDOPTS), which then share one GPU.
    The tests are copied away first: in the source tree they would import its torchvision/, which has no operators.
    `time_box`, in seconds, stops before all have run: then one must pass, and what ran is listed. `timeout` is in
    seconds.
    """
    tests = source_root / "test"
    if not all((tests / name).is_file() for name in suite.files):
        raise BadInput(
            f"running the tests of {source_root}", f"it has no test/{suite.files[0]}.", "Give a source tree."
        )
    with tempfile.TemporaryDirectory(prefix="upstream-") as scratch:
        root = Path(scratch)
        shutil.copytree(tests, root / "test", ignore=shutil.ignore_patterns("__pycache__", "*.mp4", "*.avi"))
        if (source_root / "pytest.ini").is_file():
            shutil.copyfile(source_root / "pytest.ini", root / "pytest.ini")
        place = _with_tools(place, root / "tools")
        chosen = [f"test/{name}" for name in suite.files]
        marked = ["-m", suite.mark] if suite.mark else []
        marked += [f"--deselect={name}" for name in suite.deselected]
        limit = timeout if time_box is None else 2 * time_box + 1200
        cases = _run(root, place, [*chosen, *marked], limit, time_box)
        if isinstance(cases, Check):
            return cases
        if time_box is not None:
            return judge(cases, 1, which=True)
        failed = [case for case in cases if case.outcome == "failed"]
        if not failed or stock is None or stock.version is None or len(failed) > MANY:
            return judge(cases, suite.at_least)
        try:
            beside = _with_tools(stock.ready(root / "stock").under(**place.env), root / "tools")
        except BuildTorchvisionError as error:
            return judge(cases, suite.at_least, hint=f"{error.problem} So none was tried with the stock package.")
        again = _run(root, beside, [case.node for case in failed], timeout, alone=True)
        hint = ""
        if isinstance(again, Check):  # the stock package cannot import these tests, say: no excuse for any failure
            hint, again = f"None ran with torchvision {stock.version}: {again.detail}", []
        shared = frozenset(case.node for case in again if case.outcome == "failed")
        steady = {case.node for case in failed} - shared
        unsteady = frozenset(steady)
        for _ in range(REPEATS if steady else 0):
            found = _run(root, place, sorted(steady), timeout, alone=True)
            passed = [case.node for case in found if case.outcome == "passed"] if isinstance(found, list) else []
            unsteady &= frozenset(passed)
        name = f"torchvision {stock.version}"
        return judge(cases, suite.at_least, shared=shared, unsteady=unsteady, stock=name, hint=hint)


def _with_tools(place: Place, folder: Path) -> Place:
    """`place` with what the tests need: its own where it has them, else in `folder`, laid under everything."""
    action = "running upstream's tests"
    lacking = [
        tool
        for module, tool in TEST_TOOLS.items()
        if run([place.python, "-I", "-c", f"import {module}"], action=action, check=False).returncode
    ]
    if not lacking:
        return place
    if not folder.exists():
        command: list[str | Path] = [uv_program(), "pip", "install", "-q", "--python", place.python]
        hint = f"Check the network, or install {' and '.join(lacking)} beside torch."
        run([*command, "--target", folder, *lacking], action=action, hint=hint)
        shutil.rmtree(folder / "numpy", ignore_errors=True)  # the environment's own is the one that torch knows
    return Place(python=place.python, over=(*place.over, folder), env=place.env)


def _run(
    root: Path,
    place: Place,
    chosen: Sequence[str],
    timeout: float,
    time_box: float | None = None,
    *,
    alone: bool = False,
) -> list[UpstreamCase] | Check:
    """The outcome of each chosen test, or a check that does not hold when pytest itself stopped.

    `alone`: in one process, one after the other, whatever PYTEST_ADDOPTS says.
    """
    laid = [folder for folder in place.over if folder != root / "tools"]
    first = str(laid[0]) if laid else ""  # where torchvision must come from, where something was laid over the packages
    (root / "conftest.py").write_text(
        f"import torchvision\nassert torchvision.__file__.startswith({first!r}), torchvision.__file__\n",
        encoding="utf-8",
    )
    report = root / "report.xml"
    report.unlink(missing_ok=True)
    arguments = (*chosen, "-q", "-p", "no:cacheprovider", f"--junitxml={report}")
    env = {**os.environ, **place.env, **({"PYTEST_ADDOPTS": ""} if alone else {})}
    with waiting("Run upstream's tests"):
        done = run(
            place.command("pytest", *arguments)
            if time_box is None
            else place.command(TIME_BOX, str(time_box), *arguments),
            action="running upstream's tests",
            cwd=root,
            env=env,
            check=False,
            timeout=timeout,
        )
    if not report.is_file():
        return Check(name="upstream tests", ok=False, detail=f"pytest: {death(done)}", part="upstream")
    return read_report(report.read_text(encoding="utf-8"))


def read_report(text: str) -> list[UpstreamCase]:
    """A JUnit report's cases."""
    found = []
    for case in ET.fromstring(text).iter("testcase"):
        module, _, group = str(case.get("classname")).partition("test_")[2].partition(".")
        node = "::".join(part for part in (f"test/test_{module}.py", group, str(case.get("name"))) if part)
        bad = next((item for kind in ("failure", "error") if (item := case.find(kind)) is not None), None)
        skip = case.find("skipped")
        outcome = "failed" if bad is not None else "skipped" if skip is not None else "passed"
        reason = bad if bad is not None else skip
        message = "" if reason is None else (reason.get("message") or "no reason given").strip().partition("\n")[0]
        test = node.partition("::")[2].partition("[")[0]
        found.append(UpstreamCase(node=node, test=test, outcome=outcome, message=message))
    return found


def judge(
    cases: Sequence[UpstreamCase],
    at_least: int | None,
    *,
    shared: frozenset[str] = frozenset(),
    unsteady: frozenset[str] = frozenset(),
    stock: str = "",
    hint: str = "",
    which: bool = False,
) -> Check:
    """The verdict. `shared` are the failing tests that fail with the package `stock` too; `which` names what ran.

    `unsteady` are those that passed when they were run again."""
    skipped = [case for case in cases if case.outcome == "skipped"]
    failed = [case for case in cases if case.outcome == "failed"]
    passed = [case for case in cases if case.outcome == "passed"]
    files = Counter(case.file for case in passed)
    by_file = f" ({', '.join(f'{file}: {files[file]}' for file in sorted(files))})" if len(files) > 1 else ""
    why = ", ".join(f"{count} {reason}" for reason, count in Counter(case.message for case in skipped).most_common())
    counts = f"{len(passed)} passed{by_file}, {len(failed)} failed, {len(skipped)} skipped" + (
        f" ({why})" if why else ""
    )
    if which:
        ran = Counter(case.test.replace("::", ".") for case in cases if case.outcome != "skipped")
        counts += f"; what ran: {', '.join(f'{name} x {count}' for name, count in sorted(ran.items()))}"
    own = [case for case in failed if case.node not in shared | unsteady]
    problems = [f"{case.node.partition('::')[2]} failed: {case.message[:200]}" for case in own[:3]]
    problems += [f"and {len(own) - 3} more of ours"] if len(own) > 3 else []
    problems += [hint] if own and hint else []
    excused = len(passed) + len(failed) - len(own)
    if excused < (at_least or 1):
        problems.append(f"{excused} tests passed or failed as they do upstream; expected at least {at_least or 1}")
    if at_least is None:
        counts += "; how many should pass is not known for this release"
    common = Counter((case.test, _plain(case.message)) for case in failed if case.node in shared)
    named = "; ".join(f"{test} ({count}): {message}" for (test, message), count in common.most_common())
    once = "; ".join(f"{case.node.partition('::')[2]}: {case.message}" for case in failed if case.node in unsteady)
    said = f"{counts}; fails with {stock} too: {named}" if named else counts
    said += f"; failed once, and passed {REPEATS} times alone: {once}" if once else ""
    return Check.of("upstream tests", [said, *problems] if problems else [], said, part="upstream")


def _plain(message: str) -> str:
    """A message without addresses and numbers, so that equal faults count as one."""
    return re.sub(r"0x[0-9a-f]+|\d+\.\d+(e-?\d+)?", "#", message)[:160]

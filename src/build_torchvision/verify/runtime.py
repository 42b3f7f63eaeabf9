"""Run a wheel beside its torch, in an environment of its own or in an existing one, and call every operator there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from build_torchvision.compatibility import CodegenKind
from build_torchvision.errors import BuildTorchvisionError, CannotWrite, FetchFailed, MissingInput
from build_torchvision.facts import Release, releases
from build_torchvision.facts.operators import operators_of
from build_torchvision.inputs.emulator import CHOOSE_CPU, Emulator
from build_torchvision.verify.checks import Check, Report
from build_torchvision.verify.environments import environment
from build_torchvision.verify.gpu import VisibleGpu
from build_torchvision.verify.gpu_run import has_nvjpeg, on, run_on_gpu
from build_torchvision.verify.installed import InstalledTree
from build_torchvision.verify.libraries import CODECS
from build_torchvision.verify.package import Package
from build_torchvision.verify.run_probe import digests, probe
from build_torchvision.verify.target import Place, PythonTarget, laid_over
from build_torchvision.verify.upstream import Stock, cpu_suite, gpu_suite, upstream_tests

SLOWER = 10  # how many times longer an emulated processor may take


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
    known = releases().get(tree.version)
    rows = probe(place, tree.codecs, expected=operators_of(known.torchvision) if known else None, timeout=timeout)
    return Report(variant=str(tree.claim() or tree.path.name), checks=tuple(row.check for row in rows))


def run_in_venv(
    package: Package,
    release: Release,
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
    """Install a wheel beside torch and call every operator; with `upstream`, a source tree, its operator tests too.

    With `emulator` all of it runs there: the operators on each of `processors`, whose results must be the same bits,
    and the tests on the first. With `gpu`, the CUDA operators are called too, and the tests are those that need CUDA.
    `time_box` ends the tests after so many seconds. A wheel that cannot be installed or loaded is a check that does not
    hold. Raises MissingInput without a Python, FetchFailed or CannotWrite where torch cannot be installed.
    """
    interpreter = emulator.interpreter if emulator else None
    where = f", {emulator.platform} under {emulator.qemu.name}" if emulator else ""

    @contextmanager
    def installed() -> Iterator[tuple[Place, str, Stock]]:
        with environment(
            package.path, torch_requirement=torch_requirement, python=python, cache=cache, interpreter=interpreter
        ) as venv:
            place = Place(python=venv / "bin" / "python")
            said = f"beside torch{torch_requirement}, Python {python}{where}"
            yield place, said, Stock.of_torch(place, torch_requirement.removeprefix("=="))

    return _run_at(package, release, installed(), upstream, processors, time_box, gpu)


def run_in_place(
    package: Package,
    release: Release,
    existing: PythonTarget,
    *,
    upstream: Path | None = None,
    gpu: tuple[VisibleGpu, CodegenKind] | None = None,
) -> Report:
    """As `run_in_venv`, in an environment that has torch already and that is left as it is."""

    @contextmanager
    def over() -> Iterator[tuple[Place, str, Stock]]:
        with laid_over(package.path, existing) as place:
            said = f"laid over {existing.python}, Python {existing.version}"
            yield place, said, Stock.beside(existing, release)

    return _run_at(package, release, over(), upstream, (), None, gpu)


def _run_at(
    package: Package,
    release: Release,
    where: AbstractContextManager[tuple[Place, str, Stock]],
    upstream: Path | None,
    processors: Sequence[str],
    time_box: float | None,
    gpu: tuple[VisibleGpu, CodegenKind] | None,
) -> Report:
    codecs = package.descriptor.codec_names() if package.descriptor else tuple(CODECS)
    expected = operators_of(release.torchvision) if release.listed else None
    checks: list[Check] = []
    if expected is None:
        checks.append(
            Check.not_judged(
                "operators", "no table lists those of this release; what it registers is called", part="cpu"
            )
        )
    try:
        with where as (place, said, stock):
            checks.append(Check(name="installs", ok=True, detail=said, part="cpu"))
            seen: dict[str, dict[str, str]] = {}
            for processor in processors or (None,):
                there, label = (emulating(place, processor), f"runs on {processor}") if processor else (place, "runs")
                rows = probe(there, codecs, expected=expected, label=label, timeout=900 * (SLOWER if processors else 1))
                checks += (row.check for row in rows)
                seen[processor or ""] = digests(rows)
            if len(seen) > 1:
                checks.append(same_bits(seen))
            if gpu is not None:
                checks += run_on_gpu(place, package, *gpu)
            if upstream is not None and gpu is not None:
                there = on(place, gpu[0], jit=gpu[1] == "ptx")
                checks.append(upstream_tests(upstream, there, gpu_suite(release, nvjpeg=has_nvjpeg(package)), stock))
            elif upstream is not None:
                there = emulating(place, processors[0]) if processors else place
                checks.append(upstream_tests(upstream, there, cpu_suite(release, codecs), stock, time_box=time_box))
    except (MissingInput, FetchFailed, CannotWrite):
        raise  # nothing was learned of the wheel
    except BuildTorchvisionError as error:
        problem = f"{error.problem} {error.hint}"
        installed = any(check.name == "installs" for check in checks)
        checks.append(Check(name="runs" if installed else "installs", ok=False, detail=problem, part="cpu"))
    return Report(variant=package.descriptor.variant if package.descriptor else package.path.name, checks=tuple(checks))


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

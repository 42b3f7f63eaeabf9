"""Build variants from their names to verified wheels: resolve, plan one graph per track, run it, pack, audit."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from build_torchvision.errors import BadInput, BuildTorchvisionError, MissingInput, ProcessFailed, VerificationFailed
from build_torchvision.execute.launcher import find_launcher
from build_torchvision.execute.runner import RunOutcome, exclusive, run_graph
from build_torchvision.execute.scripts import ONE_DEVICE_IR, PATCH_FATBIN, PATCH_FATBIN_OBJECT, TRANSFORM_IR
from build_torchvision.graph.actions import Graph, target_name
from build_torchvision.graph.device import CudaBuild, toolkit_libraries
from build_torchvision.graph.plan import GraphInputs, plan_graphs
from build_torchvision.inputs.cache import cache_dir
from build_torchvision.inputs.resolve import BuildRequest, ResolvedInputs, isas_of, resolve_inputs, tracks_of
from build_torchvision.inputs.upstream import Upstream, ask_upstream
from build_torchvision.operators import operators_for
from build_torchvision.spec import WheelSpec
from build_torchvision.variants import Variant
from build_torchvision.verify.checks import Report
from build_torchvision.verify.decoding import scan_ahead
from build_torchvision.verify.package import Package
from build_torchvision.verify.static import audit_package, torch_facts
from build_torchvision.wheel import archive
from build_torchvision.wheel.assemble import Draft, WheelContents, draft_wheels, embed_report
from build_torchvision.writing import writing


@dataclass(frozen=True, kw_only=True)
class Built:
    """A finished wheel and its static report."""

    variant: Variant
    wheel: Path
    report: Report


@dataclass(kw_only=True)
class Result:
    """What a command built: wheels that hold, variants that failed with the reason, and what each graph cost."""

    wheels: list[Built] = field(default_factory=list)
    failed: list[tuple[Variant, BuildTorchvisionError]] = field(default_factory=list)
    outcomes: list[RunOutcome] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one platform adds to a graph: the request, its inputs, and what the release's setup.py says of them."""

    request: BuildRequest
    inputs: ResolvedInputs
    upstream: Upstream


def resolve_part(request: BuildRequest) -> Part:
    """Resolve the inputs of `request`, one track on one platform, and run the release's setup.py once."""
    inputs = resolve_inputs(request)
    upstream = ask_upstream(
        inputs.source.root,
        version=inputs.source.version,
        torch=inputs.torch.version,
        cuda=inputs.cuda.version if inputs.cuda else None,
        codecs=frozenset(inputs.codecs.found),
        nvjpeg=inputs.cuda is not None and inputs.cuda.nvjpeg is not None,
    )
    return Part(request=request, inputs=inputs, upstream=upstream)


def compile_all(parts: Sequence[Part], folder: Path, console: Console, *, verbose: bool = False) -> RunOutcome:
    """Compile and link every extension that the variants of `parts` need, each action once, in `folder`.

    The parts are of one track, each of another platform.
    """
    request, tools = parts[0].request, tuple(word for part in parts for word in part.inputs.tools)
    launcher = find_launcher(request.launcher, tools, folder)
    outcome = run_graph(planner(parts), folder, jobs=request.jobs, console=console, verbose=verbose, launcher=launcher)
    for note in outcome.graph.notes:
        console.print(note, highlight=False)
    if launcher is not None:
        console.print(launcher.report(folder), highlight=False)
    return outcome


def planner(parts: Sequence[Part]) -> Callable[[Set[str]], Graph]:
    """Units that do not compile as one -> the graph of `parts`."""
    platforms = [_graph_inputs(part) for part in parts]

    def plan(split: Set[str]) -> Graph:
        return plan_graphs(platforms, split)

    return plan


def _graph_inputs(part: Part) -> GraphInputs:
    inputs, variants = part.inputs, part.request.variants
    return GraphInputs(
        upstream=part.upstream,
        source_root=inputs.source.root,
        torch=inputs.torch,
        codecs=inputs.codecs,
        compiler=inputs.compiler,
        isas=isas_of(variants),
        platform=variants[0].platform,
        transform_ir=TRANSFORM_IR,
        shared=cache_dir() / "headers",
        device=_cuda_build(inputs),
        tuning=inputs.specs[0].tuning,
        operators=operators_for(part.request.release, part.request.operators, inputs.source.root),
        identity=inputs.digest,
    )


def build_all(
    requests: Sequence[BuildRequest], console: Console, *, folder: Path | None = None, verbose: bool = False
) -> Result:
    """Build, pack and audit every variant of `requests`, a graph per release and track.

    A wheel appears in `out` when it holds. A variant that cannot be built does not keep the others from it: it is
    listed in the result, and so is a wheel that is not what its name says, which is kept as NAME.whl.rejected. Where
    there is only one variant, its error is raised.
    """
    result = Result()
    alone = sum(len(request.variants) for request in requests) == 1
    for request in requests:
        for of_track in tracks_of(request):
            try:
                _build_track(of_track, console, folder, verbose, result)
            except BuildTorchvisionError as error:
                if alone or not isinstance(error, (ProcessFailed, BadInput, MissingInput)):
                    raise
                result.failed += [(variant, error) for part in of_track for variant in part.variants]
    if alone and result.failed:
        raise result.failed[0][1]
    return result


def _build_track(
    requests: Sequence[BuildRequest], console: Console, folder: Path | None, verbose: bool, result: Result
) -> None:
    """Build one track of one release, each request on another platform, and add what comes of it to `result`."""
    parts = [resolve_part(part) for part in requests]
    track = requests[0].variants[0].track
    base = folder / track if folder else cache_dir() / "builds" / "-".join(part.inputs.key for part in parts)
    with writing(f"Build in {base}", base), exclusive(base, console):
        outcome = compile_all(parts, base, console, verbose=verbose)
        result.outcomes.append(outcome)
        for part in parts:
            package(part, outcome, console, result)


def package(part: Part, outcome: RunOutcome, console: Console, result: Result) -> None:
    """Make, audit and finish the wheels of `part`, and add them to `result`.

    They are drafted in memory; nothing is written into `out` before it has been audited.
    """
    specs = []
    for spec in part.inputs.specs:
        failure = outcome.failed.get(target_name(spec.variant.isa, spec.variant.sm))
        if failure is None:
            specs.append(spec)
        else:
            result.failed.append((spec.variant, failure.error(str(spec.variant))))
    if not specs:
        return
    with tempfile.TemporaryDirectory(prefix="wheels-", dir=outcome.folder) as scratch:
        console.print(f"packing {len(specs)} wheel{'s' * (len(specs) != 1)}", highlight=False)
        drafts = draft_wheels([_contents(spec, part, outcome) for spec in specs], Path(scratch, "bundling"))
        scan_ahead({module.digest: module.data for draft in drafts for module in draft.modules}.values())
        finishing = []
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:  # compression lets go of the interpreter's lock
            for spec, draft in zip(specs, drafts, strict=True):
                console.print(f"auditing {spec.variant}", highlight=False)
                package = Package(Path(draft.name), archive.stored(draft.files, draft.name))
                report = audit_package(package, spec.variant, torch_facts(part.inputs.torch))
                finishing.append((spec, report, pool.submit(_finish, draft, report, part.request.out)))
        for spec, report, finished in finishing:
            try:
                wheel = finished.result()
            except VerificationFailed as error:
                result.failed.append((spec.variant, error))
            else:
                result.wheels.append(Built(variant=spec.variant, wheel=wheel, report=report))


def _finish(draft: Draft, report: Report, out: Path) -> Path:
    """Write the wheel with its report into `out`; one that does not hold is set aside and raises VerificationFailed."""
    with writing(f"Write {draft.name} into {out}", out, hint="Free space there, or name another folder with --out."):
        if report.ok:
            return embed_report(draft.files, report.dumps(), out / draft.name)
        rejected = embed_report(draft.files, report.dumps(), out / f"{draft.name}.rejected")
    report.require(f"The wheel was set aside as {rejected}.")
    return rejected


def _contents(spec: WheelSpec, part: Part, outcome: RunOutcome) -> WheelContents:
    inputs, sysroot = part.inputs, part.inputs.codecs.sysroot
    return WheelContents(
        spec=spec,
        source_root=inputs.source.root,
        upstream=part.upstream,
        extensions=outcome.extensions(target_name(spec.variant.isa, spec.variant.sm)),
        libraries=toolkit_libraries(inputs.cuda) if inputs.cuda else (),
        toolkit_licence=inputs.cuda.licence if inputs.cuda else None,
        sysroot=sysroot.root if sysroot else None,
        library_dirs=sysroot.lib_dirs if sysroot else (),
        sources=inputs.codecs.sources,
    )


def _cuda_build(inputs: ResolvedInputs) -> CudaBuild | None:
    if inputs.cuda is None or inputs.cuda_compiler is None:
        return None
    sms = {spec.variant.sm: codegen for spec in inputs.specs if (codegen := spec.codegen) and spec.variant.sm}
    splice = PATCH_FATBIN_OBJECT if inputs.cuda_compiler.family == "nvcc" else PATCH_FATBIN
    return CudaBuild(sdk=inputs.cuda, compiler=inputs.cuda_compiler, sms=sms, splice=splice, one_ir=ONE_DEVICE_IR)

"""From variants' names to proved wheels: inputs, one graph for all, a wheel each, and the proof that goes inside."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from build_torchvision.compatibility import serves
from build_torchvision.execute.launcher import find_launcher
from build_torchvision.execute.runner import RunOutcome, exclusive, run_graph
from build_torchvision.execute.scripts import PATCH_FATBIN, PATCH_FATBIN_OBJECT, TRANSFORM_IR
from build_torchvision.flags import cuda_codegen, isa_flags
from build_torchvision.graph.actions import Graph, target_name
from build_torchvision.graph.device import CudaBuild, toolkit_libraries
from build_torchvision.graph.plan import GraphInputs, plan_graphs
from build_torchvision.inputs.cache import cache_dir
from build_torchvision.inputs.resolve import BuildRequest, ResolvedInputs, isas_of, resolve_inputs, tracks_of
from build_torchvision.inputs.upstream import ask_upstream
from build_torchvision.variants import Variant
from build_torchvision.verify.checks import Report
from build_torchvision.verify.static import audit_wheel, torch_facts
from build_torchvision.wheel.assemble import WheelContents, assemble, seal
from build_torchvision.wheel.descriptor import local_version


@dataclass(frozen=True, kw_only=True)
class Built:
    """A finished wheel and its static proof."""

    variant: Variant
    wheel: Path
    proof: Report


Part = tuple[BuildRequest, ResolvedInputs]
"""What one platform adds to a graph."""


def compile_all(parts: Sequence[Part], folder: Path, console: Console, *, verbose: bool = False) -> RunOutcome:
    """Compile and link every extension that the variants of `parts` need, each action once, in `folder`.

    The parts are of one track, each of another platform.
    """
    request, tools = parts[0][0], tuple(word for _, inputs in parts for word in inputs.tools)
    planned, launcher = planner(parts), find_launcher(request.launcher, tools, folder)

    outcome = run_graph(planned, folder, jobs=request.jobs, console=console, verbose=verbose, launcher=launcher)
    for note in outcome.graph.notes:
        console.print(note, highlight=False)
    if launcher is not None:
        console.print(launcher.report(folder), highlight=False)
    return outcome


def planner(parts: Sequence[Part]) -> Callable[[Set[str]], Graph]:
    """Units that do not compile as one -> the graph of `parts`."""
    platforms = [_ingredients(request, inputs) for request, inputs in parts]

    def plan(split: Set[str]) -> Graph:
        return plan_graphs(platforms, split)

    return plan


def _ingredients(request: BuildRequest, inputs: ResolvedInputs) -> GraphInputs:
    upstream = ask_upstream(
        inputs.source.root,
        version=inputs.source.version,
        torch=inputs.torch.version,
        cuda=inputs.cuda.version if inputs.cuda else None,
        codecs=frozenset(inputs.codecs.found),
        nvjpeg=inputs.cuda is not None and inputs.cuda.nvjpeg is not None,
    )
    return GraphInputs(
        upstream=upstream,
        source_root=inputs.source.root,
        torch=inputs.torch,
        codecs=inputs.codecs,
        compiler=inputs.compiler,
        isas=isas_of(request.variants),
        platform=request.variants[0].platform,
        transform_ir=TRANSFORM_IR,
        shared=cache_dir() / "headers",
        device=_device(request, inputs),
    )


def build(
    request: BuildRequest, console: Console, *, folder: Path | None = None, verbose: bool = False
) -> tuple[list[Built], list[RunOutcome]]:
    """Build, pack and statically prove every variant of `request`, a graph each track.

    Raises VerificationFailed when a wheel is not what its name says; it is then set aside.
    """
    built, outcomes = [], []
    for requests in tracks_of(request):
        parts = [(part, resolve_inputs(part)) for part in requests]
        track = requests[0].variants[0].track
        base = folder / track if folder else cache_dir() / "builds" / "-".join(inputs.key for _, inputs in parts)
        with exclusive(base, console):
            outcome = compile_all(parts, base, console, verbose=verbose)
            outcomes.append(outcome)
            for part, inputs in parts:
                for variant in part.variants:
                    console.print(f"packing and proving {variant}", highlight=False)
                    built.append(_prove_and_seal(_package(variant, part, inputs, outcome), variant, inputs))
    return built, outcomes


def _prove_and_seal(wheel: Path, variant: Variant, inputs: ResolvedInputs) -> Built:
    proof = audit_wheel(wheel, variant, torch_facts(inputs.torch))
    if not proof.ok:
        rejected = wheel.replace(wheel.with_name(f"{wheel.name}.rejected"))
        proof.require(f"The wheel was set aside as {rejected}.")
    return Built(variant=variant, wheel=seal(wheel, proof.dumps()), proof=proof)


def for_pythons(variants: Sequence[Variant], pythons: Sequence[str]) -> tuple[Variant, ...]:
    """Each variant for each Python of `pythons` ("310", "313"); unchanged when `pythons` is empty."""
    if not pythons:
        return tuple(variants)
    return tuple(dict.fromkeys(replace(variant, python=python) for variant in variants for python in pythons))


def _device(request: BuildRequest, inputs: ResolvedInputs) -> CudaBuild | None:
    if inputs.cuda is None or inputs.cuda_compiler is None:
        return None
    made = {variant.sm: cuda_codegen(variant, ptx=request.ptx) for variant in request.variants}
    sms = {sm: codegen for sm, codegen in made.items() if sm and codegen}
    splice = PATCH_FATBIN_OBJECT if inputs.cuda_compiler.family == "nvcc" else PATCH_FATBIN
    return CudaBuild(sdk=inputs.cuda, compiler=inputs.cuda_compiler, sms=sms, splice=splice)


def _package(variant: Variant, request: BuildRequest, inputs: ResolvedInputs, outcome: RunOutcome) -> Path:
    codegen = cuda_codegen(variant, ptx=request.ptx)
    covered = variant.sm is None or inputs.carried is None or serves(*inputs.carried, variant.sm)
    paired = inputs.torch.version == request.release.torch and covered
    ptx = added_ptx(variant, request)
    local = local_version(variant, paired=paired, ptx=ptx, with_variant_label=request.with_variant_label)
    upstream = ask_upstream(
        inputs.source.root,
        version=f"{inputs.source.version}+{local}".removesuffix("+"),
        torch=inputs.torch.version,
        cuda=variant.cuda,
        codecs=frozenset(inputs.codecs.found),
        nvjpeg=inputs.cuda is not None and inputs.cuda.nvjpeg is not None,
    )
    contents = WheelContents(
        variant=variant,
        source_root=inputs.source.root,
        upstream=upstream,
        ptx=ptx,
        extensions=outcome.extensions(target_name(variant.isa, variant.sm)),
        torch_requirement=request.release.torch_requirement if paired else f"=={inputs.torch.version}",
        libraries=toolkit_libraries(inputs.cuda) if inputs.cuda else (),
        sysroot=inputs.codecs.sysroot.root if inputs.codecs.sysroot else None,
        library_dirs=inputs.codecs.sysroot.lib_dirs if inputs.codecs.sysroot else (),
        glibc=inputs.compiler.toolchain.glibc if inputs.compiler.toolchain else None,
        sources=inputs.codecs.sources,
        facts={
            "variant": str(variant),
            "torchvision": inputs.source.version,
            "source_sha256": inputs.source.sha256,
            "source_origin": "local" if inputs.source.local else "release",
            "torch": inputs.torch.version,
            "torch_cuda": inputs.torch.cuda,
            "cxx11_abi": inputs.torch.cxx11_abi,
            "paired": paired,
            "torch_carries": [sorted(sms) for sms in inputs.carried] if inputs.carried else None,
            "torch_serves_sm": covered if variant.sm else None,
            "cuda_compiler": f"{inputs.cuda_compiler.family} {inputs.cuda_compiler.version}"
            if inputs.cuda_compiler
            else None,
            "compiler": f"{inputs.compiler.family} {inputs.compiler.version}",
            "isa_flags": list(isa_flags(variant)),
            "gencode": list(codegen.gencode) if codegen else [],
            "codegen_kind": codegen.kind if codegen else None,
            "ptx": ptx,
            "codecs": sorted(inputs.codecs.found),
            "nvjpeg": inputs.cuda is not None and inputs.cuda.nvjpeg is not None,
            "codec_versions": {codec.name: codec.version for codec in inputs.codecs.found.values()},
            "codec_source": "pinned" if inputs.codecs.sources else "system",
            "libraries": {
                row.name: {"version": row.version, "licence": row.licence, "sha256": row.sha256}
                for row in (source.library for source in inputs.codecs.sources)
            },
            "glibc": inputs.compiler.glibc,
        },
    )
    return assemble(contents, request.out, with_variant_label=request.with_variant_label)


def added_ptx(variant: Variant, request: BuildRequest) -> bool:
    """Whether `variant`'s wheel holds PTX that --ptx put beside its cubins."""
    codegen = cuda_codegen(variant, ptx=request.ptx)
    return codegen is not None and codegen.cubin and codegen.ptx


def describe_plan(request: BuildRequest, variant: Variant) -> dict[str, object]:
    """What `build` would do for `variant`, from facts alone: nothing is fetched and nothing runs."""
    release = request.release
    paired = request.torch is None or request.torch == release.torch
    local = local_version(variant, paired=paired, ptx=added_ptx(variant, request))
    tag = f"cp{variant.python}"
    return {
        "variant": str(variant),
        "torchvision": release.torchvision,
        "torch": request.torch or release.torch,
        "source_sha256": release.sha256,
        "isa_flags": list(isa_flags(variant)),
        "compiler": request.compiler,
        "codecs": sorted({"jpeg", "png", "webp"} - request.without),
        "cache": str(cache_dir()),
        "wheel": f"torchvision-{release.torchvision}+{local}-{tag}-{tag}-manylinux_*_{variant.platform}.whl",
    }

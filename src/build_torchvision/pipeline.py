"""From variants' names to proved wheels: inputs, one graph for all, a wheel each, and the proof that goes inside."""

from __future__ import annotations

import platform as host
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from build_torchvision.build.carry import take, write_manifest
from build_torchvision.build.launcher import find_launcher
from build_torchvision.build.runner import Outcome, exclusive, run_graph
from build_torchvision.codegen import covers, cuda_codegen, isa_flags
from build_torchvision.errors import BadInput, MissingInput
from build_torchvision.facts import release
from build_torchvision.gather import Inputs, check_buildable, isas_of
from build_torchvision.gather import Request as Request
from build_torchvision.gather import gather as gather
from build_torchvision.graph.actions import Graph, target_name
from build_torchvision.graph.device import Device, toolkit_libraries
from build_torchvision.graph.groups import as_json
from build_torchvision.graph.plan import Ingredients, plan_graphs
from build_torchvision.inputs.cache import cache_dir
from build_torchvision.inputs.compiler import cross_package
from build_torchvision.inputs.emulator import PROCESSORS, QEMU_PACKAGE, emulator, is_foreign, qemu_names
from build_torchvision.inputs.source import fetch_source
from build_torchvision.inputs.torch_sdk import torch_sdk
from build_torchvision.inputs.upstream import ask_upstream
from build_torchvision.proof.checks import Proof
from build_torchvision.proof.gpu import Gpu, Host, Way, check_gpu, groups_of
from build_torchvision.proof.installed import Installed
from build_torchvision.proof.package import Package
from build_torchvision.proof.place import Environment, existing
from build_torchvision.proof.processor import check_processor, features_of
from build_torchvision.proof.runtime import probe_installed, run_in_place, run_in_venv
from build_torchvision.proof.static import audit_wheel, claimed_variant, prove_installed, scans_of, torch_facts
from build_torchvision.variants import DEFAULT_RELEASE as DEFAULT_RELEASE
from build_torchvision.variants import Variant
from build_torchvision.wheel.assemble import Contents, assemble, seal
from build_torchvision.wheel.descriptor import local_version


@dataclass(frozen=True, kw_only=True)
class Built:
    """A finished wheel and its static proof."""

    variant: Variant
    wheel: Path
    proof: Proof


Part = tuple[Request, Inputs]
"""What one platform adds to a graph."""


def compile_all(parts: Sequence[Part], folder: Path, console: Console, *, verbose: bool = False) -> Outcome:
    """Compile and link every extension that the variants of `parts` need, each action once, in `folder`.

    The parts are of one track, each of another platform. With `only` in the request just that group is built; a
    manifest in `folder` lets another build take its objects.
    """
    request, tools = parts[0][0], tuple(word for _, inputs in parts for word in inputs.tools)
    planned, launcher = planner(parts), find_launcher(request.launcher, tools, folder)

    def plan(split: Set[str]) -> Graph:
        graph = planned(split)
        return take(graph, request.objects, folder) if request.objects else graph

    outcome = run_graph(
        plan, folder, jobs=request.jobs, console=console, verbose=verbose, launcher=launcher, only=request.only
    )
    for note in outcome.graph.notes:
        console.print(note, highlight=False)
    if launcher is not None:
        console.print(launcher.report(folder), highlight=False)
    write_manifest(planned(outcome.split), folder)
    return outcome


def planner(parts: Sequence[Part]) -> Callable[[Set[str]], Graph]:
    """Units that do not compile as one -> the graph of `parts`."""
    platforms = [_ingredients(request, inputs) for request, inputs in parts]

    def plan(split: Set[str]) -> Graph:
        return plan_graphs(platforms, split)

    return plan


def _ingredients(request: Request, inputs: Inputs) -> Ingredients:
    upstream = ask_upstream(
        inputs.source.root,
        version=inputs.source.version,
        torch=inputs.torch.version,
        cuda=inputs.cuda.version if inputs.cuda else None,
        codecs=frozenset(inputs.codecs.found),
        nvjpeg=inputs.cuda is not None and inputs.cuda.nvjpeg is not None,
    )
    return Ingredients(
        upstream=upstream,
        source_root=inputs.source.root,
        torch=inputs.torch,
        codecs=inputs.codecs,
        compiler=inputs.compiler,
        isas=isas_of(request.variants),
        platform=request.variants[0].platform,
        retarget=_script("retarget"),
        shared=cache_dir() / "headers",
        device=_device(request, inputs),
    )


def plan_actions(request: Request) -> list[dict[str, object]]:
    """Every action that `build` would run, in groups, a graph each track. Inputs are fetched; nothing is compiled."""
    made: list[dict[str, object]] = []
    for requests in _tracks(request):
        graph = planner([(part, gather(part)) for part in requests])(frozenset())
        made.append({"track": requests[0].variants[0].track, "groups": as_json(graph), "notes": list(graph.notes)})
    return made


def build(
    request: Request, console: Console, *, folder: Path | None = None, verbose: bool = False
) -> tuple[list[Built], list[Outcome]]:
    """Build, pack and statically prove every variant of `request`, a graph each track.

    Raises ProofFailed when a wheel is not what its name says; it is then set aside.
    """
    built, outcomes = [], []
    for requests in _tracks(request):
        parts = [(part, gather(part)) for part in requests]
        track = requests[0].variants[0].track
        base = folder / track if folder else cache_dir() / "builds" / "-".join(inputs.key for _, inputs in parts)
        with exclusive(base, console):
            outcome = compile_all(parts, base, console, verbose=verbose)
            outcomes.append(outcome)
            for part, inputs in () if request.only else parts:
                for variant in part.variants:
                    console.print(f"packing and proving {variant}", highlight=False)
                    built.append(_prove_and_seal(_package(variant, part, inputs, outcome), variant, inputs))
    return built, outcomes


def _prove_and_seal(wheel: Path, variant: Variant, inputs: Inputs) -> Built:
    proof = audit_wheel(wheel, variant, torch_facts(inputs.torch))
    if not proof.ok:
        rejected = wheel.replace(wheel.with_name(f"{wheel.name}.rejected"))
        proof.require(f"The wheel was set aside as {rejected}.")
    return Built(variant=variant, wheel=seal(wheel, proof.dumps()), proof=proof)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """How to prove a wheel. `torch` is as in `Request`, by default the one that the wheel was built for.

    `static_only` installs and runs nothing. With `python`, an existing environment, the wheel is laid over its packages
    and its torch is the one. With `gpus`, those of this machine, CUDA operators are run there too. `source` holds
    upstream's tests instead of the download, and `time_box` ends them after so many seconds. `emulate` runs another
    platform's wheels, and `processor` names one on which the package should run.
    """

    torch: str | None = None
    static_only: bool = False
    upstream_tests: bool = False
    time_box: float | None = None
    emulate: bool = False
    processor: str | None = None
    python: Path | None = None
    gpus: Host | None = None
    source: Path | None = None


def prove(
    wheel: Path,
    variant: Variant | None = None,
    trial: Trial = Trial(),
    *,
    environments: Path | None = None,
) -> Proof:
    """Prove that `wheel` is `variant` (None: the one its file name claims), statically and then beside its torch.

    `environments` is a folder where the environment with torch is kept for the next wheel. What runs code waits until
    the static part holds, and a wheel that no GPU of `trial` runs is refused before anything is fetched or launched.
    A folder is an installed tree, such as a Nix store path or a link to one. Raises BadInput for what is no wheel of a
    known variant, MissingInput where there is no GPU.
    """
    check_provable(wheel, variant, trial)
    if wheel.is_dir():
        if trial.python or trial.gpus:
            raise BadInput(
                f"Verify {wheel}",
                "an installed tree runs with its own Python, on the CPU.",
                "Leave out --python and --device, or name a wheel.",
            )
        tree = Installed(wheel)
        proof = prove_installed(tree, variant, Path(trial.torch).expanduser() if trial.torch else None)
        return proof if trial.static_only or not proof.ok else proof + probe_installed(tree)
    variant = variant or claimed_variant(wheel)
    package = Package(wheel)
    known = release(package.file_name.version.partition("+")[0])
    judged, gpu = (
        _judge_gpu(package, variant, trial.gpus) if trial.gpus else (Proof(variant=str(variant), checks=()), None)
    )
    if trial.gpus and gpu is None:
        return judged
    found = _existing(trial.python, variant) if trial.python else None
    sdk = torch_sdk(
        str(found.site) if found else trial.torch or package.descriptor.get("torch"),
        known,
        variant.python,
        variant.platform,
        cuda=variant.cuda is not None,
        allow_unpaired=package.descriptor.get("paired") is False,
    )
    proof = audit_wheel(wheel, variant, torch_facts(sdk)) + judged
    if trial.processor:
        proof += Proof(variant=proof.variant, checks=(check_processor(variant, trial.processor, scans_of(wheel)),))
    if trial.static_only or not proof.ok:
        return proof
    upstream = fetch_source(known, trial.source).root if trial.upstream_tests else None
    if found:
        return proof + run_in_place(wheel, found, upstream=upstream, gpu=gpu)
    emulated = trial.emulate and variant.isa in PROCESSORS
    return proof + run_in_venv(
        wheel,
        torch_requirement=f"=={sdk.version}",
        python=variant.python,
        cache=environments,
        upstream=upstream,
        gpu=gpu,
        emulator=emulator(variant.platform, variant.python) if emulated else None,
        processors=PROCESSORS[variant.isa] if emulated else (),
        time_box=trial.time_box,
    )


def prepare(request: Request) -> list[tuple[str, str]]:
    """Fetch and check all that building and verifying `request`'s variants needs. Returns (what, where) pairs.

    Raises MissingInput naming every missing tool in one command.
    """
    check_buildable(request.variants, request.release)
    _check_tools(request)
    found: list[tuple[str, str]] = []
    for part in _parts(request):
        inputs, first = gather(part), part.variants[0]
        compiler, sysroot = inputs.compiler, inputs.codecs.sysroot
        found += [
            (f"{first.platform} compiler", f"{compiler.family} {compiler.version}, {compiler.linker[0]} links"),
            (f"{first.platform} codecs", str(sysroot.root) if sysroot else "this machine's"),
            (f"{first.platform} torch {inputs.torch.version}", str(inputs.torch.root)),
        ]
        found += [(f"CUDA {inputs.cuda.version}", str(inputs.cuda.root))] if inputs.cuda else []
        if is_foreign(first.platform) and first.isa in PROCESSORS:
            for python in dict.fromkeys(variant.python for variant in part.variants):
                found.append((f"{first.platform} Python {python}", str(emulator(first.platform, python).interpreter)))
    return [*dict.fromkeys(found), ("source", str(fetch_source(request.release, request.source).root))]


def _check_tools(request: Request) -> None:
    """Every package of this machine that a foreign platform needs, at once."""
    missing: dict[str, str] = {}
    for platform in dict.fromkeys(v.platform for v in request.variants if is_foreign(v.platform)):
        if request.cc_prefix is None and shutil.which(f"{platform}-linux-gnu-g++") is None:
            missing[cross_package(platform)] = f"{platform}-linux-gnu-g++"
        if not any(shutil.which(name) for name in qemu_names(platform)):
            missing[QEMU_PACKAGE] = qemu_names(platform)[0]
    if missing:
        raise MissingInput(
            f"Prepare {', '.join(map(str, request.variants))}",
            f"{' and '.join(missing.values())} {'is' if len(missing) == 1 else 'are'} not on this machine.",
            f"Run `sudo apt-get install {' '.join(missing)}`.",
        )


def _parts(request: Request) -> list[Request]:
    """`request` by track and platform."""
    return [part for requests in _tracks(request) for part in requests]


def _tracks(request: Request) -> list[list[Request]]:
    """`request` by track, and each track by platform."""
    found: dict[str, dict[str, list[Variant]]] = {}
    for variant in request.variants:
        found.setdefault(variant.track, {}).setdefault(variant.platform, []).append(variant)
    return [[replace(request, variants=tuple(chosen)) for chosen in platforms.values()] for platforms in found.values()]


def check_provable(wheel: Path, variant: Variant | None, trial: Trial) -> None:
    """Raises BadInput, before any work, for what `prove` could not do here."""
    if trial.processor:
        features_of(trial.processor)
    if wheel.is_dir():
        return
    if not wheel.is_file():
        raise BadInput(f"Verify {wheel}", "There is no such file.", "Check the path; `build` prints it.")
    variant = variant or claimed_variant(wheel)
    foreign = is_foreign(variant.platform)
    if foreign and not trial.static_only and not (trial.emulate and variant.isa in PROCESSORS):
        way = "Add --emulate to run it under qemu, or" if variant.isa in PROCESSORS else "Add"
        raise BadInput(
            f"Run {wheel.name}",
            f"{variant.isa} is {variant.platform}, and this machine is {host.machine()}.",
            f"{way} --static to read it only.",
        )


def prove_all(wheels: Sequence[tuple[Path, Variant | None]], trial: Trial) -> Iterator[Proof]:
    """`prove` each wheel, one after the other; those of one Python and torch share an environment."""
    for wheel, variant in wheels:
        check_provable(wheel, variant, trial)
    with tempfile.TemporaryDirectory(prefix="verify-", ignore_cleanup_errors=True) as name:
        for wheel, variant in wheels:
            yield prove(wheel, variant, trial, environments=Path(name))


def _judge_gpu(package: Package, variant: Variant, host: Host) -> tuple[Proof, tuple[Gpu, Way] | None]:
    if variant.cuda is None:
        raise BadInput(f"Verify {variant} on a GPU", "It has no CUDA operators.", "Leave out --device.")
    host.require(package.path.name)
    check, gpu = check_gpu(groups_of(package.extensions), variant, host)
    return Proof(variant=str(variant), checks=(check,)), gpu


def _existing(python: Path, variant: Variant) -> Environment:
    found = existing(python)
    if found.version != variant.python:
        raise BadInput(
            f"Verify {variant} with {python}",
            f"That is Python {found.version[0]}.{found.version[1:]}, the wheel is for {variant.python_version}.",
            "Name an environment of that Python, or leave --python out.",
        )
    return found


def for_pythons(variants: Sequence[Variant], pythons: Sequence[str]) -> tuple[Variant, ...]:
    """Each variant for each Python of `pythons` ("310", "313"); unchanged when `pythons` is empty."""
    if not pythons:
        return tuple(variants)
    return tuple(dict.fromkeys(replace(variant, python=python) for variant in variants for python in pythons))


def _device(request: Request, inputs: Inputs) -> Device | None:
    if inputs.cuda is None or inputs.cuda_compiler is None:
        return None
    made = {variant.sm: cuda_codegen(variant, ptx=request.ptx) for variant in request.variants}
    sms = {sm: codegen for sm, codegen in made.items() if sm and codegen}
    splice = _script("splice")
    if inputs.cuda_compiler.family == "nvcc":
        splice = (sys.executable, "-m", "build_torchvision.build.splice_object")
    return Device(sdk=inputs.cuda, compiler=inputs.cuda_compiler, sms=sms, splice=splice)


def _script(name: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", str(Path(__file__).parent / "build" / f"{name}.py"))


def _package(variant: Variant, request: Request, inputs: Inputs, outcome: Outcome) -> Path:
    codegen = cuda_codegen(variant, ptx=request.ptx)
    covered = variant.sm is None or inputs.carried is None or covers(*inputs.carried, variant.sm)
    paired = inputs.torch.version == request.release.torch and covered
    ptx = added_ptx(variant, request)
    local = local_version(variant, paired=paired, ptx=ptx, labelled=request.labelled)
    upstream = ask_upstream(
        inputs.source.root,
        version=f"{inputs.source.version}+{local}".removesuffix("+"),
        torch=inputs.torch.version,
        cuda=variant.cuda,
        codecs=frozenset(inputs.codecs.found),
        nvjpeg=inputs.cuda is not None and inputs.cuda.nvjpeg is not None,
    )
    contents = Contents(
        variant=variant,
        source_root=inputs.source.root,
        upstream=upstream,
        ptx=ptx,
        extensions=outcome.extensions(target_name(variant.isa, variant.sm)),
        torch_requirement=request.release.torch_requirement if paired else f"=={inputs.torch.version}",
        libraries=toolkit_libraries(inputs.cuda) if inputs.cuda else (),
        sysroot=inputs.codecs.sysroot.root if inputs.codecs.sysroot else None,
        library_dirs=inputs.codecs.sysroot.lib_dirs if inputs.codecs.sysroot else (),
        facts={
            "variant": str(variant),
            "torchvision": inputs.source.version,
            "source_sha256": inputs.source.sha256,
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
        },
    )
    return assemble(contents, request.out, labelled=request.labelled)


def added_ptx(variant: Variant, request: Request) -> bool:
    """Whether `variant`'s wheel holds PTX that --ptx put beside its cubins."""
    codegen = cuda_codegen(variant, ptx=request.ptx)
    return codegen is not None and codegen.cubin and codegen.ptx


def describe_plan(request: Request, variant: Variant) -> dict[str, object]:
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

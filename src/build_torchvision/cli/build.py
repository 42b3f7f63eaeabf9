"""`plan` and `build`: from names to verified wheels."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from build_torchvision import pipeline
from build_torchvision.choose.auto import auto_variant
from build_torchvision.cli import tables
from build_torchvision.cli.options import (
    COMPILING,
    ERR,
    INPUTS,
    OUT,
    RESULT,
    WHAT,
    AllowUnpaired,
    CcPrefix,
    Compiler,
    Cuda,
    CudaCompiler,
    Json,
    Names,
    Output,
    Ptx,
    Quiet,
    Release,
    Source,
    Torch,
    TorchIndex,
    Verbose,
    Without,
    flag,
    log_to_stderr,
    show_left_out,
)
from build_torchvision.cli.sheet import Sheet
from build_torchvision.errors import BadInput, VerificationFailed
from build_torchvision.facts import releases
from build_torchvision.inputs.source import SourceAvailability, source_version
from build_torchvision.machine.report import detect
from build_torchvision.machine.sources import this_machine
from build_torchvision.operators import Choice
from build_torchvision.plan_report import describe_plan
from build_torchvision.requests import (
    ANY,
    Wanted,
    for_pythons,
    named_variants,
    pip_lists,
    pythons_named,
    requests_for,
    running_python,
    torch_named,
)
from build_torchvision.variants import Variant
from build_torchvision.verify.session import VerifyOptions, verify_all


def plan(
    *names: Names,
    torchvision: Release = None,
    torch: Torch = None,
    torch_index: TorchIndex = None,
    without: Without = (),
    compiler: Compiler = "auto",
    source: Source = None,
    cuda: Cuda = None,
    cuda_compiler: CudaCompiler = "auto",
    ptx: Ptx = False,
    allow_unpaired: AllowUnpaired = False,
    as_json: Json = False,
) -> None:
    """Print what `build` would do with variants NAMES: inputs, flags, the wheel's name. Nothing is fetched or run."""
    exact, matched = named_variants(names)
    wanted = Wanted(
        exact=exact,
        matched=matched,
        torchvision=torchvision,
        torch=torch,
        torch_index=torch_index,
        source=source,
        allow_unpaired=allow_unpaired,
        options={
            "without": frozenset(without),
            "compiler": compiler,
            "cuda": cuda,
            "cuda_compiler": cuda_compiler,
            "ptx": ptx,
        },
    )
    found = requests_for(wanted, available=lambda release: True)
    show_left_out(found)
    plans = [describe_plan(request, variant) for request in found.requests for variant in request.variants]
    if as_json:
        print(json.dumps(plans, indent=2))
        return
    for number, row in enumerate(plans):
        if number:
            OUT.print()
        known = {key.replace("_", " "): value for key, value in row.items() if value is not None and value != []}
        texts = [(key, " ".join(value) if isinstance(value, list) else str(value)) for key, value in known.items()]
        Sheet.of(texts).print(OUT)


def build(
    *names: Names,
    auto: Annotated[bool, flag(WHAT, "Build the best variant for this machine, for the running Python.")] = False,
    torchvision: Release = None,
    torch: Torch = None,
    torch_index: TorchIndex = None,
    source: Source = None,
    without: Without = (),
    compiler: Compiler = "auto",
    cc_prefix: CcPrefix = None,
    glibc: Annotated[str | None, Parameter(group=COMPILING)] = None,
    codecs: Annotated[Literal["pinned", "system"] | None, Parameter(group=INPUTS)] = None,
    python: Annotated[str | None, Parameter(group=WHAT)] = None,
    jobs: Annotated[int | None, Parameter(group=COMPILING)] = None,
    cuda: Cuda = None,
    cuda_compiler: CudaCompiler = "auto",
    ptx: Ptx = False,
    launcher: Annotated[str, Parameter(group=COMPILING)] = "auto",
    allow_unpaired: AllowUnpaired = False,
    no_tuning: Annotated[bool, Parameter(negative=(), group=COMPILING)] = False,
    operators: Annotated[Choice, Parameter(group=COMPILING)] = Choice.TUNED,
    out_dir: Annotated[Path, Parameter(name="--out", group=RESULT)] = Path("dist"),
    build_dir: Annotated[Path | None, Parameter(group=COMPILING)] = None,
    with_variant_label: Annotated[bool, Parameter(name="--variant-label", negative=(), group=RESULT)] = False,
    verify_: Annotated[bool, Parameter(name="--verify", negative=(), group=RESULT)] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Build variants NAMES (or patterns), audit each wheel, and put those that hold into --out.

    Parameters
    ----------
    glibc
        The oldest glibc that the wheel runs on: 2.28 (the default), 2.34, or host for this machine's own.
    codecs
        Which image libraries are linked: pinned ones, compiled from source (the default), or the system's.
    python
        Make wheels for these Pythons from one compile, such as 310,311,312,313. Or any: one wheel for every Python.
    launcher
        A compiler cache: auto, ccache, sccache or none. auto takes ccache, else sccache, where one is on PATH. Its own
        environment variables name a remote cache, such as CCACHE_REMOTE_STORAGE.
    no_tuning
        Compile the CPU operators as upstream does: no relaxed floating-point flags, no change of the compiler's code.
    operators
        Whose CPU kernels the wheel has. tuned: this project's, faster, with the same results; upstream: TorchVision's.
    jobs
        How many compilers run at once. Default: from the cores and the memory.
    build_dir
        Where objects are kept. Default: in the cache.
    out_dir
        The folder for wheels.
    with_variant_label
        End file names in the variant's label (-avx512bf16.whl) and give all of them the release's own version.
        Installers that know variants then choose among them. pip refuses such names; `install` takes them.
    verify_
        Then run each wheel next to torch, as `verify` does; another platform's under emulation.
    """
    log_to_stderr(quiet=quiet, verbose=verbose)
    if auto and names:
        raise BadInput(
            "build --auto", "it chooses the variant itself, and names were given too.", "Give one of the two."
        )
    available = SourceAvailability()
    exact, matched = ((auto_choice(torchvision, torch, source, available),), ()) if auto else named_variants(names)
    pythons = pythons_named(python)
    wanted = Wanted(
        exact=for_pythons(exact, pythons),
        matched=for_pythons(matched, pythons),
        torchvision=torchvision,
        torch=torch,
        torch_index=torch_index,
        source=source,
        allow_unpaired=allow_unpaired,
        auto=auto,
        options={
            "without": frozenset(without),
            "compiler": compiler,
            "cc_prefix": cc_prefix,
            "glibc": glibc,
            "codecs": codecs,
            "jobs": jobs,
            "cuda": cuda,
            "cuda_compiler": cuda_compiler,
            "ptx": ptx,
            "launcher": launcher,
            "out": out_dir,
            "with_variant_label": with_variant_label,
            "tuning": not no_tuning,
            "operators": operators,
            "any_python": python == ANY,
        },
    )
    found = requests_for(wanted, available, lists=pip_lists)
    show_left_out(found)
    console = Output(stderr=True, quiet=quiet, width=None if ERR.is_terminal else ERR.width)
    result = pipeline.build_all(found.requests, console, folder=build_dir, verbose=verbose)
    for outcome in result.outcomes:
        console.print(
            f"{outcome.ran} actions, {outcome.cpu_seconds:.0f} CPU seconds, largest process {outcome.peak_mib:.0f} MiB"
            f"; objects and logs in {outcome.folder}",
            highlight=False,
        )
    proofs = [built.report for built in result.wheels]
    if verify_ and result.wheels:
        options = VerifyOptions(torch=torch, source=source, emulate=True)
        proofs = list(verify_all([(built.wheel, built.variant) for built in result.wheels], options))
    if as_json:
        rows = [
            {"variant": str(built.variant), "wheel": str(built.wheel), "proof": proof.to_json()}
            for built, proof in zip(result.wheels, proofs, strict=True)
        ]
        print(json.dumps(rows, indent=2))
    else:
        for built, proof in zip(result.wheels, proofs, strict=True):
            if verify_:
                OUT.print(tables.proof_table(proof))
            print(built.wheel)
    for variant, error in result.failed:
        ERR.print(f"failed: {variant}: {error.problem} {error.hint}", markup=False, highlight=False, soft_wrap=True)
    if result.failed:
        ERR.print(f"{len(result.failed)} of {len(result.failed) + len(result.wheels)} wheels failed", highlight=False)
    if result.failed or not all(proof.ok for proof in proofs):
        sys.exit(VerificationFailed.exit_code)


def auto_choice(
    torchvision: str | None,
    torch: str | None,
    source: Path | None = None,
    available: SourceAvailability | None = None,
) -> Variant:
    """The best variant for this machine; says on standard error what it is, and why it leaves a GPU idle if it does."""
    machine, own = detect(this_machine()), source_version(source) if source else None
    variant, why = auto_variant(
        machine,
        running_python(),
        torchvision=torchvision or (own if own in releases() else None),
        torch=torch_named(torch),
        available=available,
    )
    ERR.print(f"this machine's variant: {variant}", highlight=False)
    if why:
        ERR.print(why, markup=False, highlight=False)
    return variant

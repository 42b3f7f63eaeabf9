"""The command line: parse, call, print. Results go to standard output, everything else to standard error."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table

from build_torchvision import __version__, pipeline
from build_torchvision.cli import show as screens
from build_torchvision.codegen import describe, notes
from build_torchvision.errors import BadInput, BuildTorchvisionError, ProofFailed
from build_torchvision.facts import release
from build_torchvision.machine.cpu import best_cpu_variant
from build_torchvision.variants import PYTHONS, Variant, enumerate_variants, every_variant, parse, select

EPILOGUE = """Exit codes: 0 all held, 1 a proof failed, 2 bad input, 3 an input is missing, 4 a process failed,
5 the network failed, 130 interrupted.

Examples:

    build-torchvision variants 'cpu-*'
    build-torchvision show torchvision-python313-cuda12_8-sm121-armv9
    build-torchvision build --auto
    build-torchvision verify dist/*.whl
"""
app = App(name="build-torchvision", version=__version__, help=__doc__, help_epilogue=EPILOGUE)
app.register_install_completion_command()
out = Console(width=None if sys.stdout.isatty() else 160)  # columns of a file or pipe
err = Console(stderr=True)

Json = Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON, in the shape the README documents.")]
Quiet = Annotated[bool, Parameter(name=["--quiet", "-q"], negative=(), help="Print results only.")]
Verbose = Annotated[bool, Parameter(name=["--verbose", "-v"], negative=(), help="Print every command that runs.")]
Release = Annotated[str | None, Parameter(name="--torchvision", help="The release, such as 0.21.0.")]
Torch = Annotated[
    str | None, Parameter(name="--torch", help="VERSION, FILE.whl or SITE_PACKAGES; default: the pair's.")
]
Without = Annotated[
    tuple[str, ...], Parameter(name="--without", negative=(), help="Leave out a codec: jpeg, png or webp.")
]


@app.command
def variants(
    *patterns: str,
    track: list[str] | None = None,
    all_: Annotated[bool, Parameter(name="--all", negative=())] = False,
    python: str = "313",
    as_json: Json = False,
) -> None:
    """List variants: the 60 of the default matrix, or those that match PATTERNS (globs with braces).

    Parameters
    ----------
    track
        List another toolkit's part of the matrix: cuda12_4, cuda12_8, cuda12_9, cuda13_0 or cpu.
    all_
        Every Python, toolkit and GPU architecture there is.
    """
    universe = list(every_variant()) if all_ else enumerate_variants(python, *([track] if track else []))
    found = select(patterns, universe)
    if as_json:
        print(json.dumps([describe(variant) for variant in found], indent=2))
    else:
        out.print(screens.variants_table(found))


@app.command
def show(name: str, *, as_json: Json = False) -> None:
    """Say what variant NAME is: its flags, how its toolkit serves its GPU, and what to know before choosing it."""
    variant = parse(name)
    if as_json:
        print(json.dumps({**describe(variant), "notes": notes(variant)}, indent=2))
    else:
        out.print(screens.variant_sheet(variant))


@app.command
def plan(
    *names: str,
    torchvision: Release = None,
    torch: Torch = None,
    without: Without = (),
    compiler: str = "auto",
    as_json: Json = False,
) -> None:
    """Say what `build` would do with variants NAMES: inputs, flags and the wheel's name. Nothing is fetched or run."""
    request = _request(_named(names), torchvision, torch, without, compiler)
    plans = [pipeline.describe_plan(request, variant) for variant in request.variants]
    if as_json:
        print(json.dumps(plans, indent=2))
        return
    for row in plans:
        table = Table(show_header=False, box=None)
        for key, value in row.items():
            table.add_row(key.replace("_", " "), " ".join(value) if isinstance(value, list) else str(value))
        out.print(table)


@app.command
def build(
    *names: str,
    auto: Annotated[bool, Parameter(negative=())] = False,
    torchvision: Release = None,
    torch: Torch = None,
    source: Path | None = None,
    without: Without = (),
    compiler: str = "auto",
    python: str | None = None,
    jobs: int | None = None,
    cuda: Path | None = None,
    allow_unpaired: Annotated[bool, Parameter(negative=())] = False,
    out_dir: Annotated[Path, Parameter(name="--out")] = Path("dist"),
    build_dir: Path | None = None,
    labelled: Annotated[bool, Parameter(name="--variant-label", negative=())] = False,
    verify_: Annotated[bool, Parameter(name="--verify", negative=())] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Build variants NAMES (or patterns), prove each wheel statically, and put them into --out.

    Parameters
    ----------
    auto
        Build the best CPU variant for this machine and the running Python.
    source
        A source folder or tarball instead of the download.
    compiler
        auto, clang or gcc. auto takes clang from the package registry.
    python
        Package for these Pythons from one compile: 310,311,312,313,314.
    cuda
        An installed CUDA toolkit; default: assembled from the package registry.
    allow_unpaired
        Build against a torch that is not the release's own; the wheel, its version and its proof say so.
    jobs
        Compilers at once; default: from the cores and the memory.
    build_dir
        Where objects are kept; default: the cache, by inputs.
    labelled
        End file names in the variant's label (-avx512bf16.whl), as variant-aware installers expect; pip refuses them.
    verify_
        Then prove each wheel at run time too, as `verify` does.
    """
    _log(quiet=quiet, verbose=verbose)
    if auto and names:
        raise BadInput(
            "build --auto", "it chooses the variant itself, and names were given too.", "Give one of the two."
        )
    chosen = [best_cpu_variant()] if auto else _named(names)
    pythons = [text.replace(".", "") for text in python.split(",")] if python else []
    for text in pythons:
        if text not in PYTHONS:
            raise BadInput(f"--python {text}", "is not a Python of the matrix.", f"Choose from {', '.join(PYTHONS)}.")
    request = replace(
        _request(pipeline.for_pythons(chosen, pythons), torchvision, torch, without, compiler),
        source=source,
        jobs=jobs,
        cuda=cuda,
        allow_unpaired=allow_unpaired,
        out=out_dir,
        labelled=labelled,
    )
    console = Console(stderr=True, quiet=quiet)
    built, outcomes = pipeline.build(request, console, folder=build_dir, verbose=verbose)
    for outcome in outcomes:
        console.print(
            f"{outcome.ran} actions, {outcome.cpu_seconds:.0f} CPU seconds, largest process {outcome.peak_mib:.0f} MiB"
            f"; objects and logs in {outcome.folder}",
            highlight=False,
        )
    proofs = [pipeline.prove(b.wheel, b.variant, torch=torch) if verify_ else b.proof for b in built]
    if as_json:
        rows = [
            {"variant": str(b.variant), "wheel": str(b.wheel), "proof": proof.to_json()}
            for b, proof in zip(built, proofs, strict=True)
        ]
        print(json.dumps(rows, indent=2))
    else:
        for result, proof in zip(built, proofs, strict=True):
            if verify_:
                out.print(screens.proof_table(proof))
            print(result.wheel)
    if not all(proof.ok for proof in proofs):
        sys.exit(ProofFailed.exit_code)


@app.command
def verify(
    *wheels: Path,
    variant: str | None = None,
    torch: Torch = None,
    static: Annotated[bool, Parameter(negative=())] = False,
    upstream_tests: Annotated[bool, Parameter(negative=())] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Prove that WHEELS are what their names say: every instruction decoded, then run beside their torch.

    Parameters
    ----------
    variant
        The variant to prove, where the file name does not say.
    static
        Only read the files; install and run nothing.
    upstream_tests
        Also run upstream's own test_ops.py, copied out of its source tree.
    """
    _log(quiet=quiet, verbose=verbose)
    if not wheels:
        raise BadInput("verify", "no wheel was named.", "Try `build-torchvision verify dist/*.whl`.")
    proofs = [
        pipeline.prove(
            wheel,
            parse(variant) if variant else None,
            torch=torch,
            static_only=static,
            upstream_tests=upstream_tests,
        )
        for wheel in wheels
    ]
    if as_json:
        print(json.dumps([proof.to_json() for proof in proofs], indent=2))
    else:
        for proof in proofs:
            out.print(screens.proof_table(proof))
    if not all(proof.ok for proof in proofs):
        sys.exit(ProofFailed.exit_code)


def _named(names: tuple[str, ...]) -> list[Variant]:
    if not names:
        raise BadInput("naming a variant", "no name was given.", "Try `build-torchvision variants`, or `build --auto`.")
    return [
        found
        for name in names
        for found in (select([name], every_variant()) if "-python" in name else select([name], enumerate_variants()))
    ]


def _request(
    chosen: Sequence[Variant], torchvision: str | None, torch: str | None, without: tuple[str, ...], compiler: str
) -> pipeline.Request:
    return pipeline.Request(
        variants=tuple(chosen),
        release=release(torchvision or pipeline.DEFAULT_RELEASE),
        torch=torch,
        without=frozenset(without),
        compiler=compiler,
    )


def _log(*, quiet: bool, verbose: bool) -> None:
    level = logging.ERROR if quiet else logging.DEBUG if verbose else logging.WARNING
    logging.basicConfig(
        level=level, format="%(message)s", handlers=[RichHandler(console=err, show_time=False, show_path=False)]
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("httpcore").setLevel(logging.WARNING)


def main() -> None:
    """Run the command line; every error of ours becomes three sentences and its exit code."""
    try:
        app()
    except BuildTorchvisionError as error:
        err.print(f"[bold red]error[/] {type(error).__name__}")
        for text in (f"asked:    {error.asked}", f"obstacle: {error.obstacle}", f"next:     {error.remedy}"):
            err.print(text, markup=False, highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        err.print("interrupted: what is finished is kept, and the same command goes on from there")
        sys.exit(130)


if __name__ == "__main__":
    main()

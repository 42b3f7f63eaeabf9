"""What `plan`, `prepare` and `build` are told alike: which variants, of which release, from which inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from build_torchvision.choose.auto import auto_variant
from build_torchvision.cli.options import (
    COMPILING,
    ERR,
    INPUTS,
    RESULT,
    WHAT,
    Release,
    Source,
    Torch,
    TorchIndex,
    flag,
)
from build_torchvision.errors import BadInput
from build_torchvision.facts import Release as ReleaseRow
from build_torchvision.facts import releases
from build_torchvision.inputs.codecs import CodecName
from build_torchvision.inputs.compiler import CompilerChoice
from build_torchvision.inputs.cuda_compiler import CudaCompilerChoice
from build_torchvision.inputs.source import source_version
from build_torchvision.inputs.toolchain import GlibcChoice
from build_torchvision.machine.report import detect
from build_torchvision.machine.sources import this_machine
from build_torchvision.operators import Choice
from build_torchvision.requests import (
    ANY,
    Requests,
    Wanted,
    for_pythons,
    left_out_by_reason,
    named_variants,
    pythons_named,
    requests_for,
    running_python,
    torch_named,
)
from build_torchvision.variants import Variant


@dataclass(frozen=True, kw_only=True)
class WheelOptions:
    """The options that decide what is built, in the order in which help lists them."""

    auto: Annotated[bool, flag(WHAT, "Take the best variant for this machine, for the running Python.")] = False
    torchvision: Release = None
    python: Annotated[
        str | None,
        Parameter(
            group=WHAT,
            help="Wheels for these Pythons from one compile, such as 310,311,312,313. Or any: one wheel for all.",
        ),
    ] = None
    torch: Torch = None
    torch_index: TorchIndex = None
    source: Source = None
    without: Annotated[
        tuple[CodecName, ...],
        Parameter(name="--without", negative=(), group=INPUTS, help="Leave out a codec."),
    ] = ()
    codecs: Annotated[
        Literal["pinned", "system"] | None,
        Parameter(
            group=INPUTS,
            help="Which image libraries are linked: pinned ones, compiled from source (the default), or the system's.",
        ),
    ] = None
    allow_unpaired: Annotated[
        bool,
        flag(INPUTS, "Accept a torch that is not the release's own. The wheel's version then ends in .unpaired."),
    ] = False
    compiler: Annotated[CompilerChoice, Parameter(group=COMPILING, help="auto is clang from the package registry.")] = (
        "auto"
    )
    cc_prefix: Annotated[
        str | None,
        Parameter(
            group=COMPILING,
            help="A GNU cross toolchain: what comes before g++, such as /opt/arm/bin/aarch64-none-linux-gnu-.",
        ),
    ] = None
    glibc: Annotated[
        GlibcChoice | None,
        Parameter(
            group=COMPILING,
            help="The oldest glibc that the wheel runs on: 2.28 (the default), 2.34, or host for this machine's own.",
        ),
    ] = None
    cuda: Annotated[
        Path | None,
        Parameter(group=COMPILING, help="An installed CUDA toolkit. Default: its parts from the package registry."),
    ] = None
    cuda_compiler: Annotated[CudaCompilerChoice, Parameter(group=COMPILING, help="auto is clang.")] = "auto"
    ptx: Annotated[
        bool, flag(COMPILING, "Add PTX to the cubins, so that the driver can compile it for later GPUs.")
    ] = False
    no_tuning: Annotated[
        bool,
        flag(
            COMPILING,
            "Compile the CPU operators as upstream does: no relaxed floating-point flags, no change of the compiler's "
            "code.",
        ),
    ] = False
    operators: Annotated[
        Choice,
        Parameter(
            group=COMPILING,
            help="Whose CPU kernels the wheel has. tuned: this project's, faster, with the same results; upstream: "
            "TorchVision's.",
        ),
    ] = Choice.TUNED
    variant_label: Annotated[
        bool,
        flag(
            RESULT,
            "End file names in the variant's label (-avx512bf16.whl) and give all of them the release's own version. "
            "Installers that know variants then choose among them. pip refuses such names; `install` takes them.",
        ),
    ] = False

    def requests(
        self,
        command: str,
        names: Sequence[str],
        available: Callable[[ReleaseRow], bool],
        *,
        lists: Callable[[Variant, str], bool] | None = None,
        **options: object,
    ) -> Requests:
        """What `command` is asked for, `available` and `lists` as in `requests_for`, `options` as in `Wanted`.

        What a pattern named and is left out, and which release stands in for another, is said on standard error.
        """
        if self.auto and names:
            raise BadInput(
                f"{command} --auto", "it chooses the variant itself, and names were given too.", "Give one of the two."
            )
        exact, matched = ((self.best_variant(available),), ()) if self.auto else named_variants(names)
        pythons = pythons_named(self.python)
        wanted = Wanted(
            exact=for_pythons(exact, pythons),
            matched=for_pythons(matched, pythons),
            torchvision=self.torchvision,
            torch=self.torch,
            torch_index=self.torch_index,
            source=self.source,
            allow_unpaired=self.allow_unpaired,
            auto=self.auto,
            options={
                "without": frozenset(self.without),
                "codecs": self.codecs,
                "compiler": self.compiler,
                "cc_prefix": self.cc_prefix,
                "glibc": self.glibc,
                "cuda": self.cuda,
                "cuda_compiler": self.cuda_compiler,
                "ptx": self.ptx,
                "tuning": not self.no_tuning,
                "operators": self.operators,
                "any_python": self.python == ANY,
                "with_variant_label": self.variant_label,
                **options,
            },
        )
        found = requests_for(wanted, available, lists=lists)
        for note in found.notes:
            ERR.print(note, markup=False, highlight=False, soft_wrap=True)
        of_pythons = {variant.python for variant in (*found.variants, *(one.variant for one in found.left_out))}
        for reason, variants in left_out_by_reason(found.left_out).items():
            left_out = ", ".join(variant.short if len(of_pythons) == 1 else str(variant) for variant in variants)
            ERR.print(f"left out: {left_out}: {reason}", markup=False, highlight=False, soft_wrap=True)
        return found

    def best_variant(self, available: Callable[[ReleaseRow], bool] | None = None) -> Variant:
        """The best variant for this machine; says on standard error what it is, and why a GPU stays idle."""
        own = source_version(self.source) if self.source else None
        variant, why = auto_variant(
            detect(this_machine()),
            running_python(),
            torchvision=self.torchvision or (own if own in releases() else None),
            torch=torch_named(self.torch),
            available=available,
        )
        ERR.print(f"this machine's variant: {variant}", highlight=False)
        if why:
            ERR.print(why, markup=False, highlight=False)
        return variant


Wheel = Annotated[WheelOptions, Parameter(name="*")]
"""The type of a command's parameter that stands for all of `WheelOptions`."""
WHEEL = WheelOptions()

"""Find clang or nvcc as the CUDA compiler of a build, and ask it for the GPU architectures that it compiles for."""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, get_args

from build_torchvision.errors import BadInput, BuildTorchvisionError, MissingInput
from build_torchvision.facts import gpus, toolkits
from build_torchvision.inputs.compiler import Compiler, find_compiler
from build_torchvision.inputs.cuda_sdk import CudaSdk
from build_torchvision.process import run

log = logging.getLogger(__name__)
CudaCompilerChoice = Literal["auto", "clang", "nvcc"]
OLDEST_GCC = 9  # where the search for a host compiler that nvcc accepts ends: the first with all of C++17


class CudaCompiler(Protocol):
    """A CUDA compiler of this machine. `command` takes flags and a source; `origin` says where it comes from.

    `splices` is whether its host and device halves can be compiled apart and joined.
    """

    @property
    def family(self) -> Literal["clang", "nvcc"]: ...
    @property
    def version(self) -> str: ...
    @property
    def command(self) -> tuple[str, ...]: ...
    @property
    def origin(self) -> str: ...
    @property
    def splices(self) -> bool: ...

    def architectures(self) -> frozenset[str]:
        """The SMs that it compiles for ("sm90"), of those in the tables: its own word."""
        ...

    def promised(self) -> frozenset[str]:
        """The SMs that the tables say a compiler of this version compiles for."""
        ...


@dataclass(frozen=True, kw_only=True)
class Clang:
    """clang as a CUDA compiler; it brings no toolkit and works with any."""

    compiler: Compiler
    splices: bool = True
    family: Literal["clang"] = "clang"

    @property
    def version(self) -> str:
        return self.compiler.version

    @property
    def command(self) -> tuple[str, ...]:
        return self.compiler.command

    @property
    def origin(self) -> str:
        return f"the {self.compiler.origin}'s clang {self.version}"

    def architectures(self) -> frozenset[str]:
        command = [*self.command, "--target=nvptx64-nvidia-cuda", "--print-supported-cpus"]
        done = run(command, action=f"asking {self.origin} for its GPU architectures")
        return _known(re.findall(r"\bsm_(\d+)\b", done.stdout + done.stderr))

    def promised(self) -> frozenset[str]:
        major = int(self.version.split(".")[0])
        return frozenset(sm for sm, gpu in gpus().items() if gpu.clang <= major)


@dataclass(frozen=True, kw_only=True)
class Nvcc:
    """nvcc, with the host compiler that it is to call."""

    program: Path
    version: str
    host: str
    track: str
    splices: bool
    family: Literal["nvcc"] = "nvcc"

    @property
    def command(self) -> tuple[str, ...]:
        return (str(self.program), "-ccbin", self.host)

    @property
    def origin(self) -> str:
        return f"nvcc {self.version} ({self.program})"

    def architectures(self) -> frozenset[str]:
        done = run([self.program, "--list-gpu-arch"], action=f"asking {self.origin} for its GPU architectures")
        return _known(re.findall(r"\bcompute_(\d+)\b", done.stdout))

    def promised(self) -> frozenset[str]:
        return frozenset(toolkits()[self.track].native)


def find_cuda_compiler(choice: str, compiler: Compiler, sdk: CudaSdk, given: Path | None = None) -> CudaCompiler:
    """The CUDA compiler for `sdk`'s track that `choice` ("auto", "clang", "nvcc") names.

    auto is clang, and nvcc where there is none. Measured on 0.21.0, all CUDA sources as one unit: clang's device half
    costs 10.4 CPU seconds and its host half 11.5, nvcc 13.0's 19.1 and 53.6. On an H100 clang's roi_align is 12 %
    faster forward, its deform_conv2d 4 and 7 % slower, the rest equal (benchmarks/NOTES.md): that for half the build,
    and for every track without an installation, while the registry has no nvcc before 13.0. `compiler` is the C++
    compiler, `given` the folder of an installed toolkit. Raises MissingInput with the ways to get one, BadInput for an
    unknown choice.
    """
    action = f"Find a CUDA compiler for track {sdk.track} (--cuda-compiler {choice})"
    if choice not in get_args(CudaCompilerChoice):
        raise BadInput(action, "No such compiler is known.", "Choose auto, clang or nvcc.")
    if choice in ("auto", "clang"):
        try:
            return Clang(compiler=compiler if compiler.family == "clang" else find_compiler("clang"))
        except MissingInput:
            if choice == "clang":
                raise
    return _nvcc(action, sdk, given)


def check_architectures(compiler: CudaCompiler, sdk: CudaSdk, bases: Sequence[str]) -> None:
    """See, before anything is compiled, that `compiler` serves the SMs `bases`: its own word counts, not the table's.

    Where the two differ about another SM a warning says so. Raises BadInput where the compiler does not know one of
    `bases`, with the table's part in it.
    """
    action = f"Compile track {sdk.track} with {compiler.origin}"
    known, promised = compiler.architectures(), compiler.promised()
    table = "gpus.toml (clang)" if compiler.family == "clang" else "toolkits.toml (native)"
    for sm in bases:
        if sm not in known and sm in promised:
            raise BadInput(
                action,
                f"Asked, it does not compile for {sm}, and the table in facts/{table} says that it does.",
                "Correct the table, or choose the other --cuda-compiler.",
            )
        if sm not in known:
            first = gpus()[sm].clang
            raise BadInput(
                action,
                f"It does not compile for {sm}"
                + (f"; clang {first} is the first that does." if compiler.family == "clang" else "."),
                "Leave out --cuda-compiler and --compiler: this package's own dependencies hold a clang that does.",
            )
    differences = [
        *(f"it compiles for {sm} and the table says it does not" for sm in sorted(known - promised)),
        *(f"the table says it compiles for {sm} and it does not" for sm in sorted(promised - known)),
    ]
    if differences:
        log.warning("%s: asked, %s (facts/%s)", compiler.origin, "; ".join(differences), table)


def _known(numbers: Sequence[str]) -> frozenset[str]:
    return frozenset(f"sm{number}" for number in numbers) & gpus().keys()


def _nvcc(action: str, sdk: CudaSdk, given: Path | None) -> Nvcc:
    seen: list[str] = []
    for program in _candidates(sdk, given):
        try:
            text = run([program, "--version"], action=action).stdout
        except BuildTorchvisionError:
            continue
        found = re.search(r"release (\d+\.\d+)", text)
        if found and found[1] == sdk.version:
            options = run([program, "--help"], action=action).stdout
            return Nvcc(
                program=program,
                version=sdk.version,
                host=_host_compiler(action, sdk.track),
                track=sdk.track,
                splices="--frandom-seed" in options,
            )
        seen.append(f"{program} is {found[1] if found else 'of an unknown version'}")
    raise MissingInput(
        action,
        f"No nvcc {sdk.version} is here" + (f" ({', '.join(seen)})." if seen else "."),
        f"Name one with --cuda DIR or CUDA_HOME, install CUDA {sdk.version} to /usr/local/cuda-{sdk.version}"
        + (", run `apt-get install nvidia-cuda-toolkit` on Debian 13," if sdk.version == "12.4" else "")
        + " or choose --cuda-compiler clang.",
    )


def _candidates(sdk: CudaSdk, given: Path | None) -> Iterator[Path]:
    """Where an nvcc may be, best first: asked for, the environment's, PATH's, the usual folders, the registry's."""
    homes = [given] if given else []
    homes += [Path(home)] if (home := os.environ.get("CUDA_HOME")) else []
    programs = [home / "bin" / "nvcc" for home in homes]
    programs += [Path(found)] if (found := shutil.which("nvcc")) else []
    programs += [Path(f"/usr/local/cuda-{sdk.version}/bin/nvcc"), Path("/usr/lib/nvidia-cuda-toolkit/bin/nvcc")]
    programs += [sdk.root / "bin" / "nvcc"]
    for program in dict.fromkeys(path.absolute() for path in programs):
        if program.is_file():
            yield program


def _host_compiler(action: str, track: str) -> str:
    """A g++ that nvcc accepts: the system's, or an older one beside it (NVIDIA's installation guide has the bounds)."""
    newest, seen = toolkits()[track].newest_gcc, []
    for name in ("g++", *(f"g++-{major}" for major in range(newest, OLDEST_GCC - 1, -1))):
        try:
            version = run([name, "-dumpfullversion"], action=action).stdout.strip()
        except MissingInput:
            continue
        if OLDEST_GCC <= int(version.split(".")[0]) <= newest:
            return name
        seen.append(f"{name} is {version}")
    raise MissingInput(
        action,
        f"nvcc {toolkits()[track].version} takes gcc up to {newest} ({', '.join(seen) or 'there is no g++'}).",
        f"Run `sudo apt-get install g++-{newest}`, or choose --cuda-compiler clang.",
    )

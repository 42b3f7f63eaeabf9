"""Find the C++ compiler and linker of a build: clang from the package registry, or the system's clang or g++."""

from __future__ import annotations

import logging
import platform as host
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from build_torchvision.errors import BadInput, BuildTorchvisionError, FetchFailed, MissingInput
from build_torchvision.facts import OLDEST_CLANG
from build_torchvision.inputs.programs import pinned_clang
from build_torchvision.inputs.toolchain import Toolchain, fetch_toolchain
from build_torchvision.process import run

log = logging.getLogger(__name__)
CompilerChoice = Literal["auto", "clang", "gcc"]
# The first versions that know every -march of the matrix (x86-64-v4 with AVX512-BF16, armv9-a).
FIRST_GCC, FIRST_CLANG = 12, OLDEST_CLANG
PROBE = "#include <string>\n#include <vector>\nstd::vector<std::string> probe(int n) { return {std::to_string(n)}; }\n"


@dataclass(frozen=True, kw_only=True)
class Compiler:
    """A compiler that has compiled a probe on this machine.

    `command` and `c_command` are what flags and `-c FILE` follow; `linker` links, and what it links ends with
    `runtime`; `origin` is "registry" or "system". `toolchain` holds the pinned headers and libraries; None where the
    system's g++ brings them.
    """

    family: Literal["clang", "gcc"]
    version: str
    command: tuple[str, ...]
    c_command: tuple[str, ...]
    linker: tuple[str, ...]
    origin: Literal["registry", "system"]
    runtime: tuple[str, ...] = ()
    toolchain: Toolchain | None = None

    @property
    def glibc(self) -> str:
        """The glibc that is built for: "2.28", or "host" for whatever this machine has."""
        return self.toolchain.glibc if self.toolchain else "host"


def find_compiler(
    choice: str = "auto", platform: str = "x86_64", prefix: str | None = None, glibc: str = "host"
) -> Compiler:
    """The compiler for `platform` that `choice` ("auto", "clang", "gcc") names, building for `glibc`.

    With a pinned `glibc` ("2.28") it is the package registry's clang with the pinned toolchain, and nothing of the
    system is used. With "host" auto and clang take the registry's clang, then the system's; auto then takes g++.
    `prefix` is what stands before g++ in the name of the GNU toolchain ("/opt/arm/bin/aarch64-none-linux-gnu-"); None
    is Debian's for a foreign platform and nothing for the machine's own. Raises MissingInput naming the package to
    install, BadInput for an unknown choice, or one that the glibc excludes.
    """
    action = f"Find a C++ compiler for {platform} (--compiler {choice})"
    if choice not in get_args(CompilerChoice):
        raise BadInput(action, "No such compiler is known.", "Choose auto, clang or gcc.")
    if glibc != "host":
        return _pinned(choice, platform, prefix, glibc, action)
    native = platform == host.machine()
    given, prefix = prefix, prefix if prefix is not None else "" if native else f"{platform}-linux-gnu-"
    gpp, gcc = f"{prefix}g++", f"{prefix}gcc"
    package = "g++" if native else cross_package(platform)
    install = f"Run `sudo apt-get install {package}`." if given is None else "Check --cc-prefix."
    try:
        gcc_version = run([gpp, "-dumpfullversion"], action=action).stdout.strip()
        machine = run([gpp, "-dumpmachine"], action=action).stdout.strip()
        libgcc = Path(run([gpp, "-print-libgcc-file-name"], action=action).stdout.strip())
    except MissingInput as error:
        raise MissingInput(
            action, f"{gpp} is not on this machine; its libstdc++ and linker are used.", install
        ) from error
    if not machine.startswith(f"{platform}-"):
        raise BadInput(action, f"{gpp} compiles for {machine}.", "Name a toolchain of the variants' platform.")
    candidates: list[Compiler] = []
    if choice in ("auto", "clang"):
        candidates += _clangs(action, platform, libgcc.parent, gpp)
    if choice in ("auto", "gcc") and _major(gcc_version) >= FIRST_GCC:
        candidates.append(
            Compiler(
                family="gcc",
                version=gcc_version,
                command=(gpp,),
                c_command=(gcc,),
                linker=(gpp,),
                origin="system",
            )
        )
    for candidate in candidates:
        if accepts(candidate, ("-std=c++17",)):
            return candidate
    if choice == "gcc" and not candidates:
        raise MissingInput(action, f"{gpp} is version {gcc_version}; {FIRST_GCC} is the first that will do.", install)
    tried = ", ".join(f"{found.origin} {found.family} {found.version}" for found in candidates) or "none found"
    raise MissingInput(
        action,
        f"No compiler here compiles a small program ({tried}).",
        f"{install} For clang: check the network, from which the pinned one is fetched.",
    )


def _pinned(choice: str, platform: str, prefix: str | None, glibc: str, action: str) -> Compiler:
    if choice == "gcc" or prefix is not None:
        option = "--cc-prefix" if prefix is not None else "--compiler gcc"
        raise BadInput(
            f"Build for glibc {glibc} with {option}",
            "Only the package registry's clang comes with headers of another glibc than this machine's.",
            f"Leave out {option}, or choose --glibc host.",
        )
    zig, resources, version = _registry_clang(action)
    if zig is None or resources is None or version is None:
        raise MissingInput(
            action,
            f"The package registry's clang does not run on this machine ({zig}).",
            "Choose --glibc host, and install a g++ or clang.",
        )
    toolchain = fetch_toolchain(platform, glibc, zig, resources)
    target = (f"--target={platform}-linux-gnu", "--no-default-config", "-resource-dir", str(resources))
    driver = (str(zig), "clang", "--driver-mode=g++", *target)
    found = Compiler(
        family="clang",
        version=version,
        command=(*driver, *toolchain.cxx_flags),
        c_command=(str(zig), "clang", "--driver-mode=gcc", *target, *toolchain.c_flags),
        linker=(*driver, *toolchain.link_flags),
        origin="registry",
        runtime=toolchain.runtime,
        toolchain=toolchain,
    )
    if not accepts(found, ("-std=c++17",)):
        raise MissingInput(
            action, "It does not compile a small program.", "Choose --glibc host, and install a g++ or clang."
        )
    return found


def cross_package(platform: str) -> str:
    """apt's package of the GNU toolchain for a foreign `platform`."""
    return f"g++-{platform.replace('_', '-')}-linux-gnu"


def accepts(compiler: Compiler, flags: Sequence[str]) -> bool:
    """Whether `compiler` compiles a small program that uses libstdc++ with `flags`, without a warning about them."""
    with tempfile.TemporaryDirectory(prefix="build-torchvision-probe-") as name:
        source = Path(name) / "probe.cpp"
        source.write_text(PROBE, encoding="utf-8")
        command = [*compiler.command, *flags, "-Werror", "-c", str(source), "-o", str(source.with_suffix(".o"))]
        done = run(command, action=f"Try {' '.join(flags)}", check=False, timeout=120)
        return done.returncode == 0 and source.with_suffix(".o").is_file()


def _clangs(action: str, platform: str, gcc_dir: Path, gpp: str) -> list[Compiler]:
    found: list[Compiler] = []
    target = (f"--target={platform}-linux-gnu", f"--gcc-install-dir={gcc_dir}")
    try:
        zig, resources, version = _registry_clang(action)
    except FetchFailed as error:
        log.warning("The package registry's clang is left out: %s", error.problem)
        zig = resources = version = None
    if zig and resources and version:
        found.append(
            Compiler(
                family="clang",
                version=version,
                command=(str(zig), "clang", "--driver-mode=g++", *target, "-resource-dir", str(resources)),
                c_command=(str(zig), "clang", "--driver-mode=gcc", *target, "-resource-dir", str(resources)),
                linker=(gpp,),
                origin="registry",
            )
        )
    version = _clang_version(action, ("clang++", "--version"))
    if version and _major(version) >= FIRST_CLANG:
        found.append(
            Compiler(
                family="clang",
                version=version,
                command=("clang++", *target),
                c_command=("clang", *target),
                linker=(gpp,),
                origin="system",
            )
        )
    return found


def _registry_clang(action: str) -> tuple[Path | None, Path | None, str | None]:
    """(zig, clang's folder of headers, clang's version); None for what does not run or does not fit the other."""
    zig, headers = pinned_clang()
    version = _clang_version(action, (str(zig), "clang", "--version"))
    resources = headers / str(_major(version)) if version else None
    return zig, resources if resources and resources.is_dir() else None, version


def _clang_version(action: str, command: tuple[str, ...]) -> str | None:
    try:
        text = run(command, action=action, check=False).stdout
    except BuildTorchvisionError:
        return None
    match = re.search(r"clang version (\d+\.\d+\.\d+)", text)
    return match[1] if match else None


def _major(version: str) -> int:
    head = version.partition(".")[0]
    return int(head) if head.isdigit() else 0

"""Compile upstream's operators, or ours, to a library of its own that torch loads, with the same compiler and flags."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from build_torchvision.inputs.compiler import Compiler
from build_torchvision.operators import FOLDER, KERNEL_FLAGS, REPLACEMENTS

MATH = tuple(flag for flag in KERNEL_FLAGS if flag != "-fvisibility=hidden")


@dataclass(frozen=True, kw_only=True)
class Torch:
    """A Python that has torch, and where that torch lies."""

    python: Path
    root: Path


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What both libraries are compiled with. `source` is upstream's tree of a release for the dispatcher's ABI."""

    compiler: Compiler
    torch: Torch
    source: Path
    flags: Sequence[str]
    work: Path

    @property
    def csrc(self) -> Path:
        return self.source / "torchvision" / "csrc"

    def upstream(self) -> Path:
        """The library of upstream's own kernels."""
        sources = [self.csrc / row.upstream for row in REPLACEMENTS if (self.csrc / row.upstream).is_file()]
        return self._link("upstream", [self._compile(source, "upstream", self.flags) for source in sources])

    def tuned(self, folder: Path = FOLDER, name: str = "tuned") -> Path:
        """The library of ours, from `folder`."""
        rows = [row for row in REPLACEMENTS if (self.csrc / row.upstream).is_file()]
        adaptors = [folder / "adaptors" / row.adaptor for row in rows]
        kernels = [folder / "kernels" / kernel for kernel in dict.fromkeys(k for row in rows for k in row.kernels)]
        objects = [self._compile(source, f"{name}-adaptor", ()) for source in adaptors]
        objects += [self._compile(source, name, self.flags, torch=False) for source in kernels]
        return self._link(name, objects)

    def _compile(self, source: Path, name: str, flags: Sequence[str], *, torch: bool = True) -> Path:
        output = self.work / name / f"{source.stem}.o"
        output.parent.mkdir(parents=True, exist_ok=True)
        include = self.torch.root / "include"
        headers = (
            ("-isystem", include, "-isystem", include / "torch/csrc/api/include", f"-I{self.csrc}") if torch else ()
        )
        command = [*self.compiler.command, "-std=c++20", "-O3", "-fPIC", "-DNDEBUG", "-w", *MATH, *flags, *headers]
        subprocess.run([*map(str, command), "-c", str(source), "-o", str(output)], check=True)
        return output

    def _link(self, name: str, objects: Sequence[Path]) -> Path:
        schemas = self.work / "schemas.cpp"
        if not schemas.exists():
            schemas.write_text(
                "".join(f'#include "{path}"\n' for path in sorted((self.csrc / "ops").glob("*.cpp"))), encoding="utf-8"
            )
        output = self.work / f"{name}.so"
        libraries = (f"-L{self.torch.root / 'lib'}", "-ltorch", "-ltorch_cpu", "-lc10")
        command = [*self.compiler.linker, "-shared", "-o", output, self._compile(schemas, "common", ()), *objects]
        subprocess.run([*map(str, command), *libraries], check=True)
        return output

"""Compile upstream's operators, or ours, to libraries that torch loads, with the same compiler and flags."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from build_torchvision.facts import Release
from build_torchvision.inputs.compiler import Compiler
from build_torchvision.inputs.upstream import Extension, ask_upstream
from build_torchvision.operators import FOLDER, KERNEL_FLAGS, Choice, Operators, operators_for

MATH = tuple(flag for flag in KERNEL_FLAGS if flag != "-fvisibility=hidden")


@dataclass(frozen=True, kw_only=True)
class Torch:
    """A Python that has torch, and where that torch lies."""

    python: Path
    root: Path

    @classmethod
    def of(cls, python: Path) -> Torch:
        where = "import torch, pathlib; print(pathlib.Path(torch.__file__).parent)"
        done = subprocess.run([python, "-c", where], check=True, capture_output=True, text=True)
        return cls(python=python, root=Path(done.stdout.strip()))


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What all libraries are compiled with: `source` is upstream's tree of `release`."""

    compiler: Compiler
    torch: Torch
    release: Release
    source: Path
    flags: Sequence[str]
    work: Path

    def extensions(self) -> list[Extension]:
        """Those that hold operators: one, or one for each of torch's interfaces."""
        asked = ask_upstream(
            self.source, version=self.release.torchvision, torch=self.release.torch, cuda=None, codecs=frozenset()
        )
        return [extension for extension in asked.extensions if self.operators().of(extension.sources)]

    def operators(self) -> Operators:
        return operators_for(self.release, Choice.TUNED, self.source)

    def upstream(self) -> list[Path]:
        """The libraries of upstream's own kernels."""
        return [self._link(extension, "upstream", self._upstream(extension)) for extension in self.extensions()]

    def tuned(self, folder: Path = FOLDER, name: str = "tuned") -> list[Path]:
        """The libraries of ours, from `folder`."""
        return [self._link(extension, name, self._tuned(extension, folder, name)) for extension in self.extensions()]

    def _upstream(self, extension: Extension) -> list[Path]:
        sources = [self.source / row.source for row in self.operators().of(extension.sources)]
        return [self._compile(extension, source, "upstream", self.flags) for source in sources]

    def _tuned(self, extension: Extension, folder: Path, name: str) -> list[Path]:
        rows = self.operators().of(extension.sources)
        adaptors = "".join(f'#include "{folder / "adaptors" / row.adaptor}"\n' for row in rows)
        text = self._text(f"{extension.module}-{name}-adaptors", adaptors)
        kernels = dict.fromkeys(folder / "kernels" / kernel for row in rows for kernel in row.kernels)
        return [
            self._compile(extension, text, name, self.operators().macros),
            *(self._compile(None, kernel, f"{extension.module}-{name}", self.flags) for kernel in kernels),
        ]

    def _text(self, name: str, text: str) -> Path:
        path = self.work / f"{name}.cpp"
        path.write_text(text, encoding="utf-8")
        return path

    def _compile(self, extension: Extension | None, source: Path, name: str, flags: Sequence[str]) -> Path:
        """Compile `source` with the macros of `extension` and torch's headers, or without either."""
        output = self.work / name / f"{source.stem}.o"
        output.parent.mkdir(parents=True, exist_ok=True)
        headers: list[str] = []
        if extension:
            include = self.torch.root / "include"
            headers = ["-isystem", str(include), "-isystem", str(include / "torch/csrc/api/include")]
            headers += [f"-I{self.source / 'torchvision' / 'csrc'}", *extension.macros]
            headers += [flag for flag in extension.cxx_flags if flag.startswith("-D")]
        command = [*self.compiler.command, "-std=c++20", "-O3", "-fPIC", "-DNDEBUG", "-w", *MATH, *flags, *headers]
        subprocess.run([*map(str, command), "-c", str(source), "-o", str(output)], check=True)
        return output

    def _link(self, extension: Extension, name: str, objects: Sequence[Path]) -> Path:
        defined = [
            path
            for path in (Path(source) for source in extension.sources)
            if path.parts[-2] == "ops" and path.suffix == ".cpp"
        ]
        schemas = self._text(
            f"{extension.module}-schemas", "".join(f'#include "{self.source / path}"\n' for path in defined)
        )
        common = self.work / "common" / f"{schemas.stem}.o"
        if not common.exists():
            self._compile(extension, schemas, "common", ())
        output = self.work / f"{extension.module}-{name}.so"
        libraries = (f"-L{self.torch.root / 'lib'}", "-ltorch", "-ltorch_cpu", "-lc10")
        command = [*self.compiler.linker, "-shared", "-o", output, common, *objects, *libraries]
        subprocess.run(list(map(str, command)), check=True)
        return output

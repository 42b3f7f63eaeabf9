"""Which sources are compiled together, and which depend on the CPU ISA."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import PurePosixPath

from build_torchvision.inputs.upstream import Extension
from build_torchvision.operators import ADAPTOR_FLAGS, CSRC, KERNEL_FLAGS, Operators, Replacement, includes_of

# Upstream keeps what computes on the CPU in folders of this name; everything else dispatches and registers.
CPU_FOLDER = "cpu"
# Of that, what hands files to the image libraries and their rows to torch: no ISA beyond the lowest makes it faster.
IMAGE_FOLDER = "image"
# Sources that talk to a GPU library: together with others they no longer compile (0.21.0's encode_jpegs_cuda.cpp).
CUDA_FOLDER = "cuda"
SHARED = 2  # the number of readers from which on a header is worth being precompiled


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One translation unit: `sources` relative to the release's root, compiled as one file when there are several.

    Sources of our own are given by their whole path.
    """

    extension: str
    name: str
    sources: tuple[str, ...]
    isa_dependent: bool
    lowest: bool = False
    """Whether it is compiled once a platform, for the lowest of its CPU ISAs. One that is neither this nor
    `isa_dependent` is compiled for the platform's baseline."""
    flags: tuple[str, ...] = ()
    """Compiler flags of a unit of our own operators."""
    kernel: bool = False
    """Whether it is one of our kernels, which includes no header of torch."""

    @property
    def language(self) -> str:
        return {".c": "c", ".cu": "cuda"}.get(PurePosixPath(self.sources[0]).suffix, "c++")


def is_isa_dependent(source: str) -> bool:
    """Whether `source` computes on the CPU, so that ISA flags can change its code (upstream's layout decides)."""
    return CPU_FOLDER in PurePosixPath(source).parts and not is_image_io(source)


def is_image_io(source: str) -> bool:
    """Whether `source` reads or writes images on the CPU."""
    parts = PurePosixPath(source).parts
    return CPU_FOLDER in parts and IMAGE_FOLDER in parts


def plan_units(
    extension: Extension, *, split: Set[str] = frozenset(), operators: Operators | None = None
) -> tuple[Unit, ...]:
    """Group an extension's sources into translation units.

    Dispatch code (operators' schemas, autograd, autocast), image I/O and CUDA kernels become one unit each; a CPU
    operator stays alone, since upstream's files define the same names in anonymous namespaces. A unit whose name is in
    `split` was found not to compile as one: its files stand alone. What `operators` replaces is left out, and their
    adaptors and kernels come in its place.
    """
    own = operators.of(extension.sources) if operators else ()
    replaced = {row.source for row in own}
    groups: dict[tuple[str, bool], list[str]] = {}
    alone: list[tuple[str, bool]] = []
    for source in extension.sources:
        if source in replaced:
            continue
        path = PurePosixPath(source)
        isa_dependent = is_isa_dependent(source)
        if path.suffix == ".cu":
            stable = extension.torch_target is not None
            taken = operators.gpu_source(source, stable_abi=stable) if operators else source
            groups.setdefault(("cuda", False), []).append(taken)
        elif path.suffix != ".cpp" or CUDA_FOLDER in path.parts or (isa_dependent and "ops" in path.parts):
            alone.append((source, isa_dependent))
        else:
            name = "kernels" if isa_dependent else "images" if is_image_io(source) else "dispatch"
            groups.setdefault((name, isa_dependent), []).append(source)
    units = []
    for (name, isa_dependent), sources in groups.items():
        if f"{extension.module}/{name}" in split:
            alone += [(source, isa_dependent) for source in sources]
        else:
            units.append(_unit(extension, name, sources, isa_dependent))
    for source, isa_dependent in alone:
        path = PurePosixPath(source)
        name = f"operators.{path.name}" if path.is_absolute() else source.removeprefix(f"{CSRC}/").replace("/", ".")
        units.append(_unit(extension, name, [source], isa_dependent))
    if operators and own:
        units += _own_units(extension.module, own, operators.macros)
    return tuple(sorted(units, key=lambda unit: unit.name))


def _unit(extension: Extension, name: str, sources: Sequence[str], isa_dependent: bool) -> Unit:
    return Unit(
        extension=extension.module,
        name=name,
        sources=tuple(sources),
        isa_dependent=isa_dependent,
        lowest=all(map(is_image_io, sources)),
    )


def _own_units(module: str, rows: Sequence[Replacement], macros: Sequence[str]) -> list[Unit]:
    """The adaptors of `rows` as one unit, and each of their kernels."""
    adaptors = Unit(
        extension=module,
        name="operators.adaptors",
        sources=tuple(str(row.adaptor_source) for row in rows),
        isa_dependent=False,
        flags=(*ADAPTOR_FLAGS, *macros),
    )
    kernels = [
        Unit(
            extension=module,
            name=f"operators.{path.name}",
            sources=(str(path),),
            isa_dependent=True,
            flags=KERNEL_FLAGS,
            kernel=True,
        )
        for path in dict.fromkeys(path for row in rows for path in row.kernel_sources)
    ]
    return [adaptors, *kernels]


def unity_text(unit: Unit, root: str) -> str:
    """The text of a file that includes every source of `unit`."""
    return "".join(f'#include "{source_path(root, source)}"\n' for source in unit.sources)


def source_path(root: str, source: str) -> str:
    """The whole path of a unit's source."""
    return str(PurePosixPath(root, source))


def isolated_text(unit: Unit, root: str, includes: Mapping[str, Sequence[str]]) -> str:
    """The text of a file that holds every source of `unit`, each in a namespace of its own.

    Upstream's kernels define the same names in unnamed namespaces (0.21.0: bilinear_interpolate). What they include
    comes first, so that it stays outside; then an inclusion inside finds it done.
    """
    own = {source: includes_of(source) for source in unit.sources if PurePosixPath(source).is_absolute()}
    headers = dict.fromkeys(name for source in unit.sources for name in (own.get(source) or includes[source]))
    lines = [
        f"#include {name}" if name[0] == "<" else f'#include "{_header_path(root, name[1:-1])}"' for name in headers
    ]
    lines.append("namespace vision::ops {}")
    for source in unit.sources:
        name = "unit_" + re.sub(r"\W", "_", PurePosixPath(source).stem)
        lines += [
            f"namespace {name} {{ namespace vision {{ namespace ops {{ using namespace ::vision::ops; }} }}",
            f'#include "{source_path(root, source)}"',
            "}",
        ]
    return "\n".join(lines) + "\n"


def _header_path(root: str, name: str) -> str:
    """A header that is named by its path, or, without a folder, as it is found by the compiler's own search."""
    return source_path(root, name) if "/" in name and not name.startswith("ops/") else name


def shared_headers(extensions: Sequence[Extension]) -> tuple[str, ...]:
    """torch's headers that two or more C++ sources of `extensions` include, in the order in which they first do."""
    sources = [names for extension in extensions for source, names in extension.includes.items() if _is_cxx(source)]
    seen = Counter(name[1:-1] for names in sources for name in set(names) if name.startswith("<torch/"))
    return tuple(dict.fromkeys(name[1:-1] for names in sources for name in names if seen[name[1:-1]] >= SHARED))


def _is_cxx(source: str) -> bool:
    return PurePosixPath(source).suffix == ".cpp"


def precompiled_header(headers: Sequence[str]) -> str:
    """The text of a header that includes `headers`, in their order."""
    return "".join(f"#include <{header}>\n" for header in headers)

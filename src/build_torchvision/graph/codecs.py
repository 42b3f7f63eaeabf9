"""Plan the compiles of the image libraries that are linked statically: once a platform, for its lowest CPU ISA."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from build_torchvision.facts import lowest_isa
from build_torchvision.graph.actions import Action, ActionKind
from build_torchvision.inputs.codec_sources import CodecSource

OWN_SOURCES = Path(__file__).parents[1] / "codecs"
# Nothing of a library is seen outside the extension, so that no other copy in the process can take its place, nor it
# theirs; sections let the linker leave out what nothing calls.
COMMON_FLAGS = ("-fPIC", "-DNDEBUG", "-w", "-fvisibility=hidden", "-ffunction-sections", "-fdata-sections")
# -O3 makes the libraries larger and no codec faster. Cold files hardly run.
SPEED, SIZE = "-O2", "-Os"


@dataclass(frozen=True, kw_only=True)
class CodecTools:
    """The programs of one platform: `cc` takes flags and a C source, `nasm` the assembly of libjpeg-turbo."""

    platform: str
    cc: Sequence[str]
    nasm: Path | None


@dataclass(frozen=True, kw_only=True)
class CodecPlan:
    """The actions whose outputs are the objects of a library, and the files to write before: path -> text."""

    actions: tuple[Action, ...]
    files: Mapping[str, str]


def plan_codec(source: CodecSource, used: Sequence[CodecSource], tools: CodecTools) -> CodecPlan:
    """The plan of a library for a platform; `used` are the libraries that it uses."""
    library, platform = source.library, tools.platform
    folder, sets = f"{platform}/codecs/{library.name}", library.sets(platform)
    unit, together = f"{folder}/together.c", [path for files in sets for path in files.together]
    text = "".join(f'#include "{source_path(source, path)}"\n' for path in together)
    actions = list(_assemble(source, tools, folder))
    headers = [OWN_SOURCES, source.generated, *(source.root / name for files in sets for name in files.include)]
    headers += [header for other in used for header in other.include_dirs]
    settings = (
        *COMMON_FLAGS,
        *lowest_isa(platform).flags,
        *(flag for files in sets for flag in files.flags),
        f"-ffile-prefix-map={source.root.parent}={library.name}",
        f"-ffile-prefix-map={OWN_SOURCES}=codecs",
        *(f"-D{define}" for files in sets for define in files.defines),
        *(f"-I{header}" for header in headers),
    )
    for files in sets:
        for paths, optimize in ((files.sources, SPEED), (files.cold, SIZE)):
            command = (*tools.cc, optimize, *settings)
            for path in paths:
                output = f"{folder}/{path.replace('/', '.')}.o"
                actions.append(_compile(command, source_path(source, path), output, f"{library.name}/{path}"))
    if together:
        actions.append(_compile((*tools.cc, SPEED, *settings), unit, f"{unit}.o", library.name))
    return CodecPlan(actions=tuple(actions), files={unit: text} if together else {})


def source_path(source: CodecSource, path: str) -> str:
    """Where a file of a source set is."""
    folder, _, name = path.partition("/")
    return str({"own": OWN_SOURCES, "generated": source.generated}.get(folder, source.root / folder) / name)


def _assemble(source: CodecSource, tools: CodecTools, folder: str) -> Iterator[Action]:
    library = source.library
    for files in library.sets(tools.platform):
        include = tuple(f"-I{source.root}/{name}/" for name in files.assembler_include)
        for path in files.assembly:
            assert tools.nasm is not None, "a platform with assembly has a toolchain with nasm"
            output = f"{folder}/{path.replace('/', '.')}.o"
            yield Action(
                output=output,
                kind=ActionKind.NASM,
                command=(str(tools.nasm), *files.assembler_flags, *include, f"{source.root}/{path}", "-o", output),
                inputs=(f"{source.root}/{path}",),
                label=f"{library.name}/{path}",
                depfile=False,
            )


def _compile(command: Sequence[str], source: str, output: str, label: str) -> Action:
    return Action(
        output=output,
        kind=ActionKind.COMPILE,
        command=(*command, "-x", "c", "-c", source, "-o", output, "-MMD", "-MF", f"{output}.d"),
        inputs=(source,),
        label=label,
    )

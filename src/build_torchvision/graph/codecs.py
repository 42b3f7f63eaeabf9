"""Plan the compiles of the image libraries that are linked statically: one object per source and CPU ISA."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from build_torchvision.graph.actions import Action, ActionKind
from build_torchvision.inputs.codec_sources import CodecSource

# Nothing of a library is seen outside the extension, so that no other copy in the process can take its place, nor it
# theirs; sections let the linker leave out what nothing calls.
COMMON_FLAGS = ("-fPIC", "-DNDEBUG", "-w", "-fvisibility=hidden", "-ffunction-sections", "-fdata-sections")
# -O3 makes the libraries 0.1 MB larger and no codec faster. Cold files hardly run.
SPEED, SIZE = "-O2", "-Os"
OWN_SOURCES = Path(__file__).parents[1] / "codecs"


@dataclass(frozen=True, kw_only=True)
class CodecTools:
    """The programs of one platform: `cc` takes flags and a C source, `nasm` the assembly of libjpeg-turbo."""

    platform: str
    cc: Sequence[str]
    nasm: Path | None


def plan_codec(
    source: CodecSource, used: Sequence[CodecSource], tools: CodecTools, isa: str, isa_flags: Sequence[str]
) -> tuple[Action, ...]:
    """The actions whose outputs are the objects of a library for `isa`; `used` are the libraries that it uses.

    What does not depend on the ISA has the same output for all of them.
    """
    return tuple(_actions(source, used, tools, isa, isa_flags))


def _actions(
    source: CodecSource, used: Sequence[CodecSource], tools: CodecTools, isa: str, isa_flags: Sequence[str]
) -> Iterator[Action]:
    library, platform = source.library, tools.platform
    sets = library.sets(isa)
    folders = [source.generated, *(source.root / folder for files in sets for folder in files.include)]
    folders += [folder for other in used for folder in other.include_dirs]
    settings = (
        *COMMON_FLAGS,
        f"-ffile-prefix-map={source.root.parent}={library.name}",
        *(f"-D{define}" for files in sets for define in files.defines),
        *(f"-I{folder}" for folder in folders),
    )
    for files in sets:
        for path in files.sources:
            output = _output(platform, isa, library.name, path)
            command = (*tools.cc, SPEED, *settings, *isa_flags)
            yield _compile(command, f"{source.root}/{path}", output, f"{library.name}/{path} for {isa}")
        for path in files.own:
            output = _output(platform, isa, library.name, f"own/{path}")
            command = (*tools.cc, SPEED, *settings, *isa_flags)
            yield _compile(command, str(OWN_SOURCES / path), output, f"{library.name}: own {path} for {isa}")
        for path in files.cold:
            output = _output(platform, "baseline", library.name, path)
            command = (*tools.cc, SIZE, *settings)
            yield _compile(command, f"{source.root}/{path}", output, f"{library.name}/{path}")
        for path in files.assembly:
            assert tools.nasm is not None, "a platform with assembly has a toolchain with nasm"
            output = _output(platform, "baseline", library.name, path)
            include = tuple(f"-I{source.root}/{folder}/" for folder in files.assembler_include)
            yield Action(
                output=output,
                kind=ActionKind.NASM,
                command=(str(tools.nasm), *files.assembler_flags, *include, f"{source.root}/{path}", "-o", output),
                inputs=(f"{source.root}/{path}",),
                label=f"{library.name}/{path}",
                depfile=False,
            )


def _output(platform: str, folder: str, library: str, path: str) -> str:
    return f"{platform}/{folder}/codecs/{library}/{path.replace('/', '.')}.o"


def _compile(command: Sequence[str], source: str, output: str, label: str) -> Action:
    return Action(
        output=output,
        kind=ActionKind.COMPILE,
        command=(*command, "-x", "c", "-c", source, "-o", output, "-MMD", "-MF", f"{output}.d"),
        inputs=(source,),
        label=label,
    )

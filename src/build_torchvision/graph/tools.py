"""The small programs that a graph's actions call: each stands for a command of several words or several steps.

A compiler cache knows a compiler by one path, and knows no LLVM IR and no PTX. Both are texts that need no
preprocessor, as is preprocessed C++, which it does know: `-x cpp-output` names them to it, and these programs take it
back.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from build_torchvision.inputs.compiler import Compiler
from build_torchvision.inputs.cuda_sdk import CudaSdk


@dataclass(frozen=True)
class Tools:
    """Where a platform's programs are in the build folder."""

    platform: str

    @property
    def cxx(self) -> str:
        return f"tools/{self.platform}/clang++"

    @property
    def cc(self) -> str:
        return f"tools/{self.platform}/clang"

    @property
    def generate(self) -> str:
        return f"tools/{self.platform}/generate"

    @property
    def device_object(self) -> str:
        return f"tools/{self.platform}/device-object"


def clang_tools(compiler: Compiler, tools: Tools) -> dict[str, str]:
    """Path in the build folder -> text: clang for C++ and C, and the same clang for LLVM IR.

    The version is in each text, since a cache may know a compiler by its file alone.
    """
    command, head = shlex.join(compiler.command), f"#!/bin/sh\n# {compiler.origin}, clang {compiler.version}\n"
    rotate = 'for word; do shift; [ "$word" = cpp-output ] && word=ir; set -- "$@" "$word"; done'
    return {
        tools.cxx: f'{head}exec {command} "$@"\n',
        tools.cc: f'{head}exec {shlex.join(compiler.c_command)} "$@"\n',
        tools.generate: f'{head}{rotate}\nexec {command} "$@"\n',
    }


def device_tools(linker: Sequence[str], sdk: CudaSdk, tools: Tools) -> dict[str, str]:
    """Path in the build folder -> text: PTX to the object that holds a fat binary under a symbol.

    `-fship=` lists kinds of images, elf or ptx or both; `-fsymbol=` names them for the linker; `-fsm=90`; `-fhost=`
    tells a compiler cache one platform's object from another's. What ptxas says of registers and spills goes to
    standard error, the action's log. The images are packed with LZ4 ("speed"), which every driver of the tracks
    unpacks; the newer modes need newer drivers.
    """
    section = (
        r".section .nv_fatbin,\"a\",@progbits\n.balign 16\n.hidden %s\n.globl %s\n.type %s,@object\n"
        r"%s:\n.incbin \"%s\"\n.size %s, .-%s\n.section .note.GNU-stack,\"\",@progbits\n"
    )
    words = ('"$symbol" ' * 4).strip() + ' "$out.fatbin" "$symbol" "$symbol"'
    return {
        tools.device_object: f"""#!/bin/sh
set -e
while [ $# -gt 0 ]; do
  case $1 in
    -fsm=*) sm=${{1#*=}} ;;
    -fship=*) ship=${{1#*=}} ;;
    -fsymbol=*) symbol=${{1#*=}} ;;
    -o) out=$2; shift ;;
    -x) shift ;;
    -*) ;;
    *) in=$1 ;;
  esac
  shift
done
images=
case $ship in *elf*)
  {shlex.quote(str(sdk.ptxas))} -O3 -v -arch="sm_$sm" "$in" -o "$out.cubin" >&2
  images="--image3=kind=elf,sm=$sm,file=$out.cubin" ;;
esac
case $ship in *ptx*) images="$images --image3=kind=ptx,sm=$sm,file=$in" ;; esac
{shlex.quote(str(sdk.fatbinary))} -64 --compress-all --compress-mode=speed --create="$out.fatbin" $images >&2
printf "{section}" {words} >"$out.s"
{shlex.join(linker)} -c "$out.s" -o "$out"
rm -f "$out.cubin" "$out.fatbin" "$out.s"
"""
    }

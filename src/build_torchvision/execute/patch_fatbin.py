"""Turn the placeholder of a CUDA unit's host half into a reference to a symbol (executed as a script).

    patch_fatbin.py PARSED.ll SPLICED.ll SYMBOL

clang writes the fat binary that it is given as one private constant in section .nv_fatbin, and one wrapper (section
.nvFatBinSegment) that points at it: the CUDA runtime's own structure, whose first field is a magic number. Anything
else is another format, and nothing is written.
"""

import re
import sys
from pathlib import Path

CONSTANT = re.compile(
    r'^(@[\w.]+) = (?:private|internal) (?:unnamed_addr )?constant \[\d+ x i8\] c"[^"]*", section "\.nv_fatbin".*$',
    re.MULTILINE,
)
WRAPPER = re.compile(
    r"^@__cuda_fatbin_wrapper = internal constant \{ i32, i32, ptr, ptr \} "
    r'\{ i32 (\d+), i32 1, ptr (@[\w.]+), ptr null \}, section "\.nvFatBinSegment", align (\d+)$',
    re.MULTILINE,
)
MAGIC = 0x466243B1  # fatbinary_section.h, FATBINC_MAGIC
POINTER = 8  # bytes: the alignment that the wrapper needs


def splice(text: str, symbol: str) -> str:
    """IR text -> the same with the fat binary's constant replaced by the external, hidden `symbol`.

    Raises ValueError unless there is exactly one constant, and exactly one wrapper, whole and aligned, refers to it.
    """
    found = CONSTANT.findall(text)
    if len(found) != 1 or text.count('section ".nv_fatbin"') != 1:
        raise ValueError(f"{len(found)} fat binaries where one was given: this compiler writes another format")
    name = found[0]
    wrappers = WRAPPER.findall(text)
    if len(wrappers) != 1 or text.count('section ".nvFatBinSegment"') != 1:
        raise ValueError(f"{len(wrappers)} wrappers of the fat binary where one was expected")
    magic, target, alignment = wrappers[0]
    if int(magic) != MAGIC or target != name or int(alignment) < POINTER:
        raise ValueError(
            f"the wrapper has magic {int(magic):#x}, points at {target} and is aligned to {alignment} bytes"
        )
    if re.search(rf"@{re.escape(symbol)}(?![\w.])", text):
        raise ValueError(f"{symbol} is a name of the unit itself")
    text = CONSTANT.sub(f"@{symbol} = external hidden constant i8", text)
    text, count = re.subn(re.escape(name) + r"(?![\w.])", f"@{symbol}", text)
    if count != 1:
        raise ValueError(f"{count} references to the fat binary where one was expected")
    return text


if __name__ == "__main__":
    try:
        Path(sys.argv[2]).write_text(
            splice(Path(sys.argv[1]).read_text(encoding="utf-8"), sys.argv[3]), encoding="utf-8"
        )
    except ValueError as error:
        sys.exit(f"{sys.argv[1]}: {error}")

"""Take the target CPU out of an LLVM IR file, so that code generation's own -march decides (executed as a script).

    retarget.py PARSED.ll RETARGETED.ll

The front end writes the CPU it was told of into every function's attributes, and these outrank the command line.
Without them LLVM takes the target machine's CPU and features (LLVM Language Reference, "Function Attributes").
For AArch64 they are given the range of SVE's vector lengths instead, 1 to 16 times 128 bits (Arm Architecture Reference
Manual), as clang does where it knows of SVE: without it the vectoriser is more careful than it must be.
"""

import re
import sys
from pathlib import Path

TARGET = re.compile(r' ?"(?:target-cpu|target-features|tune-cpu)"="[^"]*"')
VECTOR_LENGTHS = " vscale_range(1,16) }"
GROUP = re.compile(r"^attributes #\d+ = \{.*\}$", re.MULTILINE)


def retarget(text: str) -> str:
    """IR text -> the same without target attributes. Raises ValueError when there is none: the format has changed."""
    lengths = VECTOR_LENGTHS if re.search(r'^target triple = "aarch64', text, re.MULTILINE) else None

    def without_target(group: re.Match[str]) -> str:
        own, count = TARGET.subn("", group.group())
        return own.removesuffix(" }") + lengths if count and lengths else own

    changed, count = GROUP.subn(without_target, text)
    if not count or changed == text or TARGET.search(changed):
        raise ValueError("no target attributes where LLVM IR keeps them: this compiler writes another format")
    return changed


if __name__ == "__main__":
    try:
        Path(sys.argv[2]).write_text(retarget(Path(sys.argv[1]).read_text()))
    except ValueError as error:
        sys.exit(f"{sys.argv[1]}: {error}")

"""See that a CUDA unit is the same program for every SM, and write it without its SM (executed as a script).

    one_device_ir.py OLDEST.ll NEWEST.ll OUTPUT.ll

Nine tenths of compiling a unit's device half is parsing headers, and the parse knows the SM by the macro __CUDA_ARCH__
alone. Headers ask whether it is at least some number. Where what the unit uses of them asks, its IR for the oldest SM
of a build is another one than for the newest; where the two are equal, one parse serves every SM from the one to the
other, and only code generation is done for each. Ends with exit code 1 where they differ.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

TARGET = re.compile(r' "target-cpu"="sm_\w+" "target-features"="[^"]*"')
# Where an asm statement stands in the text of all headers; only messages about it tell.
PLACES = re.compile(r"!srcloc (!\d+)")
NODE = re.compile(r"^(!\d+) = !\{(?:i64 \d+(?:, )?)+\}$", re.MULTILINE)


def without_sm(text: str) -> str:
    """IR text -> the same without the SM in its functions' attributes, and without the places of asm statements.

    The SM is then code generation's to name. Raises ValueError where there is none: the format has changed.
    """
    changed, count = TARGET.subn("", text)
    if not count or '"target-cpu"' in changed:
        raise ValueError("no target attributes where LLVM IR keeps them: this compiler writes another format")
    places = set(PLACES.findall(changed))
    return NODE.sub(lambda node: f"{node[1]} = !{{i64 0}}" if node[1] in places else node[0], changed)


if __name__ == "__main__":
    oldest, newest, output = map(Path, sys.argv[1:])
    try:
        first, last = (without_sm(path.read_text(encoding="utf-8")) for path in (oldest, newest))
    except ValueError as error:
        sys.exit(str(error))
    if first != last:
        sys.exit(f"{oldest} and {newest} are different programs")
    output.write_text(first, encoding="utf-8")

"""Turn the placeholder of a CUDA source's host half into a reference to a symbol (executed as a script).

    splice.py FILE.ll SYMBOL

clang writes the fat binary that it is given as one private constant in section .nv_fatbin. There must be exactly one.
"""

import re
import sys
from pathlib import Path

CONSTANT = re.compile(r'^(@[\w.]+) = private constant \[\d+ x i8\] c"[^"]*", section "\.nv_fatbin".*$', re.MULTILINE)


def splice(text: str, symbol: str) -> str:
    """IR text -> the same with the fat binary's constant replaced by the external, hidden `symbol`.

    Raises ValueError unless there is exactly one, and exactly one wrapper that refers to it.
    """
    found = CONSTANT.findall(text)
    if len(found) != 1:
        raise ValueError(f"{len(found)} fat binaries where one was given: this compiler writes another format")
    name = found[0]
    text = CONSTANT.sub(f"@{symbol} = external hidden constant i8", text)
    text, count = re.subn(re.escape(name) + r"(?![\w.])", f"@{symbol}", text)
    if count != 1:
        raise ValueError(f"{count} references to the fat binary where one was expected")
    return text


if __name__ == "__main__":
    path = Path(sys.argv[1])
    try:
        path.write_text(splice(path.read_text(), sys.argv[2]))
    except ValueError as error:
        path.unlink()
        sys.exit(f"{path}: {error}")

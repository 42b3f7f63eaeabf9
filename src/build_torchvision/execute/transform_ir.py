"""Change a unit's LLVM IR between the front end, which writes it once, and code generation (executed as a script).

    transform_ir.py [--multiply] PARSED.ll REWRITTEN.ll

Always: take the target CPU out, so that code generation's own -march decides. --multiply: turn the divisions of
TorchVision's operators into multiplications (`multiply`); no compiler does, for it does not pay where nothing repeats.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

TARGET = re.compile(r' ?"(?:target-cpu|target-features|tune-cpu)"="[^"]*"')
VECTOR_LENGTHS = " vscale_range(1,16) }"
GROUP = re.compile(r"^attributes #\d+ = \{.*\}$", re.MULTILINE)
OPERATOR = re.compile(r"^define [^\n]*N6vision3ops[^\n]*\{\n.*?^\}$", re.MULTILINE | re.DOTALL)
INTEGER = re.compile(r"^  (%\d+) = (sdiv|srem) i32 ([%\w-]+), (%\d+)$", re.MULTILINE)
FLOAT = re.compile(r"^  (%\d+) = fdiv ((?:\w+ )*)(float|double) (%\d+), (%\d+)$", re.MULTILINE)
LOAD = re.compile(r"^  (%\d+) = load (?:float|double), ptr (%\d+)", re.MULTILINE)
ONE_AND_A_BIT = "0x3FF0000000000004"  # 1 + 2**-50


def retarget(text: str) -> str:
    """IR text -> the same without target attributes. Raises ValueError when there is none: the format has changed.

    The front end writes the CPU it was told of into every function's attributes, and these outrank the command line.
    Without them LLVM takes the target machine's CPU and features (LLVM Language Reference, "Function Attributes").
    For AArch64 they are given the range of SVE's vector lengths instead, 1 to 16 times 128 bits (Arm Architecture
    Reference Manual), as clang does where it knows of SVE: without it the vectoriser is more careful than it must be.
    """
    lengths = VECTOR_LENGTHS if re.search(r'^target triple = "aarch64', text, re.MULTILINE) else None

    def without_target(group: re.Match[str]) -> str:
        own, count = TARGET.subn("", group.group())
        return own.removesuffix(" }") + lengths if count and lengths else own

    changed, count = GROUP.subn(without_target, text)
    if not count or changed == text or TARGET.search(changed):
        raise ValueError("no target attributes where LLVM IR keeps them: this compiler writes another format")
    return changed


def multiply(text: str) -> str:
    """IR text -> the same with the divisions of `vision::ops` that repeat written as products with a reciprocal.

    An operator turns the number of an output into its place (`index % width`, `index / width % height`, ...), 3 to 12
    times an output, and always by what does not change in the loop. Written as a product, the reciprocal is such a
    value, and the optimiser takes it out of the loop. Only what has not been optimised can be rewritten so.

    Integers come out the same: for a, b of 32 bits, b not 0, `trunc(a * r)` with `r = (1 + 2**-50) / b`, both rounded
    to 53 bits, lies above a/b by a relative 2**-51 to 2**-49. A multiple of b is never missed from below, and to pass
    the next one takes a > 2**49. (The one overflow, -2**31 / -1, is undefined in C++ before as after.)

    Of floating-point divisions those are rewritten that one block makes by the same variable (`x / count` four times):
    that rounds once more. One that stands alone stays: a number of samples comes of it, and may not change.
    """

    def operator(function: re.Match[str]) -> str:
        blocks = INTEGER.sub(_integer, function.group()).split("\n\n")
        return "\n\n".join(_by_one_reciprocal(block) for block in blocks)

    return OPERATOR.sub(operator, text)


def _integer(division: re.Match[str]) -> str:
    result, operation, dividend, divisor = division.groups()
    name = f"%d{result[1:]}"
    quotient = result if operation == "sdiv" else f"{name}.quotient"
    lines = [
        f"{name}.dividend = sitofp i32 {dividend} to double",
        f"{name}.divisor = sitofp i32 {divisor} to double",
        f"{name}.reciprocal = fdiv double {ONE_AND_A_BIT}, {name}.divisor",
        f"{name}.product = fmul double {name}.dividend, {name}.reciprocal",
        f"{quotient} = fptosi double {name}.product to i32",
    ]
    if operation == "srem":
        lines += [f"{name}.multiple = mul i32 {quotient}, {divisor}", f"{result} = sub i32 {dividend}, {name}.multiple"]
    return "\n".join(f"  {line}" for line in lines)


def _by_one_reciprocal(block: str) -> str:
    variable = dict(LOAD.findall(block))
    times = Counter(variable.get(division[5]) for division in FLOAT.finditer(block))

    def product(division: re.Match[str]) -> str:
        result, flags, kind, dividend, divisor = division.groups()
        if variable.get(divisor) is None or times[variable[divisor]] < 2:
            return division.group()
        name = f"%d{result[1:]}.reciprocal"
        return f"  {name} = fdiv {flags}{kind} 1.0, {divisor}\n  {result} = fmul {flags}{kind} {dividend}, {name}"

    return FLOAT.sub(product, block)


if __name__ == "__main__":
    *options, parsed, rewritten = sys.argv[1:]
    try:
        changed = retarget(Path(parsed).read_text(encoding="utf-8"))
    except ValueError as error:
        sys.exit(f"{parsed}: {error}")
    Path(rewritten).write_text(multiply(changed) if "--multiply" in options else changed, encoding="utf-8")

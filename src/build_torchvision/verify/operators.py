"""Find the operators that extension modules register, by the schemas in their bytes."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from functools import lru_cache

from build_torchvision.binary.elf_file import NotElf
from build_torchvision.binary.references import referred
from build_torchvision.facts.operators import operators
from build_torchvision.verify.checks import Check

PIECE = 16  # bytes of an SSE register
CUDA_VERSION = "_cuda_version"
IMAGE = "image"
"""The namespace of the image coders, whose modules call libraries of their own."""
_NAME = re.compile(rb"(\w+)::(\w+)\(")
_WORD = re.compile(rb"\w")
_ARROW, _LONGEST = b") -> ", 4096  # what every schema has, and more bytes than any has
_ARGUMENTS = re.compile(rb"[^\0]{,%d}%s" % (_LONGEST, re.escape(_ARROW)))


def known_operators() -> frozenset[str]:
    """Every operator that the table knows, of any release: what a module of an unlisted one is searched for."""
    return frozenset(operators())


def registered_in(code: bytes, candidates: Iterable[str]) -> frozenset[str]:
    """Those of `candidates` ("torchvision::nms") that the module `code` registers."""
    return _registered_in(code, frozenset(candidates))


@lru_cache(maxsize=16)  # two checks ask it of the same module, and CUDA wheels of one CPU ISA share their image module
def _registered_in(code: bytes, names: frozenset[str]) -> frozenset[str]:
    found = frozenset(name for name in names if _registers(code, *name.split("::")))
    return found | _merged(code, names - found)


def schemas_in(code: bytes) -> frozenset[str]:
    """The qualified names in schemas that are there as text; gcc leaves some of them only in pieces."""
    found = set()
    at = code.find(_ARROW)
    while at >= 0:
        start = code.rfind(b"\0", max(0, at - _LONGEST), at) + 1
        match = _NAME.match(code, start, at) if start else None
        if match:
            found.add(f"{match[1].decode()}::{match[2].decode()}")
        at = code.find(_ARROW, at + 1)
    return frozenset(found)


def check_operators(
    modules: Mapping[str, bytes], expected: Set[str] | None, tuned: Collection[str] = (), on_gpu: Collection[str] = ()
) -> Check:
    """Each operator of the release is registered by some module, and no module registers an unknown one.

    `modules`: path -> bytes; `expected` is None for a release that no table lists: then what is found is reported.
    `tuned` and `on_gpu` are those of which the descriptor says that their kernels are ours, on the CPU and the GPU.
    """
    name = "operators"
    looked_for = known_operators() | (expected or frozenset())
    registered = frozenset[str]().union(*(registered_in(code, looked_for) for code in modules.values()))
    found = registered & expected if expected else registered
    if expected is None:
        others = frozenset[str]().union(*map(schemas_in, modules.values())) - found
        listed = _by_namespace(found | others)
        return Check.not_judged(name, f"no table lists the operators of this release; its modules register {listed}")
    problems = [f"{operator} is registered nowhere" for operator in sorted(expected - found)]
    namespaces = {operator.partition("::")[0] for operator in expected}
    problems += [
        f"{path} registers {operator}, which the table of this release does not list"
        for path, code in modules.items()
        for operator in sorted(schemas_in(code) - expected)
        if operator.partition("::")[0] in namespaces
    ]
    problems += [
        f"the descriptor says that {operator} is ours, and no module registers it"
        for operator in sorted({*tuned, *on_gpu} - found)
    ]
    ours = f"; CPU kernels of ours: {_short(tuned)}; GPU kernels of ours: {_short(on_gpu)}; all others are upstream's"
    return Check.of(name, problems, f"{_by_namespace(found)} registered{ours}")


def computing_modules(modules: Mapping[str, bytes]) -> tuple[str, ...]:
    """The modules whose code shows the CPU ISA: all but those that register image coders alone."""
    computing = []
    for path, code in modules.items():
        namespaces = {name.partition("::")[0] for name in registered_in(code, known_operators())}
        if namespaces != {IMAGE}:
            computing.append(path)
    return tuple(computing)


def _short(names: Collection[str]) -> str:
    return ", ".join(sorted(name.partition("::")[2] for name in names)) or "none"


def _by_namespace(names: Collection[str]) -> str:
    counts = {space: sum(name.startswith(f"{space}::") for name in names) for space in sorted(_namespaces(names))}
    return " and ".join(f"{count} of {space}" for space, count in counts.items()) or "none"


def _namespaces(names: Collection[str]) -> frozenset[str]:
    return frozenset(name.partition("::")[0] for name in names)


def _registers(code: bytes, namespace: str, name: str) -> bool:
    """Whether a registration string is there.

    That is `ns::name(…schema…) -> …`, the schema without its namespace, which the block around it names (the stable
    ABI's macros), or the bare name, whose schema is inferred.
    """
    if name.encode() not in code:
        return namespace != IMAGE and (
            _in_pieces(f"{namespace}::{name}(Tensor ".encode(), code) or _as_numbers(name, code)
        )
    if any(_schemas_of(f"{namespace}::{name}", code)):
        return True
    # The namespace's text may be the end of another one: linkers merge strings.
    if any(code[at - 1 : at] == b"\0" for at in _schemas_of(name, code)) and f"{namespace}\0".encode() in code:
        return True
    if namespace == IMAGE:
        return f"{namespace}::{name}\0".encode() in code
    if name == CUDA_VERSION:
        return f"\0{name}".encode() in code or _as_numbers(name, code)
    return _in_pieces(f"{namespace}::{name}(Tensor ".encode(), code)


def _merged(code: bytes, names: Collection[str]) -> frozenset[str]:
    """Those of `names` whose schema is the end of another one's, as the linker left it, and which `code` refers to.

    GNU ld keeps "nms(Tensor dets, …" as the last bytes of "qnms(Tensor dets, …": only a reference to its address tells
    that it is an operator of its own. The schemas of the stable ABI's macros are without the namespace.
    """
    namespaces = {space for space in _namespaces(names) if f"{space}\0".encode() in code}
    places: dict[int, str] = {}
    for name in names:
        namespace, _, short = name.partition("::")
        if namespace in namespaces:
            places |= {at: name for at in _schemas_of(short, code) if _WORD.match(code, at - 1)}
    try:
        return frozenset(places[offset] for offset in referred(code, places.keys())) if places else frozenset()
    except NotElf:
        return frozenset()


def _schemas_of(name: str, code: bytes) -> Iterator[int]:
    """Where a text `name(…) -> ` begins. (Searching for the name alone first is many times faster than one pattern.)"""
    start = f"{name}(".encode()
    at = code.find(start)
    while at > 0:  # a file does not begin with a schema
        if _ARGUMENTS.match(code, at + len(start)):
            yield at
        at = code.find(start, at + 1)


def _as_numbers(name: str, code: bytes) -> bool:
    """Whether the shortest name is there as gcc moves it: two numbers of 8 bytes, in the code itself."""
    return name == CUDA_VERSION and bool(re.search(rb"_cuda_ve.{,24}rsion", code, re.DOTALL))


def _in_pieces(start: bytes, code: bytes) -> bool:
    """Whether a longer text that begins with `start` is there in gcc's way of copying a known string.

    gcc's inline memcpy (-O2 and up) loads a known text of up to 17 x 16 bytes as 16-byte constants, each aligned,
    merged with its equals and in no order: the text as such is nowhere in the file.
    """
    pieces = [start[i : i + PIECE] for i in range(0, len(start), PIECE)]
    return all(any(found.start() % PIECE == 0 for found in re.finditer(re.escape(piece), code)) for piece in pieces)

"""A wheel's shared objects as the loader sees them: what they need, from where, and against which torch."""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from auditwheel.architecture import Architecture
from auditwheel.libc import Libc
from auditwheel.policy import WheelPolicies
from packaging.tags import Tag

from build_torchvision.binary.elf import Elf, NotElf, defined_symbols
from build_torchvision.facts.codecs import codec_libraries, libraries_for
from build_torchvision.spec import Descriptor
from build_torchvision.variants import Variant
from build_torchvision.verify.checks import Check
from build_torchvision.verify.stable_abi import uses_stable_shims

TORCH = ("libc10.so", "libtorch.so", "libtorch_cpu.so")
CUDART = "libcudart.so.*"  # each of its symbols has its version
TORCH_CUDA = ("libc10_cuda.so", "libtorch_cuda.so", CUDART)  # loaded by torch before us
LOADERS = ("ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1")
UNVERSIONED = ("libz.so.1",)  # zlib gives versions only to what came after 1.2.0, so its old names cannot be placed
CODECS = {"jpeg": "libjpeg", "png": "libpng", "webp": "libwebp"}
_LEVEL = re.compile(r"manylinux_(\d+)_(\d+)_(x86_64|aarch64)")
_LEGACY = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
_TORCH_NAMESPACE = re.compile(r"_ZN?[A-Z]*K?\d?.*?(?:3c10|2at|5torch)")


@dataclass(frozen=True, kw_only=True)
class TorchFacts:
    """The torch beside which a wheel is to work. `lib_dir` holds its libc10.so, libtorch.so and libtorch_cpu.so."""

    version: str
    cuda: str | None
    cxx11_abi: bool
    lib_dir: Path | None


@dataclass(frozen=True, kw_only=True)
class Policy:
    """One manylinux level: auditwheel's copy of the policy. `symbols`: prefix -> its versions."""

    name: str
    libraries: frozenset[str]
    symbols: Mapping[str, frozenset[str]]


@cache
def policies(platform: str) -> tuple[tuple[tuple[int, int], Policy], ...]:
    """((major, minor) of glibc, policy) in rising order, for "x86_64" or "aarch64", by auditwheel."""
    found = []
    for row in WheelPolicies(libc=Libc.GLIBC, arch=Architecture(platform)):
        match = _LEVEL.fullmatch(row.name)
        if match:
            policy = Policy(
                name=f"manylinux_{match[1]}_{match[2]}", libraries=row.whitelist, symbols=row.symbol_versions
            )
            found.append(((int(match[1]), int(match[2])), policy))
    return tuple(sorted(found, key=lambda item: item[0]))


def policy_of(tags: frozenset[Tag], platform: str) -> Policy | None:
    """The strictest level that `tags` promise; None when any of them promises none."""
    levels: list[tuple[int, int]] = []
    for tag in tags:
        name = tag.platform.removesuffix(f"_{platform}")
        match = _LEVEL.fullmatch(tag.platform)
        if match:
            levels.append((int(match[1]), int(match[2])))
        elif name in _LEGACY:
            levels.append(_LEGACY[name])
        else:
            return None
    known = [policy for level, policy in policies(platform) if levels and level <= min(levels)]
    return known[-1] if known else None


@dataclass(frozen=True, kw_only=True)
class Libraries:
    """All shared objects of a wheel, read: path in the wheel -> Elf."""

    extensions: Mapping[str, Elf]
    bundled: Mapping[str, Elf]

    @property
    def all(self) -> dict[str, Elf]:
        return {**self.extensions, **self.bundled}

    @property
    def bundled_names(self) -> frozenset[str]:
        return frozenset(posixpath.basename(path) for path in self.bundled)


def check_extensions(libraries: Libraries, variant: Variant, expected: Sequence[str] | None) -> Check:
    """The release's extension modules are there and no others, for the variant's platform.

    `expected` are the modules' names without suffix ("_C_stable"); None where the table cannot say which they are: for
    an unlisted release, or a source other than the release's own.
    """
    name = "extensions"
    found = sorted(libraries.extensions)
    problems = [
        f"{path} is for {elf.machine}, not {variant.platform}"
        for path, elf in libraries.all.items()
        if elf.machine != variant.platform
    ]
    problems += [] if found else ["there is no extension module"]
    shown = f"{', '.join(found)}, for {variant.platform}"
    if expected is None:
        why = f"the source is not a listed release's own archive; found {shown}"
        return Check.of(name, problems, "") if problems else Check.not_judged(name, why)
    wanted = [f"torchvision/{module}.so" for module in expected]
    problems += [f"{path} is missing" for path in wanted if path not in libraries.extensions]
    problems += [
        f"{path} is none of the release's modules ({', '.join(expected)})" for path in found if path not in wanted
    ]
    return Check.of(name, problems, shown)


def check_needed(libraries: Libraries, policy: Policy | None, variant: Variant) -> Check:
    """NEEDED names only torch's libraries, the manylinux policy's and bundled ones, whose SONAMEs are their names."""
    return Check.of(
        "libraries",
        _needed(libraries, policy, variant),
        f"torch's and the system's, and bundled: {', '.join(sorted(libraries.bundled_names)) or 'none'}",
    )


def _needed(libraries: Libraries, policy: Policy | None, variant: Variant) -> Iterator[str]:
    system = policy.libraries if policy else frozenset[str]()
    torch = TORCH + (TORCH_CUDA if variant.cuda else ())
    used: set[str] = set()
    for path, elf in libraries.all.items():
        for name in elf.needed:
            used.add(name)
            if name in system or name in libraries.bundled_names or name in LOADERS:
                continue
            if path in libraries.extensions and any(fnmatch.fnmatchcase(name, pattern) for pattern in torch):
                continue
            yield f"{path} needs {name}, which neither torch, nor the manylinux policy, nor torchvision.libs brings"
        name = posixpath.basename(path)
        if path in libraries.bundled and elf.soname != name:
            yield f"{path} has the SONAME {elf.soname}: a library of that name already loaded would be taken for it"
    for name in sorted(libraries.bundled_names - used):
        yield f"torchvision.libs/{name} is bundled and nothing needs it"


def check_run_paths(libraries: Libraries) -> Check:
    """No RPATH or RUNPATH but $ORIGIN-relative ones that stay inside site-packages (trap 8)."""
    return Check.of("run paths", _run_paths(libraries), "none, or $ORIGIN-relative")


def _run_paths(libraries: Libraries) -> Iterator[str]:
    for path, elf in libraries.all.items():
        for kind, text in elf.run_paths:
            for entry in text.split(":"):
                head, _, rest = entry.replace("${ORIGIN}", "$ORIGIN").partition("/")
                inside = posixpath.normpath(posixpath.join(posixpath.dirname(path), rest))
                if head != "$ORIGIN" or inside.startswith(".."):
                    yield (
                        f"{path} has the {kind} {entry!r}: anyone who can create that folder controls what is loaded"
                        " (trap 8: the run path of a build machine)"
                    )


def check_symbol_versions(libraries: Libraries, policy: Policy | None) -> Check:
    """Every symbol version asked of a system library is in the manylinux level of the wheel's tag."""
    name = "symbol versions"
    if policy is None:
        return Check(name=name, ok=False, detail="the tag promises no manylinux level: the wheel was not repaired")
    problems = [
        f"{path} wants {version} of {library}, beyond {policy.name}"
        for path, elf in libraries.all.items()
        for library, version in elf.versions
        if library in policy.libraries or library in LOADERS
        if not _within(version, policy)
    ]
    return Check.of(name, problems, f"all within {policy.name}")


def _within(version: str, policy: Policy) -> bool:
    prefix, _, number = version.partition("_")
    return number in policy.symbols.get(prefix, ())


def check_abi(libraries: Libraries, torch: TorchFacts) -> Check:
    """Strings in the signatures of torch's symbols are of torch's C++ ABI (trap 7)."""
    names = {s.name for elf in libraries.extensions.values() for s in elf.undefined if _is_torch(s.name)}
    new = sorted(name for name in names if "__cxx11" in name)
    kind = "the C++11 ABI" if torch.cxx11_abi else "the old C++ ABI"
    problems = []
    if not names and any(map(uses_stable_shims, libraries.extensions.values())):
        return Check(name="C++ ABI", ok=True, detail="no C++ symbol of torch is used, its stable C functions alone")
    if not names:
        problems.append("no symbol of torch is used: these extensions do not register anything with it")
    elif torch.cxx11_abi and not new:
        problems.append(f"torch {torch.version} has {kind}, and no symbol asked of it has a C++11 string (trap 7)")
    elif not torch.cxx11_abi and new:
        problems.append(
            f"torch {torch.version} has {kind}, and {len(new)} symbols have C++11 strings: {new[0]} (trap 7)"
        )
    return Check.of("C++ ABI", problems, f"{kind}, as torch {torch.version}: {len(names)} symbols of torch used")


def _is_torch(symbol: str) -> bool:
    return _TORCH_NAMESPACE.match(symbol) is not None


def check_python_symbols(libraries: Libraries) -> Check:
    """No extension asks for a symbol of Python: one compile serves every Python, and nothing ties it to one."""
    problems = [
        f"{path} needs {symbol.name}"
        for path, elf in libraries.extensions.items()
        for symbol in elf.undefined
        if re.match(r"_?Py[A-Z_]", symbol.name)
    ]
    return Check.of("Python symbols", problems, "none needed")


def check_resolved(libraries: Libraries, torch: TorchFacts, policy: Policy | None) -> Check | None:
    """Each undefined symbol is brought by torch, a bundled library or, if versioned, the system (None: no lib_dir)."""
    if torch.lib_dir is None:
        return None
    name = "symbols"
    try:
        present = sorted({path for pattern in TORCH + TORCH_CUDA for path in torch.lib_dir.glob(pattern)})
        torch_symbols = {path.name: defined_symbols(path) for path in present}
    except NotElf as error:
        return Check(name=name, ok=False, detail=str(error))
    absent = [library for library in TORCH if library not in torch_symbols]
    if absent:
        return Check(name=name, ok=False, detail=f"{torch.lib_dir} lacks {', '.join(absent)}: not a torch's libraries")
    bundled = {posixpath.basename(path): elf.defined for path, elf in libraries.bundled.items()}
    total = sum(len(elf.undefined) for elf in libraries.all.values())
    return Check.of(
        name,
        _unresolved(libraries, {**torch_symbols, **bundled}, policy.libraries if policy else frozenset()),
        f"{total} undefined symbols, each brought by torch {torch.version}, the system or a bundled library",
    )


def _unresolved(libraries: Libraries, known: Mapping[str, frozenset[str]], system: frozenset[str]) -> Iterator[str]:
    for path, elf in libraries.all.items():
        sources = [*elf.needed, *(TORCH if set(TORCH) & set(elf.needed) else ())]  # libtorch.so brings the two others
        brought = [known[name] for name in sources if name in known]
        for symbol in elf.undefined:
            if symbol.weak or any(symbol.name in names for names in brought):
                continue
            if symbol.library is not None and (symbol.library in system or symbol.library in LOADERS):
                continue
            if symbol.library is not None and fnmatch.fnmatchcase(symbol.library, CUDART):
                continue
            if symbol.library is None and system & set(UNVERSIONED) & set(elf.needed):
                continue
            yield f"{path} needs {symbol.name}, which none of its libraries brings"


def check_codecs(
    libraries: Libraries, images: Mapping[str, bytes], descriptor: Descriptor | None, licences: Set[str]
) -> Check:
    """Each codec that the descriptor names is in the image extension, and no other.

    A system codec is a library that it needs and that is bundled; a pinned one is linked in: its text is there and its
    licence is among `licences` (paths below dist-info/licenses). `images`: path -> bytes.
    """
    codecs = frozenset(descriptor.codec_names()) if descriptor else frozenset()
    linked_in = {library.name for library in descriptor.libraries} if descriptor else set()
    pinned = any(codec.origin == "pinned" for codec in descriptor.codecs) if descriptor else False
    check = _linked_in if pinned else _bundled
    problems = [f"the descriptor names {codec}, which is no codec of TorchVision's" for codec in codecs - CODECS.keys()]
    for path, data in images.items():
        if path in libraries.extensions:
            problems += check(libraries, path, data, codecs, linked_in)
    if pinned:
        problems += _without_licence(linked_in, licences)
    how = "linked in" if pinned else "linked and bundled"
    return Check.of("codecs", sorted(problems), f"{', '.join(sorted(codecs)) or 'none'}: {how}")


def check_exports(libraries: Libraries) -> Check:
    """No extension exports a name of an image library, which another copy in the process would be mixed up with."""
    prefixes = tuple(prefix for row in codec_libraries().values() for prefix in row.prefixes)
    problems = [
        f"{path} exports {name}, a name of an image library that other packages bring too"
        for path, elf in libraries.extensions.items()
        for name in sorted(elf.defined)
        if name.startswith(prefixes)
    ]
    return Check.of("exported codec symbols", problems, "none")


def _bundled(libraries: Libraries, path: str, data: bytes, codecs: frozenset[str], named: Set[str]) -> Iterator[str]:
    needed = libraries.extensions[path].needed
    for codec, library in CODECS.items():
        linked = [name for name in needed if re.match(rf"{library}\d*[-.]", name)]
        if codec in codecs and not linked:
            yield f"{path} does not link {library}, and the descriptor says that it has {codec}"
        elif codec not in codecs and linked:
            yield f"{path} links {linked[0]}, and the descriptor does not say that it has {codec}"
        for name in linked:
            if name not in libraries.bundled_names:
                yield f"{path} links {name}, which is not bundled in torchvision.libs"


def _linked_in(libraries: Libraries, path: str, data: bytes, codecs: frozenset[str], named: Set[str]) -> Iterator[str]:
    needed = libraries.extensions[path].needed
    wanted = {row.name for row in libraries_for(codecs & CODECS.keys())}
    for row in codec_libraries().values():
        there = row.evidence.encode() in data
        if row.name in wanted and not there:
            yield f"{path} does not hold {row.name}, and the descriptor says that it is linked in"
        elif row.name not in wanted and there:
            yield f"{path} holds {row.name}, and the descriptor names no codec that needs it"
        if row.name in wanted and row.name not in named:
            yield f"the descriptor does not say which {row.name} is linked in"
    for library in (*CODECS.values(), "libz"):
        for name in needed:
            if re.match(rf"{library}\d*[-.]", name):
                yield f"{path} needs {name}, and the descriptor says that its own {library} is linked in"


def _without_licence(named: Set[str], licences: Set[str]) -> Iterator[str]:
    for name in sorted(named):
        if not any(path.startswith(f"{name}/") for path in licences):
            yield f"{name} is linked in, and its licence is not in the wheel"

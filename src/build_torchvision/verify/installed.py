"""An installed tree, such as a Nix store path: what it says it is, what it loads from where, and the checks that apply.

It differs from a wheel in kind. Its torch and its libraries are found by absolute run paths into the store, which
nobody may write to and whose names hold the inputs' hashes, so those are right there, and no manylinux level or bundled
copy is asked for. It is installed for one Python, so symbols of Python are right too. Nix strips and patches files
after they are installed, so the hashes in RECORD say nothing.
"""

from __future__ import annotations

import email.parser
import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from email.message import Message
from functools import cached_property
from pathlib import Path
from typing import Any

from build_torchvision.binary.elf import Elf, NotElf, defined_symbols, read_elf
from build_torchvision.compatibility import same_cuda_major
from build_torchvision.errors import BadInput
from build_torchvision.facts import releases
from build_torchvision.variants import Variant, parse
from build_torchvision.verify.checks import Check
from build_torchvision.verify.libraries import CODECS, LOADERS, TORCH, Libraries, TorchFacts, policies
from build_torchvision.wheel.descriptor import DESCRIPTOR, claimed_by

STORE_NAME = re.compile(r"[0-9a-z]{32}-(?P<name>torchvision-python.+)-(?P<version>\d[^-]*)")
_PYTHON_SYMBOL = re.compile(r"_?Py[A-Z_]")


class InstalledTree:
    """A folder with lib/python3.N/site-packages/torchvision, opened and read. Raises BadInput when it is no such one.

    `given` may be a link to it, such as the `result` of a build.
    """

    def __init__(self, given: Path) -> None:
        self.path = given.resolve()
        found = sorted(self.path.glob("lib/python3.*/site-packages/torchvision"))
        if len(found) != 1:
            raise BadInput(
                f"Verify {given}",
                f"it has {len(found)} folders lib/python3.*/site-packages/torchvision, not one.",
                "Name a wheel, or the result of `flox build NAME` or `nix-build -A NAME`.",
            )
        self.site = found[0].parent
        self.python = self.site.parent.name.removeprefix("python").replace(".", "")
        folders = sorted(self.site.glob("torchvision-*.dist-info"))
        self.dist_info = folders[0] if len(folders) == 1 else None
        self.extensions: dict[str, bytes] = {
            path.relative_to(self.site).as_posix(): path.read_bytes() for path in sorted(found[0].rglob("*.so"))
        }

    @property
    def store(self) -> Path:
        """The folder of all store paths: the one that holds this one, else Nix's own."""
        return self.path.parent if re.match(r"[0-9a-z]{32}-", self.path.name) else Path("/nix/store")

    @cached_property
    def metadata(self) -> Message:
        return email.parser.Parser().parsestr(self._text("METADATA"))

    @cached_property
    def descriptor(self) -> Mapping[str, Any]:
        """What the builder wrote into the dist-info; empty when there is none or it is no JSON object."""
        try:
            data = json.loads(self._text(DESCRIPTOR) or "null")
        except ValueError:
            return {}
        return data if isinstance(data, dict) else {}

    def _text(self, name: str) -> str:
        path = self.dist_info / name if self.dist_info else None
        return path.read_text("utf-8", errors="replace") if path and path.is_file() else ""

    @property
    def version(self) -> str:
        return str(self.metadata.get("Version", "")).partition("+")[0]

    def claim(self) -> Variant | None:
        """The variant that the store path's name says; None for any other folder."""
        match = STORE_NAME.fullmatch(self.path.name)
        try:
            return parse(match["name"]) if match else None
        except BadInput:
            return None

    @cached_property
    def closure(self) -> tuple[Path, ...]:
        """This path and all that it propagates, which is what must be importable beside it (Nix keeps the list)."""
        found, left = dict[Path, None](), [self.path]
        while left:
            root = left.pop(0)
            listed = root / "nix-support" / "propagated-build-inputs"
            found[root] = None
            words = listed.read_text(encoding="utf-8").split() if listed.is_file() else []
            left += [path for word in words if (path := Path(word)) not in found and path not in left]
        return tuple(found)

    def torch(self) -> Path | None:
        """The site-packages of the torch it was built beside: among what it propagates, or where run paths lead."""
        sites = [root / self.site.relative_to(self.path) for root in self.closure]
        sites += [Path(folder).parent.parent for folder in self._folders()]
        return next((site for site in sites if (site / "torch" / "version.py").is_file()), None)

    @cached_property
    def codecs(self) -> tuple[str, ...]:
        """The codecs that the image extension links."""
        needed = [name for path, elf in self._elves() if "/image" in path for name in elf.needed]
        return tuple(codec for codec, lib in CODECS.items() if any(re.match(rf"{lib}\d*[-.]", name) for name in needed))

    def _elves(self) -> Iterator[tuple[str, Elf]]:
        for path, data in self.extensions.items():
            with suppress(NotElf):
                yield path, read_elf(data)

    def _folders(self) -> Iterator[str]:
        for path, elf in self._elves():
            yield from run_folders(elf.run_paths, posixpath.dirname(str(self.site / path)))


def claimed(tree: InstalledTree) -> Variant:
    """The variant that `tree` claims to be: its store path's name, else its descriptor. Raises BadInput without one."""
    return claimed_by(
        tree.claim(),
        str(tree.descriptor.get("variant", "")),
        action=f"Verify {tree.path}",
        problem="neither the store path's name nor a descriptor inside names a variant.",
        hint="Say which variant it should be: --variant NAME.",
    )


def run_folders(run_paths: tuple[tuple[str, str], ...], origin: str) -> Iterator[str]:
    """The folders that run paths name, with $ORIGIN replaced by `origin`."""
    for _, text in run_paths:
        for entry in text.split(":"):
            yield re.sub(r"^\$(ORIGIN|\{ORIGIN\})(?=/|$)", origin, entry)


def check_identity(tree: InstalledTree, variant: Variant) -> Check:
    """Store path, descriptor, METADATA and the Python's folder all name `variant`."""
    return Check.of("identity", _identity(tree, variant), f"store path, metadata and descriptor all say {variant}")


def _identity(tree: InstalledTree, variant: Variant) -> Iterator[str]:
    claim, named = tree.claim(), tree.descriptor.get("variant")
    if claim is not None and claim != variant:
        yield f"the store path's name says {claim}, not {variant}"
    if named is not None and named != str(variant):
        yield f"the descriptor says {named}, not {variant}"
    if tree.python != variant.python:
        yield f"it is installed for Python {tree.python}, and {variant} is for {variant.python}"
    if str(tree.metadata.get("Name")) != "torchvision":
        yield f"METADATA calls the package {tree.metadata.get('Name')}, not torchvision"
    match = STORE_NAME.fullmatch(tree.path.name)
    if match and match["version"] != tree.version:
        yield f"the store path says version {match['version']}, METADATA {tree.version}"


def check_companion(tree: InstalledTree, variant: Variant, torch: TorchFacts) -> Check:
    """The torch beside it is the release's own, of the variant's CUDA (trap 6)."""
    known = releases().get(tree.version)
    problems = []
    if known is not None and not known.stable_abi and torch.version != known.torch:
        problems.append(f"torchvision {tree.version} belongs to torch {known.torch}, and it loads {torch.version}")
    if variant.cuda and not same_cuda_major(torch.cuda, variant.cuda):
        problems.append(f"{variant} is built with CUDA {variant.cuda}, torch {torch.version} with {torch.cuda}")
    return Check.of("companion", [f"{problem} (trap 6)" for problem in problems], f"torch {torch.version}")


def check_run_paths(tree: InstalledTree, libraries: Libraries) -> Check:
    """Each entry is in the store, whose paths nobody can write to, or $ORIGIN-relative inside the tree (trap 8)."""
    return Check.of("run paths", _run_paths(tree, libraries), f"in {tree.store}, where nobody can write, or $ORIGIN")


def _run_paths(tree: InstalledTree, libraries: Libraries) -> Iterator[str]:
    for path, elf in libraries.extensions.items():
        origin = posixpath.dirname(str(tree.site / path))
        for folder in run_folders(elf.run_paths, origin):
            inside = (tree.store, tree.path)
            if not any(Path(posixpath.normpath(folder)).is_relative_to(root) for root in inside):
                yield f"{path} has the run path {folder!r}, which is not in {tree.store} (trap 8)"


def check_needed(tree: InstalledTree, libraries: Libraries, variant: Variant) -> Check:
    """NEEDED names only what a run path brings, or a library of every Linux (the manylinux policy's list)."""
    system = policies(variant.platform)[-1][1].libraries | {*LOADERS}
    problems, brought = [], set()
    for path in libraries.extensions:
        for name, where in _where(tree, libraries, path).items():
            if where is not None:
                brought.add(name)
            elif name not in system:
                problems.append(f"{path} needs {name}, which is in none of its run paths")
    return Check.of("libraries", problems, f"found by run path: {', '.join(sorted(brought)) or 'none'}")


def _where(tree: InstalledTree, libraries: Libraries, path: str) -> dict[str, Path | None]:
    """NEEDED of the extension at `path` -> the file that its run paths lead to."""
    elf = libraries.extensions[path]
    folders = list(run_folders(elf.run_paths, posixpath.dirname(str(tree.site / path))))
    return {name: next((p for f in folders if (p := Path(f, name)).is_file()), None) for name in elf.needed}


def check_resolved(tree: InstalledTree, libraries: Libraries, torch: TorchFacts, variant: Variant) -> Check:
    """Each undefined symbol is brought by a library that is found, by Python, or, if versioned, by the system."""
    system = policies(variant.platform)[-1][1].libraries | {*LOADERS}
    problems, cache = [], dict[Path, frozenset[str]]()
    torch_files = [torch.lib_dir / name for name in TORCH] if torch.lib_dir else []
    for path, elf in libraries.extensions.items():
        files = [*filter(None, _where(tree, libraries, path).values()), *torch_files]
        try:
            for file in files:
                if file.resolve() not in cache:
                    cache[file.resolve()] = defined_symbols(file)
        except (NotElf, OSError) as error:
            problems.append(f"{path}: {error}")
            continue
        known = frozenset[str]().union(*(cache[file.resolve()] for file in files))
        problems += [
            f"{path} needs {symbol.name}, which none of its libraries brings"
            for symbol in elf.undefined
            if not symbol.weak and symbol.name not in known and symbol.library not in system
            if not _PYTHON_SYMBOL.match(symbol.name)
        ]
    total = sum(len(elf.undefined) for elf in libraries.extensions.values())
    return Check.of("symbols", problems, f"{total} undefined symbols, each brought by what the run paths lead to")

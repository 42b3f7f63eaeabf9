"""Another platform's Python on this machine: qemu's user-mode emulator and a small root unpacked from Debian packages.

No chroot, no mount and no root: qemu looks a program's absolute paths up below the root first (its option -L). A
wrapper beside the root's Python makes it an interpreter like any other, for uv and for virtual environments too;
$QEMU_CPU chooses the processor (qemu's manual, "User Mode Emulation").
"""

from __future__ import annotations

import platform as host
import shutil
from dataclasses import dataclass
from pathlib import Path

from build_torchvision.errors import BadInput, MissingInput, ProcessFailed
from build_torchvision.inputs.apt import debian_archive, indextargets, os_release, unpack_packages
from build_torchvision.inputs.cache import cache_dir, inventory_fault, publish, write_inventory
from build_torchvision.process import run

# Debian's release that has each Python. The extensions use no symbol of Python: any of these proves the compiled code.
SUITES = {"311": "bookworm", "313": "trixie"}
CHOOSE_CPU = "QEMU_CPU"
# Processors to emulate, by CPU ISA: the least that has it, and for SVE the shortest and a long vector.
PROCESSORS = {
    "armv8_2": ("neoverse-n1",),
    "armv9": ("max,sve-max-vq=1", "max,sve-max-vq=4"),
}


@dataclass(frozen=True, kw_only=True)
class Emulator:
    """`interpreter` is executable here and is `platform`'s Python."""

    platform: str
    python: str
    root: Path
    qemu: Path
    interpreter: Path


def emulator(platform: str, python: str) -> Emulator:
    """qemu and a root with Python `python` ("313") of `platform`, fetched once: some 30 MB, and no torch yet.

    Raises BadInput for a Python that no Debian release has, MissingInput without qemu, FetchFailed where the machine's
    apt mirror does not serve the root.
    """
    version = f"{python[0]}.{python[1:]}"
    asked = f"Prepare an emulated {platform} machine with Python {version}"
    if python not in SUITES:
        raise BadInput(
            asked,
            f"Debian has no Python {version} in {' or '.join(SUITES.values())}.",
            f"Verify a wheel for Python {' or '.join(SUITES)}: `build --python {','.join(SUITES)}` makes them from the "
            "same compiled code.",
        )
    qemu = find_qemu(platform, asked)
    suite = SUITES[python]
    entry = cache_dir() / "emulated" / f"debian-{suite}-{platform}"

    def fill(part: Path) -> None:
        tree = part / "tree"
        archives = debian_archive(indextargets(asked), os_release(), suite)
        packages = (f"python{version}", "libstdc++6", "libgomp1")
        debs = unpack_packages(packages, tree, archives=archives, platform=platform, asked=asked)
        facts: dict[str, str | None] = {deb.name: deb.version for deb in debs}
        write_inventory(part, facts | {"archives": ", ".join(map(str, archives))}, _size)

    publish(entry, fill, lambda found: inventory_fault(found, _size))
    root = entry / "tree"
    interpreter = root / "usr" / "bin" / f"emulated-python{version}"
    text = wrapper(qemu, root, root / "usr" / "bin" / f"python{version}")
    if not interpreter.exists() or interpreter.read_text() != text:
        interpreter.write_text(text)
        interpreter.chmod(0o755)
    found = Emulator(platform=platform, python=python, root=root, qemu=qemu, interpreter=interpreter)
    _check(found, asked)
    return found


def wrapper(qemu: Path, root: Path, program: Path) -> str:
    """A script that is `program` under `qemu`. It passes on the name that it was called by, as Python looks there."""
    return f'#!/bin/sh\nexec "{qemu}" -L "{root}" -0 "$0" "{program}" "$@"\n'


def find_qemu(platform: str, asked: str) -> Path:
    """qemu's user-mode emulator of `platform`. Raises MissingInput naming the package."""
    for name in (f"qemu-{platform}-static", f"qemu-{platform}"):
        if found := shutil.which(name):
            return Path(found)
    raise MissingInput(
        asked, f"qemu-{platform}-static is not on this machine.", "Run `sudo apt-get install qemu-user-static`."
    )


def _check(found: Emulator, asked: str) -> None:
    done = run([found.interpreter, "-I", "-c", "import platform; print(platform.machine())"], asked=asked, check=False)
    if done.stdout.strip() != found.platform:
        raise ProcessFailed(
            asked,
            f"its Python does not run under {found.qemu}: {' '.join((done.stdout + done.stderr).split()[-20:])}.",
            f"Try {found.interpreter} by hand, or remove {found.root.parent} to fetch it anew.",
        )


def is_foreign(platform: str) -> bool:
    """Whether programs of `platform` need an emulator on this machine."""
    return platform != host.machine()


def _size(path: Path) -> str:
    return str(path.stat().st_size)

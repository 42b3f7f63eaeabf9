"""Another platform's Python on this machine: qemu's user-mode emulator and a small root of the distribution's packages.

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
from build_torchvision.inputs.apt import indextargets, os_release, suite_archives, unpack_packages
from build_torchvision.inputs.cache import cache_dir, inventory_fault, publish, size_of, write_inventory
from build_torchvision.process import run

# The release that has each Python. The extensions use no symbol of Python: any of them proves the compiled code.
SUITES = {"debian": {"311": "bookworm", "313": "trixie"}, "ubuntu": {"310": "jammy", "312": "noble"}}
QEMU_PACKAGE = "qemu-user-static"
CHOOSE_CPU = "QEMU_CPU"
# Pointer authentication by a cheap algorithm: the architected one made a Python run four times as long here.
FAST_PAUTH = "pauth-impdef=on"
# Processors to emulate, by CPU ISA: the least that has it, and for SVE the shortest and a long vector.
PROCESSORS = {
    "armv8_2": ("neoverse-n1",),
    "armv9": (f"max,{FAST_PAUTH},sve-max-vq=1", f"max,{FAST_PAUTH},sve-max-vq=4"),
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

    Raises BadInput for a Python that no release has, MissingInput without qemu, FetchFailed where the machine's
    apt mirror does not serve the root.
    """
    version = f"{python[0]}.{python[1:]}"
    action = f"Prepare an emulated {platform} machine with Python {version}"
    system = os_release()
    distribution = "ubuntu" if system.get("ID") == "ubuntu" else "debian"
    suites = SUITES[distribution]
    if python not in suites:
        raise BadInput(
            action,
            f"{distribution.capitalize()} has no Python {version} in {' or '.join(suites.values())}.",
            f"Verify a wheel for one of its Pythons: `build --python {','.join(suites)}` makes them from the same "
            "compiled code.",
        )
    qemu = find_qemu(platform, action)
    suite = suites[python]
    entry = cache_dir() / "emulated" / f"{distribution}-{suite}-{platform}"

    def fill(part: Path) -> None:
        tree = part / "tree"
        archives = suite_archives(indextargets(action, platform), system, suite)
        packages = (f"python{version}", "libstdc++6", "libgomp1")
        debs = unpack_packages(packages, tree, archives=archives, platform=platform, action=action)
        facts: dict[str, str | None] = {deb.name: deb.version for deb in debs}
        write_inventory(part, facts | {"archives": ", ".join(map(str, archives))}, size_of)

    publish(entry, fill, lambda found: inventory_fault(found, size_of))
    root = entry / "tree"
    interpreter = root / "usr" / "bin" / f"emulated-python{version}"
    text = wrapper(qemu, root, root / "usr" / "bin" / f"python{version}")
    if not interpreter.exists() or interpreter.read_text(encoding="utf-8") != text:
        interpreter.write_text(text, encoding="utf-8")
        interpreter.chmod(0o755)
    found = Emulator(platform=platform, python=python, root=root, qemu=qemu, interpreter=interpreter)
    _check(found, action)
    return found


def wrapper(qemu: Path, root: Path, program: Path) -> str:
    """A script that is `program` under `qemu`. It passes on the name that it was called by, as Python looks there."""
    return f'#!/bin/sh\nexec "{qemu}" -L "{root}" -0 "$0" "{program}" "$@"\n'


def find_qemu(platform: str, action: str) -> Path:
    """qemu's user-mode emulator of `platform`. Raises MissingInput naming the package."""
    for name in qemu_names(platform):
        if found := shutil.which(name):
            return Path(found)
    raise MissingInput(
        action, f"{qemu_names(platform)[0]} is not on this machine.", f"Run `sudo apt-get install {QEMU_PACKAGE}`."
    )


def qemu_names(platform: str) -> tuple[str, ...]:
    """What distributions call the user-mode emulator."""
    return f"qemu-{platform}-static", f"qemu-{platform}"


def _check(found: Emulator, action: str) -> None:
    done = run(
        [found.interpreter, "-I", "-c", "import platform; print(platform.machine())"], action=action, check=False
    )
    if done.stdout.strip() != found.platform:
        raise ProcessFailed(
            action,
            f"its Python does not run under {found.qemu}: {' '.join((done.stdout + done.stderr).split()[-20:])}.",
            f"Try {found.interpreter} by hand, or remove {found.root.parent} to fetch it anew.",
        )


def is_foreign(platform: str) -> bool:
    """Whether programs of `platform` need an emulator on this machine."""
    return platform != host.machine()

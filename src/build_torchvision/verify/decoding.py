"""Decode each piece of machine code once per command, however many wheels carry it, on all cores."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import zipfile
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path

from build_torchvision.binary.elf import NotElf, Section, elf_of, forget_elves
from build_torchvision.binary.instructions import DECODERS, Scan, scan
from build_torchvision.inputs.programs import aarch64_decoder
from build_torchvision.verify.package import UNREADABLE
from build_torchvision.wheel.archive import is_module

WORTH_A_PROCESS = 4 << 20  # bytes of code: half a second of decoding, where starting a process takes a third
AT_ONCE = 256 << 20  # bytes of shared objects that are held while they wait
_scanned: dict[str, Scan] = {}


def fetch_decoder(platform: str) -> None:
    """Fetch the decoder for `platform` where it is not installed. Raises FetchFailed without a registry."""
    if platform == "aarch64":
        aarch64_decoder()


def scan_of(data: bytes, platform: str) -> Scan:
    """Every instruction of the shared object `data`. Raises NotElf, and as `fetch_decoder`.

    Sections of code are remembered by their contents: modules that differ in GPU code alone are decoded once.
    """
    fetch_decoder(platform)
    found = Scan(platform=platform)
    for section in elf_of(data).code:
        key = _key(section, platform)
        if key not in _scanned:
            _scanned[key] = scan([section], platform)
        found.add(_scanned[key])
    return found


def scan_ahead(objects: Iterable[bytes]) -> None:
    """Scan the code that was not scanned yet, each section once, on as many cores as pay; later calls find the results.

    An object that is no ELF file of a known platform is left to the check that reads it.
    """
    waiting: dict[str, tuple[Section, str]] = {}
    for data in objects:
        try:
            elf = elf_of(data)
        except NotElf:
            continue
        if elf.machine in DECODERS:
            waiting |= {_key(section, elf.machine): (section, elf.machine) for section in elf.code}
    waiting = {key: work for key, work in waiting.items() if key not in _scanned}
    for platform in {platform for _, platform in waiting.values()}:
        fetch_decoder(platform)
    work = sum(len(section.data) for section, _ in waiting.values())
    cores = min(len(os.sched_getaffinity(0)), len(waiting), work // WORTH_A_PROCESS)
    if cores < 2:
        return
    keys = sorted(
        waiting, key=lambda key: -len(waiting[key][0].data)
    )  # the largest first: none is waited for at the end
    with ProcessPoolExecutor(cores, mp_context=multiprocessing.get_context("spawn")) as pool:
        for key, result in zip(keys, pool.map(_scan, [waiting[key] for key in keys]), strict=True):
            _scanned[key] = result


def _key(section: Section, platform: str) -> str:
    head = f"{platform} {section.name} {section.address:#x} ".encode()
    return hashlib.sha256(head + section.data).hexdigest()


def scan_wheels_ahead(wheels: Iterable[Path]) -> None:
    """`scan_ahead` of the extension modules of many wheels, each distinct one once.

    What cannot be read is left to the audit of that wheel.
    """
    waiting: dict[str, bytes] = {}
    for wheel in wheels:
        with suppress(*UNREADABLE), zipfile.ZipFile(wheel) as archive:
            for entry in archive.infolist():
                if is_module(entry.filename) and entry.file_size <= AT_ONCE:
                    data = archive.read(entry)
                    waiting[hashlib.sha256(data).hexdigest()] = data
        if sum(map(len, waiting.values())) > AT_ONCE:
            scan_ahead(waiting.values())
            waiting.clear()
    scan_ahead(waiting.values())


def _scan(work: tuple[Section, str]) -> Scan:
    section, platform = work
    return scan([section], platform)


def forget() -> None:
    """Drop all that is remembered."""
    forget_elves()
    _scanned.clear()

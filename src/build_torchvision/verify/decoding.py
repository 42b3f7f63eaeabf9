"""Decode each shared object once per command, however many wheels carry it, on all cores."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import zipfile
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path

from build_torchvision.binary.elf import Elf, NotElf, read_elf
from build_torchvision.binary.instructions import DECODERS, Scan, scan
from build_torchvision.verify.package import UNREADABLE

WORTH_A_PROCESS = 8 << 20  # bytes of shared objects; below, starting processes costs more than it saves
AT_ONCE = 256 << 20  # bytes of shared objects that are held while they wait
_read: dict[str, Elf | NotElf] = {}
_scanned: dict[tuple[str, str], Scan] = {}


def elf_of(data: bytes) -> Elf:
    """`read_elf`, remembered by the SHA-256 of `data`. Raises NotElf."""
    key = hashlib.sha256(data).hexdigest()
    if key not in _read:
        try:
            _read[key] = read_elf(data)
        except NotElf as error:
            _read[key] = error
    result = _read[key]
    if isinstance(result, NotElf):
        raise result
    return result


def scan_of(data: bytes, platform: str) -> Scan:
    """Every instruction of the shared object `data`, remembered by its SHA-256. Raises NotElf."""
    key = (hashlib.sha256(data).hexdigest(), platform)
    if key not in _scanned:
        _scanned[key] = scan(elf_of(data).code, platform)
    return _scanned[key]


def scan_ahead(objects: Iterable[bytes]) -> None:
    """Scan the objects that were not scanned yet, each once, with a process per core; later calls find the results.

    An object that is no ELF file of a known platform is left to the check that reads it.
    """
    waiting: dict[tuple[str, str], bytes] = {}
    for data in objects:
        try:
            platform = elf_of(data).machine
        except NotElf:
            continue
        key = (hashlib.sha256(data).hexdigest(), platform)
        if platform in DECODERS and key not in _scanned:
            waiting[key] = data
    cores = min(len(os.sched_getaffinity(0)), len(waiting))
    if cores < 2 or sum(map(len, waiting.values())) < WORTH_A_PROCESS:
        return
    with ProcessPoolExecutor(cores, mp_context=multiprocessing.get_context("spawn")) as pool:
        keys = sorted(waiting, key=lambda key: -len(waiting[key]))  # the largest first: none is waited for at the end
        for key, result in zip(keys, pool.map(_scan, [(waiting[key], key[1]) for key in keys]), strict=True):
            _scanned[key] = result


def scan_wheels_ahead(wheels: Iterable[Path]) -> None:
    """`scan_ahead` of the extension modules of many wheels, each distinct one once.

    What cannot be read is left to the audit of that wheel.
    """
    waiting: dict[str, bytes] = {}
    for wheel in wheels:
        with suppress(*UNREADABLE), zipfile.ZipFile(wheel) as archive:
            for entry in archive.infolist():
                name = entry.filename
                if name.startswith("torchvision/") and name.endswith(".so") and entry.file_size <= AT_ONCE:
                    data = archive.read(entry)
                    waiting[hashlib.sha256(data).hexdigest()] = data
        if sum(map(len, waiting.values())) > AT_ONCE:
            scan_ahead(waiting.values())
            waiting.clear()
    scan_ahead(waiting.values())


def _scan(work: tuple[bytes, str]) -> Scan:
    data, platform = work
    return scan(read_elf(data).code, platform)


def forget() -> None:
    """Drop all that is remembered."""
    _read.clear()
    _scanned.clear()

"""Read and write wheels: RECORD, and a zip whose bytes depend on nothing but its files.

The zip is written here and not by `zipfile`, which would compress a library anew for each of the wheels that hold it.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from build_torchvision.errors import BadInput
from build_torchvision.inputs.registry import record_digest

LEVEL = 6  # of deflate; 9 makes a wheel 0.2 % smaller for more than twice the CPU time
# The format of zip files (PKWARE's APPNOTE, 4.3.7, 4.3.12, 4.3.16). All sizes are below 4 GiB: see `_zip`.
_LOCAL, _CENTRAL = struct.Struct("<4s5H3I2H"), struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_NEEDED, _UNIX, _UTF8 = 20, 3 << 8, 1 << 11  # version 2.0, the attributes are those of Unix, a name beyond ASCII
_MIDNIGHT, _FIRST_DAY = 0, 1 << 5 | 1  # of 1 January 1980, the earliest time a zip can hold
_STORED, _DEFLATED = 0, 8
_MODULE, _FILE = 0o100755 << 16, 0o100644 << 16


class Member:
    """A file of a wheel. What is worked out of its bytes is worked out once, however many wheels hold it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._lock = Lock()

    @cached_property
    def digest(self) -> str:
        """The sha256 as RECORD writes it."""
        return record_digest(hashlib.sha256(self.data).digest())

    @cached_property
    def crc(self) -> int:
        """The checksum that a zip has of the bytes."""
        return zlib.crc32(self.data)

    @property
    def deflated(self) -> bytes:
        """The bytes compressed; a thread that asks while another compresses them waits for it."""
        with self._lock:
            return self._deflated

    @cached_property
    def _deflated(self) -> bytes:
        stream = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        return stream.compress(self.data) + stream.flush()


def is_module(path: str) -> bool:
    """Whether a file of a wheel is an extension module."""
    return path.startswith("torchvision/") and path.endswith(".so")


def record(files: Mapping[str, Member], dist_info: str) -> str:
    """RECORD's text for `files`: path -> file (Binary distribution format, "The .dist-info directory")."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    own = f"{dist_info}/RECORD"
    writer.writerows(
        [path, f"sha256={file.digest}", len(file.data)] for path, file in sorted(files.items()) if path != own
    )
    writer.writerow([own, "", ""])
    return text.getvalue()


def digest_without(record: str, name: str) -> str:
    """The sha256 of RECORD's text without the line of the file `name`: what a report inside the wheel is bound to."""
    lines = [line for line in record.splitlines(keepends=True) if not line.startswith(f"{name},")]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def write(files: Mapping[str, Member], wheel: Path, *, compress: bool = True) -> Path:
    """Zip `files` and their RECORD into `wheel`, which is replaced in one step.

    Without `compress` the files are stored as they are: for a wheel that is read again right away. Raises BadInput for
    more than a zip without extensions can hold.
    """
    wheel.parent.mkdir(parents=True, exist_ok=True)
    part = wheel.with_name(f".{wheel.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as out:
            _zip(files, out, f"Write {wheel}", compress=compress)
        part.replace(wheel)
    finally:
        part.unlink(missing_ok=True)
    return wheel


def stored(files: Mapping[str, Member], name: str) -> bytes:
    """The bytes of a wheel called `name` with `files` and their RECORD, uncompressed. Raises BadInput like `write`."""
    out = io.BytesIO()
    _zip(files, out, f"Make {name}", compress=False)
    return out.getvalue()


def _zip(files: Mapping[str, Member], out: BinaryIO, action: str, *, compress: bool) -> None:
    """Write `files` and their RECORD to `out`: sorted, dated 1980, dist-info last."""
    dist_info = find_dist_info(files)
    listed = {**files, f"{dist_info}/RECORD": Member(record(files, dist_info).encode())}
    if sum(len(file.data) for file in listed.values()) >= 1 << 32 or len(listed) >= 1 << 16:
        raise BadInput(action, "It has 4 GiB or more, or 65536 files or more.", "Leave some of them out.")
    directory = []
    for path in sorted(listed, key=lambda name: (name.startswith(dist_info), name)):
        offset, name, file = out.tell(), path.encode(), listed[path]
        content = file.deflated if compress else file.data
        head = (
            *(_NEEDED, 0 if path.isascii() else _UTF8, _DEFLATED if compress else _STORED),
            *(_MIDNIGHT, _FIRST_DAY, file.crc, len(content), len(file.data), len(name), 0),
        )
        out.write(_LOCAL.pack(b"PK\3\4", *head) + name)
        out.write(content)
        mode = _MODULE if ".so" in path.rpartition("/")[2] else _FILE
        row = _CENTRAL.pack(b"PK\1\2", _UNIX | _NEEDED, *head, 0, 0, 0, mode, offset)
        directory.append(row + name)
    start = out.tell()
    out.writelines(directory)
    out.write(_END.pack(b"PK\5\6", 0, 0, len(directory), len(directory), out.tell() - start, start, 0))


def read(wheel: Path) -> dict[str, Member]:
    """The files of `wheel`: path -> file. Raises BadInput when it is no readable zip."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            return {entry.filename: Member(archive.read(entry)) for entry in archive.infolist() if not entry.is_dir()}
    except (*_DAMAGED, FileNotFoundError) as error:
        raise _unreadable(wheel, error) from error


def unpack(wheel: Path, tree: Path) -> Path:
    """Unzip `wheel` into `tree`. Raises BadInput when it is no readable zip or holds a path outside itself."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.startswith("/") or "\\" in name or ".." in name.split("/"):
                    problem = f"It holds the path {name}, outside the wheel."
                    raise BadInput(f"Read {wheel}", problem, "Do not use it.")
            archive.extractall(tree)
    except _DAMAGED as error:
        shutil.rmtree(tree, ignore_errors=True)
        raise _unreadable(wheel, error) from error
    except FileNotFoundError as error:
        if Path(str(error.filename)) != wheel:
            raise
        raise _unreadable(wheel, error) from error
    return tree


def find_dist_info(files: Mapping[str, Member]) -> str:
    """The name of the one .dist-info folder. Raises BadInput when there is none or more."""
    folders = sorted({path.partition("/")[0] for path in files if path.partition("/")[0].endswith(".dist-info")})
    if len(folders) != 1:
        raise BadInput("Read a wheel's files", f"There are {len(folders)} .dist-info folders.", "Build it again.")
    return folders[0]


_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


def _unreadable(wheel: Path, error: Exception) -> BadInput:
    missing = isinstance(error, FileNotFoundError)
    problem = "There is no such file." if missing else f"It is not a whole wheel ({error})."
    return BadInput(f"Read {wheel}", problem, "Build or download it again.")

"""Wheels from the package registry, fetched by pip, unpacked in part, each file checked against the wheel's RECORD."""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.util
import json
import logging
import os
import re
import shutil
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from build_torchvision.errors import BadInput, FetchFailed, MissingInput, ProcessFailed
from build_torchvision.process import run

log = logging.getLogger(__name__)
# manylinux1 is what wheels up to torch 2.6 are tagged with on x86-64.
WHEEL_PLATFORMS = {
    "x86_64": ("manylinux1_x86_64", "manylinux2014_x86_64", "manylinux_2_27_x86_64", "manylinux_2_28_x86_64"),
    "aarch64": ("manylinux2014_aarch64", "manylinux_2_27_aarch64", "manylinux_2_28_aarch64"),
}
DOWNLOAD_SECONDS = 1800.0


@dataclass(frozen=True, kw_only=True)
class RegistryFile:
    """A wheel as an index lists it: its address, and its sha256 where the index states one."""

    url: str
    sha256: str | None


def locate(
    requirement: str, *, platform: str, python: str | None, action: str, hint: str, index: str | None = None
) -> RegistryFile:
    """Which wheel pip would take for `requirement` ("torch==2.6.0"); only its metadata is fetched.

    `python` is "313" ("313t": free-threaded), or None for a wheel that serves every Python. `index` is another index
    than pip is configured with. Raises FetchFailed with pip's own words.
    """
    with tempfile.TemporaryDirectory(prefix="nothing-") as folder:
        options = ["--dry-run", "--ignore-installed", "--quiet", "--report", "-", "--target", folder]
        command = [*pip(action), "install", *options, *wheels_for(platform, python), *_index(index), requirement]
        try:
            told = run(command, action=action, timeout=DOWNLOAD_SECONDS).stdout
        except ProcessFailed as error:
            raise FetchFailed(action, error.problem, hint) from error
    (found,) = json.loads(told)["install"]
    archive = found["download_info"].get("archive_info", {})
    return RegistryFile(url=str(found["download_info"]["url"]), sha256=archive.get("hashes", {}).get("sha256"))


def download(
    requirement: str,
    folder: Path,
    *,
    platform: str,
    python: str | None,
    action: str,
    hint: str,
    index: str | None = None,
) -> Path:
    """Fetch the one wheel that meets `requirement` ("torch==2.6.0") into `folder`, without what it depends on.

    Arguments are those of `locate`. pip checks the wheel against the digest that the index states. Raises FetchFailed
    with pip's own words.
    """
    # The wheel is unpacked once and kept unpacked: pip's own cache of it would be a second copy.
    quiet = ["--no-cache-dir", "--progress-bar", "off", "--no-input"]
    command = [*pip(action), "download", *quiet, *wheels_for(platform, python), *_index(index)]
    log.info("%s", action)
    env = {**os.environ, "TMPDIR": str(folder)}  # where pip writes as it comes: beside what it becomes, not in memory
    try:
        run([*command, "--dest", folder, requirement], action=action, timeout=DOWNLOAD_SECONDS, env=env)
    except ProcessFailed as error:
        raise FetchFailed(action, error.problem, hint) from error
    name = re.split(r"[=<>!~ ]", requirement)[0].replace("-", "_")
    wheels = list(folder.glob(f"{name}-*.whl"))
    if len(wheels) != 1:
        raise FetchFailed(action, f"pip left {len(wheels)} wheels.", hint)
    return wheels[0]


def wheels_for(platform: str, python: str | None) -> list[str]:
    """pip's options for one wheel of `platform` and Python ("313", "313t", or any)."""
    tags = [part for tag in WHEEL_PLATFORMS[platform] for part in ("--platform", tag)]
    target: list[str] = []
    if python:
        version = f"{python[0]}.{python[1:].removesuffix('t')}"
        target = ["--python-version", version, "--implementation", "cp", "--abi", f"cp{python}"]
    return ["--no-deps", "--only-binary=:all:", *target, *tags]


def _index(index: str | None) -> list[str]:
    return ["--index-url", index] if index else []


def record_name(action: str, archive: zipfile.ZipFile, package: str) -> str:
    """The path of a wheel's RECORD. Raises BadInput without one."""
    names = [name for name in archive.namelist() if re.fullmatch(rf"{package}-[^/]+\.dist-info/RECORD", name)]
    if len(names) != 1:
        raise BadInput(action, "It has no RECORD.", "Fetch the wheel again.")
    return names[0]


def extract(
    wheel: Path, tree: Path, place: Callable[[str], str | None], *, package: str, record: str | None = None
) -> None:
    """Unpack into `tree` each member for which `place` (member -> path in the tree, or None) names a place.

    Raises BadInput for a wheel that is truncated, leads out of its folder or is not what its RECORD says; with `record`
    for one whose RECORD has another sha256, or no digest of such a member.
    """
    with wheel.open("rb") as file:
        unpack(file, wheel.name, tree, place, package=package, record=record)


def unpack(
    file: BinaryIO,
    name: str,
    tree: Path,
    place: Callable[[str], str | None],
    *,
    package: str,
    record: str | None = None,
) -> int:
    """`extract` of an open wheel called `name`; returns the packed bytes of what it unpacked."""
    action, packed = f"Unpack {name}", 0
    try:
        with zipfile.ZipFile(file) as archive:
            listed = archive.read(record_name(action, archive, package))
            if record is not None and hashlib.sha256(listed).hexdigest() != record:
                raise BadInput(
                    action, f"Its RECORD is not the one that is pinned ({record[:16]}...).", "Do not use it."
                )
            digests = {row[0]: row[1] for row in csv.reader(listed.decode("utf-8").splitlines()) if len(row) >= 2}
            for member in archive.infolist():
                target = None if member.is_dir() else place(member.filename)
                if target is not None:
                    digest = digests.get(member.filename, "")
                    if record is not None and not digest.startswith("sha256="):
                        raise BadInput(action, f"Its RECORD has no digest of {member.filename}.", "Do not use it.")
                    _extract_one(action, archive, member.filename, tree / target, digest)
                    packed += member.compress_size
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise BadInput(action, f"It is truncated or altered ({error}).", "Fetch the wheel again.") from error
    return packed


def _extract_one(action: str, archive: zipfile.ZipFile, name: str, dest: Path, recorded: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise BadInput(action, f"Its member {name!r} leads out of the folder.", "Do not use this file.")
    dest.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(name) as packed, dest.open("wb") as file:
        shutil.copyfileobj(packed, file, 1 << 20)
    if recorded.startswith("sha256="):
        with dest.open("rb") as file:
            digest = record_digest(hashlib.file_digest(file, "sha256").digest())
        if digest != recorded.removeprefix("sha256="):
            raise BadInput(action, f"{name} is not what the wheel's RECORD says.", "Fetch the wheel again.")


def record_digest(sha256: bytes) -> str:
    """A digest as RECORD writes it after "sha256=" (Binary distribution format, "Signed wheel files")."""
    return base64.urlsafe_b64encode(sha256).rstrip(b"=").decode()


def pip(action: str) -> list[str]:
    """The command that runs pip, which is a dependency of this package. Raises MissingInput where it was taken out."""
    if importlib.util.find_spec("pip") is None:
        raise MissingInput(action, "pip is not installed beside this package.", f"Run `{sys.executable} -m ensurepip`.")
    return [sys.executable, "-m", "pip"]

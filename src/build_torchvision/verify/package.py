"""A wheel as a package: its file name, descriptor, metadata and RECORD."""

from __future__ import annotations

import csv
import email.parser
import hashlib
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from email.message import Message
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import InvalidRequirement, Requirement
from packaging.tags import Tag, parse_tag
from packaging.version import InvalidVersion, Version

from build_torchvision.errors import BadInput
from build_torchvision.facts import releases
from build_torchvision.inputs.registry import record_digest
from build_torchvision.spec import (
    Descriptor,
    local_version,
    parse_label,
    parse_local_version,
    python_tags,
    variant_label,
)
from build_torchvision.variants import DEFAULT_PYTHON, Variant
from build_torchvision.verify.checks import Check
from build_torchvision.wheel.archive import is_module
from build_torchvision.wheel.descriptor import DESCRIPTOR

MAX_FILE, MAX_BYTES, MAX_MEMBERS = 256 << 20, 256 << 20, 20_000
"""Bytes of a wheel and of all its files, and their number; a TorchVision with CUDA code for one SM has 30 MB in 300."""
MAX_TEXT = 8 << 20  # bytes of a file in .dist-info, which is text to parse
MAX_TAG = 1000  # characters; a compressed set of tags multiplies
MAX_MODULE = 48 << 20  # bytes of an extension module; the published ones, with code for every SM, have 9 MB
# What reading a member that is damaged or hostile raises: checksum, stream, method, password, size, an empty name.
UNREADABLE = (
    *(OSError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError, ValueError, EOFError, MemoryError),
    IndexError,
)
UNHASHED = ("RECORD", "RECORD.jws", "RECORD.p7s")


class Claim(NamedTuple):
    """What a file name says: the variant, whether torch is its pair, and whether PTX was added to the cubins."""

    variant: Variant
    paired: bool
    ptx: bool


@dataclass(frozen=True, kw_only=True)
class FileName:
    """The parts of a wheel's file name; `label` is that of a variant-aware index, after the platform tag."""

    name: str
    version: str
    python: str
    abi: str
    platform: str
    label: str | None

    @property
    def tags(self) -> frozenset[Tag]:
        return parse_tag(f"{self.python}-{self.abi}-{self.platform}")

    @property
    def plain(self) -> str:
        """The file name without the label, which installers that know no variants accept."""
        return f"{self.name}-{self.version}-{self.python}-{self.abi}-{self.platform}.whl"

    def claim(self) -> Claim | None:
        """What the local version, or else the label, and the Python tag say; None where they name no variant.

        A wheel for every Python (py3-none) names none: its claim is of the default one.
        """
        local = Version(self.version).local
        marks = local.split(".") if local else []
        named = parse_local_version(local) if local else None
        if named is None and self.label is not None and set(marks) <= {"unpaired", "unlisted"}:
            named = parse_label(self.label)
            named = named and named._replace(paired=not marks, listed="unlisted" not in marks)
        if named is None:
            return None
        python = DEFAULT_PYTHON if self.any_python else self.abi.removeprefix("cp")
        try:
            variant = Variant(python=python, track=named.track, sm=named.sm, isa=named.isa)
        except BadInput:
            return None
        return Claim(variant, named.paired, named.ptx)

    @property
    def any_python(self) -> bool:
        """Whether it is a wheel for every Python."""
        return (self.python, self.abi) == ("py3", "none")


def parse_file_name(file_name: str) -> FileName:
    """Raises BadInput unless it reads NAME-VERSION-PYTHON-ABI-PLATFORM[-LABEL].whl."""
    parts = file_name.removesuffix(".whl").split("-")
    wrong = BadInput(
        file_name,
        "is not the name of a wheel without build number.",
        "Name it as it was built: NAME-VERSION-cpNNN-cpNNN-PLATFORM.whl.",
    )
    if not file_name.endswith(".whl") or len(parts) not in (5, 6) or not all(parts):
        raise wrong
    try:
        Version(parts[1])
    except InvalidVersion as error:
        raise wrong from error
    name, version, python, abi, platform, *rest = parts
    return FileName(
        name=name, version=version, python=python, abi=abi, platform=platform, label=rest[0] if rest else None
    )


class Package:
    """A wheel, opened and read whole. Raises BadInput when it cannot be read as one.

    With `content` its bytes are these, and `wheel` need not be there.
    """

    def __init__(self, wheel: Path, content: bytes | None = None) -> None:
        self.path = wheel
        self.file_name = parse_file_name(wheel.name)
        self.damaged: dict[str, str] = {}
        """Member -> why it cannot be read."""
        try:
            if (wheel.stat().st_size if content is None else len(content)) > MAX_FILE:
                raise BadInput(f"reading {wheel}", f"it is larger than {MAX_FILE >> 20} MiB.", "Do not use it.")
            with zipfile.ZipFile(wheel if content is None else io.BytesIO(content)) as archive:
                entries = [entry for entry in archive.infolist() if not entry.is_dir()]
                total = sum(entry.file_size for entry in entries)
                if total > MAX_BYTES or len(entries) > MAX_MEMBERS:
                    raise BadInput(
                        f"reading {wheel}",
                        f"its {len(entries)} files unpack to {total >> 20} MiB, more than any TorchVision.",
                        "Do not use it.",
                    )
                self.names = [entry.filename for entry in entries]
                self.files: dict[str, bytes] = dict(self._members(archive, entries))
        except UNREADABLE as error:
            raise BadInput(
                f"reading {wheel}", f"it is not a whole wheel ({error}).", "Build or fetch it again."
            ) from error
        folders = {name.split("/")[0] for name in self.names if name.split("/")[0].endswith(".dist-info")}
        if len(folders) != 1:
            raise BadInput(f"reading {wheel}", f"it has {len(folders)} .dist-info folders, not one.", "Build it again.")
        self.dist_info = folders.pop()

    def _members(self, archive: zipfile.ZipFile, entries: Sequence[zipfile.ZipInfo]) -> Iterator[tuple[str, bytes]]:
        """(name, bytes) of each member that can be read."""
        for entry in entries:
            if entry.file_size > MAX_TEXT and ".dist-info/" in entry.filename:
                self.damaged[entry.filename] = f"it has {entry.file_size >> 20} MiB, more than text would"
                continue
            if entry.file_size > MAX_MODULE and entry.filename.endswith(".so"):
                self.damaged[entry.filename] = f"it has {entry.file_size >> 20} MiB, more than any extension module"
                continue
            try:
                yield entry.filename, archive.read(entry)
            except UNREADABLE as error:
                self.damaged[entry.filename] = str(error) or type(error).__name__

    @cached_property
    def metadata(self) -> Message:
        return self._headers("METADATA")

    @cached_property
    def tags(self) -> frozenset[Tag]:
        """Those of the WHEEL file."""
        found: set[Tag] = set()
        for text in self._headers("WHEEL").get_all("Tag", []):
            if len(str(text)) <= MAX_TAG and str(text).count("-") == 2:  # another one is in no file name, which is red
                found |= parse_tag(str(text))
        return frozenset(found)

    @cached_property
    def descriptor(self) -> Descriptor | None:
        """What build_torchvision.json says; None when there is none or it cannot be read: see `descriptor_fault`."""
        return self._described[0]

    @property
    def descriptor_fault(self) -> str | None:
        """Why there is no descriptor, or None."""
        return self._described[1]

    @cached_property
    def _described(self) -> tuple[Descriptor | None, str | None]:
        data = self.files.get(f"{self.dist_info}/{DESCRIPTOR}")
        if data is None:
            return None, f"there is no {DESCRIPTOR} in {self.dist_info}: build-torchvision did not make this wheel"
        try:
            return Descriptor.loads(data), None
        except ValueError as error:
            return None, f"{DESCRIPTOR} cannot be read: {error}"

    @cached_property
    def extensions(self) -> dict[str, bytes]:
        """Our own shared objects: path -> bytes."""
        return {name: data for name, data in self.files.items() if is_module(name)}

    @cached_property
    def bundled(self) -> dict[str, bytes]:
        """The libraries that came along: path -> bytes."""
        return {name: data for name, data in self.files.items() if name.startswith("torchvision.libs/")}

    @property
    def licences(self) -> frozenset[str]:
        """The licence files, as paths below dist-info/licenses."""
        folder = f"{self.dist_info}/licenses/"
        return frozenset(name.removeprefix(folder) for name in self.files if name.startswith(folder))

    def _headers(self, name: str) -> Message:
        text = self.files.get(f"{self.dist_info}/{name}", b"").decode(errors="replace")
        return email.parser.Parser().parsestr(text)


def check_identity(package: Package, variant: Variant) -> Check:
    """File name, version, tags, dist-info and descriptor all name `variant`."""
    return Check.of(
        "identity", _identity(package, variant), f"file name, metadata, tags and descriptor all say {variant}"
    )


def _identity(package: Package, variant: Variant) -> Iterator[str]:
    name, descriptor = package.file_name, package.descriptor
    if descriptor is None:
        yield package.descriptor_fault or "there is no descriptor"
    elif descriptor.variant != str(variant):
        yield f"the descriptor says {descriptor.variant}, not {variant}: the wheel was renamed"
    claim = name.claim()
    if claim is None:
        local = local_version(variant, paired=True)
        yield f"the file name {package.path.name} names no variant (its local version should be +{local})"
    else:
        claimed = replace(claim.variant, python=variant.python) if name.any_python else claim.variant
        if claimed != variant:
            yield f"the file name says {claim.variant}, not {variant}"
        if name.label not in (None, variant_label(claim.variant, ptx=claim.ptx)):
            yield f"the label is {name.label}, that of {claim.variant} is {variant_label(claim.variant, ptx=claim.ptx)}"
        if descriptor is not None and descriptor.paired is not claim.paired:
            yield f"the file name says paired={claim.paired}, the descriptor paired={descriptor.paired}"
        if descriptor is not None and bool(descriptor.cuda and descriptor.cuda.ptx_added) is not claim.ptx:
            yield f"the file name says ptx={claim.ptx}, the descriptor the opposite"
    version = str(package.metadata.get("Version"))
    if version.replace("_", ".") != name.version.replace("_", "."):
        yield f"METADATA says version {version}, the file name {name.version}"
    if package.dist_info != f"{name.name}-{name.version}.dist-info":
        yield f"the folder {package.dist_info} does not belong to the file name"
    if str(package.metadata.get("Name")) != "torchvision" or name.name != "torchvision":
        yield f"the package is called {package.metadata.get('Name')} (file name: {name.name}), not torchvision"
    if descriptor is not None and descriptor.torchvision != version.partition("+")[0]:
        yield f"the descriptor says torchvision {descriptor.torchvision}, METADATA {version}"
    if package.tags != name.tags:
        yield f"the WHEEL file's tags ({_shown(package.tags)}) are not the file name's ({_shown(name.tags)})"
    for tag in sorted(name.tags, key=str):
        wanted = python_tags(variant, any_python=name.any_python)
        if (tag.interpreter, tag.abi) != wanted:
            yield f"the tag {tag} is not one of Python {variant.python_version} ({'-'.join(wanted)})"
        if not tag.platform.endswith(f"_{variant.platform}"):
            yield f"the tag {tag} is not one of {variant.platform}"


def _shown(tags: frozenset[Tag]) -> str:
    return ", ".join(sorted(map(str, tags))) or "none"


def check_requirement(package: Package, torch_version: str) -> Check:
    """Requires-Dist pins the torch that it was built for, as upstream pins it, and that torch is `torch_version`."""
    return Check.of(
        "torch requirement",
        _requirement(package, torch_version),
        f"Requires-Dist admits torch {torch_version}, as the release does",
    )


def _requirement(package: Package, torch_version: str) -> Iterator[str]:
    found: list[Requirement] = []
    for text in package.metadata.get_all("Requires-Dist", []):
        try:
            requirement = Requirement(str(text))
        except (InvalidRequirement, RecursionError) as error:
            yield f"Requires-Dist {str(text)[:200]!r} cannot be read ({type(error).__name__})"
            continue
        if requirement.name == "torch" and requirement.marker is None:
            found.append(requirement)
    if len(found) != 1:
        yield f"{len(found)} requirements of torch in METADATA, not one"
        return
    specifier = found[0].specifier
    built_for = package.descriptor.torch.version if package.descriptor else None
    paired = package.descriptor is not None and package.descriptor.paired
    if not specifier.contains(torch_version, prereleases=True):
        yield f"it requires torch{specifier}, and the torch beside it is {torch_version} (trap 6: version skew)"
    known = releases().get(str(package.metadata.get("Version")).partition("+")[0])
    stable = known is not None and known.stable_abi
    if built_for is not None and not stable and built_for.partition("+")[0] != torch_version.partition("+")[0]:
        yield f"it was built for torch {built_for}, and the torch beside it is {torch_version} (trap 6: version skew)"
    if paired and known is None:
        yield f"it calls itself paired, and no release {package.metadata.get('Version')} is known"
    elif paired and known is not None and specifier != Requirement(f"torch{known.torch_requirement}").specifier:
        yield f"it requires torch{specifier}; the release pins torch{known.torch_requirement}"
    if not paired and not stable and not any(part.operator in ("==", "===") for part in specifier):
        yield f"torch{specifier} is no pin, and this extension works beside one release of torch only"


def check_archive(package: Package) -> Check:
    """Every member can be read, once and in full, and lies inside the wheel."""
    problems = [f"{name} cannot be read: {why}" for name, why in package.damaged.items()]
    return Check.of("archive", problems, f"{len(package.files)} files read")


def check_record(package: Package) -> Check:
    """RECORD lists every file once, with its sha256 and size, and nothing else."""
    return Check.of(
        "RECORD", _record(package), f"{len(package.files)} files, each listed with its right sha256 and size"
    )


def _record(package: Package) -> Iterator[str]:
    own = {f"{package.dist_info}/{name}" for name in UNHASHED}
    for name in sorted({name for name in package.names if package.names.count(name) > 1}):
        yield f"{name} is in the archive more than once"
    for name in package.names:
        if name.startswith("/") or "\\" in name or ".." in name.split("/"):
            yield f"{name!r} points outside the wheel"
    text = package.files.get(f"{package.dist_info}/RECORD", b"").decode(errors="replace")
    if not text:
        yield "there is no RECORD"
        return
    listed: set[str] = set()
    for row in _rows_of_record(text):
        if isinstance(row, str):
            yield row
            continue
        name, digest, size = row
        if name in listed:
            yield f"{name} is listed twice"
        listed.add(name)
        if name not in package.files:
            yield f"{name} is listed and not there"
        elif name not in own:
            yield from _mismatch(name, package.files[name], digest, size)
    for name in package.names:
        if name not in listed and name not in own - {f"{package.dist_info}/RECORD"}:
            yield f"{name} is there and not listed"


def _rows_of_record(text: str) -> Iterator[tuple[str, str, str] | str]:
    """(path, hash, size) of each line, or what is wrong with it, in the words of pypa's installer."""
    from installer.records import InvalidRecordEntry, RecordEntry, parse_record_file

    rows = parse_record_file(text.splitlines())
    while True:
        try:
            elements = next(rows)
            RecordEntry.from_elements(*elements)
        except StopIteration:
            return
        except InvalidRecordEntry as error:
            yield f"RECORD cannot be read: {', '.join(error.issues)}"
        except csv.Error as error:
            yield f"RECORD cannot be read: {error}"
            return
        else:
            yield elements


def _mismatch(name: str, data: bytes, digest: str, size: str) -> Iterator[str]:
    right = record_digest(hashlib.sha256(data).digest())
    if digest != f"sha256={right}":
        yield f"{name} is not the file that RECORD lists ({digest or 'no hash'}, it is sha256={right})"
    elif size != str(len(data)):
        yield f"{name} has {len(data)} bytes, RECORD says {size or 'nothing'}"

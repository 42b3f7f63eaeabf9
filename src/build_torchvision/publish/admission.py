"""Validate wheels before adding them to an index: check the embedded report and repeat the static audit."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from pathlib import Path, PurePosixPath
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from build_torchvision.errors import BadInput, BuildTorchvisionError, VerificationFailed
from build_torchvision.inputs.cache import sha256_of
from build_torchvision.publish.benchmark import read_benchmark
from build_torchvision.publish.run_report import read_run
from build_torchvision.spec import Descriptor
from build_torchvision.variants import Variant, parse
from build_torchvision.verify.checks import Report
from build_torchvision.verify.decoding import scan_wheels_ahead
from build_torchvision.verify.embedded import CHECKS_NEEDING_TORCH, read_embedded_report
from build_torchvision.verify.package import FileName, Package, parse_file_name
from build_torchvision.verify.static import audit_package, variant_of
from build_torchvision.wheel.descriptor import DESCRIPTOR, PROOF, VARIANT_JSON
from build_torchvision.wheel.sbom import AUDITWHEEL_SBOM

UNREADABLE = (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, ValueError, EOFError, KeyError, TypeError)


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A verified wheel, and what an index lists of it. Sizes are bytes, digests are hexadecimal sha256."""

    path: Path
    variant: Variant
    file_name: FileName
    size: int
    sha256: str
    metadata: bytes
    requires_python: str
    torch_requirement: str
    descriptor: Descriptor
    variant_json: bytes
    proof: Report
    proof_sha256: str
    run_proof: Report | None
    """The report of a run beside torch, where `verify --save` left one for these very bytes."""
    bench: Mapping[str, Any] | None
    bundled: Mapping[str, str]
    """Bundled library's file name -> sha256."""
    packages: tuple[Mapping[str, Any], ...]
    """What auditwheel knows of the distribution's packages that brought them (CycloneDX components)."""
    sbom: str | None = None
    """Its bill of materials where an index has it already, made from the same bytes by the same version of the tool."""

    @property
    def version(self) -> str:
        return self.file_name.version

    @property
    def release(self) -> str:
        return self.version.partition("+")[0]

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def local_source(self) -> bool:
        """Whether it was built from a folder of the user's, whatever that held, and not from the release's source."""
        return self.descriptor.source.origin == "local"


@dataclass(frozen=True, kw_only=True)
class Known:
    """A wheel that an index admitted earlier, with the same version of the tool."""

    sha256: str
    sbom: Path


def find_wheels(places: Sequence[Path]) -> list[Path]:
    """The wheels named by `places` (files, or folders of them), by name.

    Raises BadInput where there are none, and for two of one name with different bytes.
    """
    found: dict[str, Path] = {}
    for place in places:
        if place.is_dir():
            wheels = sorted(place.glob("*.whl"))
        elif place.is_file():
            wheels = [place]
        else:
            raise BadInput(f"Index {place}", "There is no such file or folder.", "Check the path; `build` prints it.")
        for wheel in wheels:
            other = found.setdefault(wheel.name, wheel)
            if other.resolve() != wheel.resolve() and other.read_bytes() != wheel.read_bytes():
                raise BadInput(
                    f"Index {wheel}", f"{other} has the same name and other bytes.", "Name the one that you mean."
                )
    if not found:
        shown = ", ".join(map(str, places)) or "nothing"
        raise BadInput(
            f"Index {shown}", "There is no wheel in it.", "Build some: `build-torchvision build 'cpu-avx*' --out dist`."
        )
    return [found[name] for name in sorted(found)]


def admit_all(
    wheels: Sequence[Path],
    known: Mapping[str, Known] | None = None,
    done: Callable[[Path, bool], None] = lambda path, audited: None,
) -> list[Wheel]:
    """Admit every wheel of `wheels`; of those in `known` (file name -> what an index has) only new bytes are audited.

    `done` is called with each path and whether it was audited. Raises VerificationFailed, naming each wheel that may
    not enter, and why.
    """
    known = known or {}
    admitted, refused = [], []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = dict(zip(wheels, pool.map(_digest, wheels), strict=True))
        scan_wheels_ahead(path for path in wheels if not _is_known(path, digests[path], known))
        for path, digest in digests.items():
            earlier = known.get(path.name)
            wheel = None
            try:
                if earlier is not None and _is_known(path, digest, known):
                    wheel = _admit_again(path, earlier)
                admitted.append(wheel or admit(path))
            except BuildTorchvisionError as error:
                refused.append(f"{path.name}: {error.problem} {error.hint}")
            done(path, wheel is None)
    if refused:
        raise VerificationFailed(
            f"Index {len(wheels)} wheels",
            f"{len(refused)} may not enter; nothing was written.\n  " + "\n  ".join(refused) + "\n",
            "Mend or leave out those files, then type the same again.",
        )
    return admitted


def _is_known(path: Path, digest: str | None, known: Mapping[str, Known]) -> bool:
    """Whether an index has these very bytes."""
    return path.name in known and known[path.name].sha256 == digest


def _digest(path: Path) -> str | None:
    try:
        return sha256_of(path)
    except OSError:
        return None  # reading it again, as a wheel, names the trouble


def admit(path: Path) -> Wheel:
    """Read one wheel and audit it again. Raises BadInput or VerificationFailed when it is not what its name says.

    The report that a wheel carries must hold, name its variant and belong to these very bytes; and all that bytes alone
    can show is audited again. What needs torch's libraries is taken from the embedded report.
    """
    action = f"Index {path.name}"
    package = Package(path)
    variant = variant_of(package)
    rebuild = f"Build it again: `build-torchvision build {variant}`."
    proof = read_embedded_report(package)
    if proof.variant != str(variant):
        raise VerificationFailed(action, f"Its proof is one of {proof.variant}, its name says {variant}.", rebuild)
    proof.require(rebuild)
    if package.descriptor is None:
        raise VerificationFailed(action, f"In it, {package.descriptor_fault}.", rebuild)
    absent = sorted(set(CHECKS_NEEDING_TORCH) - {check.name for check in proof.checks})
    if absent:
        raise VerificationFailed(action, f"Its proof does not cover {', '.join(absent)}.", rebuild)
    audit_package(package, variant).require(rebuild)
    digest = sha256_of(path)
    bundled = {PurePosixPath(name).name: hashlib.sha256(held).hexdigest() for name, held in package.bundled.items()}
    return _wheel(path, digest, variant, package.dist_info, package.files, proof, bundled=bundled)


def _admit_again(path: Path, known: Known) -> Wheel | None:
    """A wheel whose very bytes an index has admitted: only its metadata is read. None where that cannot be used."""
    name = parse_file_name(path.name)
    info = f"{name.name}-{name.version}.dist-info"
    try:
        sbom = known.sbom.read_text(encoding="utf-8")
        with zipfile.ZipFile(path) as archive:
            wanted = [f"{info}/{member}" for member in ("METADATA", DESCRIPTOR, PROOF)]
            optional = [f"{info}/{member}" for member in (VARIANT_JSON, AUDITWHEEL_SBOM)]
            present = set(archive.namelist())
            files = {member: archive.read(member) for member in (*wanted, *(m for m in optional if m in present))}
        proof = Report.from_json(json.loads(files[f"{info}/{PROOF}"]))
        variant = parse(proof.variant)
    except (*UNREADABLE, BadInput):
        return None
    return _wheel(path, known.sha256, variant, info, files, proof, bundled={}, sbom=sbom)


def _wheel(
    path: Path,
    digest: str,
    variant: Variant,
    info: str,
    files: Mapping[str, bytes],
    proof: Report,
    *,
    bundled: Mapping[str, str],
    sbom: str | None = None,
) -> Wheel:
    """The wheel at `path` with this sha256; `files` are at least those of its folder `info` that are read here."""
    metadata = files[f"{info}/METADATA"]
    headers = Parser().parsestr(metadata.decode(errors="replace"))
    name = parse_file_name(path.name)
    return Wheel(
        path=path,
        variant=variant,
        file_name=name,
        size=path.stat().st_size,
        sha256=digest,
        metadata=metadata,
        requires_python=str(headers.get("Requires-Python") or ""),
        torch_requirement=_torch(headers, path),
        descriptor=Descriptor.loads(files[f"{info}/{DESCRIPTOR}"]),
        variant_json=files.get(f"{info}/{VARIANT_JSON}", b""),
        proof=proof,
        proof_sha256=hashlib.sha256(files.get(f"{info}/{PROOF}", b"")).hexdigest(),
        run_proof=read_run(path, variant, digest),
        bench=read_benchmark(path, name, digest),
        bundled=bundled,
        packages=_packages(files.get(f"{info}/{AUDITWHEEL_SBOM}")),
        sbom=sbom,
    )


def _torch(headers: Message, path: Path) -> str:
    try:
        requirements = [Requirement(text) for text in headers.get_all("Requires-Dist", [])]
    except InvalidRequirement as error:
        raise BadInput(
            f"Index {path.name}", f"Its METADATA has a bad Requires-Dist: {error}.", "Build it again."
        ) from error
    return next((str(found.specifier) for found in requirements if found.name == "torch"), "")


def _packages(data: bytes | None) -> tuple[Mapping[str, Any], ...]:
    """The distribution's packages in auditwheel's bill of materials; none where it is not as auditwheel writes it."""
    try:
        components = json.loads(data or b"{}").get("components", [])
        rows = [row for row in components if isinstance(row["purl"], str) and isinstance(row["name"], str)]
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return ()
    return tuple(row for row in rows if row["purl"].startswith(("pkg:deb/", "pkg:rpm/", "pkg:apk/")))

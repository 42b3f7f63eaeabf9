"""Which wheels may enter an index: those whose carried proof holds, and whose bytes bear it out when audited again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from packaging.requirements import Requirement

from build_torchvision.errors import BadInput, BuildTorchvisionError, VerificationFailed
from build_torchvision.publish.benchmark import read_benchmark
from build_torchvision.publish.run_report import read_run
from build_torchvision.variants import Variant
from build_torchvision.verify.checks import Report
from build_torchvision.verify.embedded import CHECKS_NEEDING_TORCH, embedded_report_bytes, read_embedded_report
from build_torchvision.verify.package import FileName, Package
from build_torchvision.verify.static import audit_wheel, claimed_variant
from build_torchvision.wheel.descriptor import DESCRIPTOR, VARIANT_JSON

TOLD = ("torch", "torchvision", "source_sha256", "compiler", "isa_flags")  # without these there is no provenance
AUDITWHEEL_SBOM = "sboms/auditwheel.cdx.json"  # which distribution package brought each bundled library


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A proved wheel, and what an index says of it. Sizes are bytes, digests are hexadecimal sha256."""

    path: Path
    variant: Variant
    file_name: FileName
    size: int
    sha256: str
    metadata: bytes
    requires_python: str
    torch_requirement: str
    descriptor: Mapping[str, Any]
    variant_json: bytes
    proof: Report
    proof_sha256: str
    run_proof: Report | None
    """The proof of a run beside torch, where `verify --save` left one for these very bytes."""
    bench: Mapping[str, Any] | None
    bundled: Mapping[str, str]
    """Bundled library's file name -> sha256."""
    packages: tuple[Mapping[str, Any], ...]
    """What auditwheel knows of the distribution's packages that brought them (CycloneDX components)."""

    @property
    def version(self) -> str:
        return self.file_name.version

    @property
    def release(self) -> str:
        return self.version.partition("+")[0]

    @property
    def name(self) -> str:
        return self.path.name


def find_wheels(places: Sequence[Path]) -> list[Path]:
    """The wheels named by `places` (files, or folders of them), by name. Raises BadInput where there are none."""
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


def admit_all(wheels: Sequence[Path]) -> list[Wheel]:
    """Admit every wheel of `wheels`. Raises VerificationFailed, naming each one that may not enter, and why."""
    admitted, refused = [], []
    for path in wheels:
        try:
            admitted.append(admit(path))
        except BuildTorchvisionError as error:
            refused.append(f"{path.name}: {error.problem} {error.hint}")
    if refused:
        raise VerificationFailed(
            f"Index {len(wheels)} wheels",
            f"{len(refused)} may not enter; nothing was written.\n  " + "\n  ".join(refused) + "\n",
            "Mend or leave out those files, then type the same again.",
        )
    return admitted


def admit(path: Path) -> Wheel:
    """Read one wheel and prove it again. Raises BadInput or VerificationFailed when it is not what its name says.

    The proof that a wheel carries must hold, name its variant and belong to these very bytes; and all that bytes alone
    can show is audited anew, so that nobody's word is taken for a name. What needs torch's libraries is
    taken from the carried proof.
    """
    action = f"Index {path.name}"
    package = Package(path)
    variant = claimed_variant(path)
    rebuild = f"Build it again: `build-torchvision build {variant}`."
    proof = read_embedded_report(package)
    if proof.variant != str(variant):
        raise VerificationFailed(action, f"Its proof is one of {proof.variant}, its name says {variant}.", rebuild)
    proof.require(rebuild)
    untold = [key for key in TOLD if key not in package.descriptor]
    if untold:
        raise VerificationFailed(action, f"Its {DESCRIPTOR} does not say {', '.join(untold)}.", rebuild)
    absent = sorted(set(CHECKS_NEEDING_TORCH) - {check.name for check in proof.checks})
    if absent:
        raise VerificationFailed(action, f"Its proof does not cover {', '.join(absent)}.", rebuild)
    audit_wheel(path, variant).require(rebuild)
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    info = package.dist_info
    return Wheel(
        path=path,
        variant=variant,
        file_name=package.file_name,
        size=len(data),
        sha256=digest,
        metadata=package.files[f"{info}/METADATA"],
        requires_python=str(package.metadata.get("Requires-Python") or ""),
        torch_requirement=_torch(package),
        descriptor=package.descriptor,
        variant_json=package.files.get(f"{info}/{VARIANT_JSON}", b""),
        proof=proof,
        proof_sha256=hashlib.sha256(embedded_report_bytes(package) or b"").hexdigest(),
        run_proof=read_run(path, variant, digest),
        bench=read_benchmark(path, package.file_name),
        bundled={PurePosixPath(name).name: hashlib.sha256(held).hexdigest() for name, held in package.bundled.items()},
        packages=_packages(package),
    )


def _torch(package: Package) -> str:
    requirements = map(Requirement, package.metadata.get_all("Requires-Dist", []))
    return next((str(found.specifier) for found in requirements if found.name == "torch"), "")


def _packages(package: Package) -> tuple[Mapping[str, Any], ...]:
    data = package.files.get(f"{package.dist_info}/{AUDITWHEEL_SBOM}")
    if data is None:
        return ()
    try:
        components = json.loads(data).get("components", [])
    except (ValueError, AttributeError):
        return ()
    return tuple(row for row in components if str(row.get("purl", "")).startswith(("pkg:deb/", "pkg:rpm/", "pkg:apk/")))

"""Write the bill of materials of one wheel (CycloneDX 1.6): what it bundles, what it needs, and its source."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from build_torchvision import __version__
from build_torchvision.facts.libraries import library_of
from build_torchvision.publish.admission import Wheel
from build_torchvision.publish.provenance import source_url
from build_torchvision.wheel.sbom import static_components

SUFFIX = ".cdx.json"
PREFIX = "build-torchvision:"


def sbom(wheel: Wheel) -> str:
    """The SBOM as JSON text, the same for the same wheel: it bears no time, and its serial number is the wheel's."""
    bom = Bom(serial_number=uuid5(NAMESPACE_URL, f"sha256:{wheel.sha256}"))
    subject = _subject(wheel)
    bom.metadata.component = subject
    bom.metadata.tools.components.add(
        Component(type=ComponentType.APPLICATION, name="build-torchvision", version=__version__)
    )
    parts = [_torch(wheel), *static_components(wheel.descriptor.libraries), *_bundled(wheel)]
    for part in parts:
        bom.components.add(part)
        bom.register_dependency(part)
    bom.register_dependency(subject, parts)
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    del document["metadata"]["timestamp"]  # optional in the schema, and the one thing that is not the wheel's
    return json.dumps(document, indent=1) + "\n"


def _subject(wheel: Wheel) -> Component:
    said = wheel.descriptor
    shown = {
        "variant": str(wheel.variant),
        "compiler": said.compiler,
        "cuda_compiler": said.cuda and said.cuda.compiler,
        "isa_flags": " ".join(said.isa_flags),
        "gencode": " ".join(said.cuda.gencode) if said.cuda else None,
        "codegen_kind": said.cuda and said.cuda.kind,
        "torch_requirement": wheel.torch_requirement,
    }
    url = source_url(wheel)
    if url is None:
        shown |= {"source": said.source.origin, "source_tree_sha256": said.source.sha256}
    sources = [
        ExternalReference(
            type=ExternalReferenceType.SOURCE_DISTRIBUTION,
            url=XsUri(address),
            hashes=[_sha256(said.source.sha256)],
        )
        for address in filter(None, [url])
    ]
    return Component(
        type=ComponentType.LIBRARY,
        name="torchvision",
        version=wheel.version,
        bom_ref=wheel.name,
        purl=PackageURL("pypi", None, "torchvision", wheel.version, {"file_name": wheel.name}),
        licenses=[LicenseFactory().make_from_string("BSD-3-Clause")],
        hashes=[_sha256(wheel.sha256)],
        external_references=sources,
        properties=[Property(name=PREFIX + key, value=str(value)) for key, value in shown.items() if value],
    )


def _torch(wheel: Wheel) -> Component:
    version = wheel.descriptor.torch.version
    return Component(
        type=ComponentType.LIBRARY,
        name="torch",
        version=version,
        bom_ref="torch",
        purl=PackageURL("pypi", None, "torch", version),
        scope=ComponentScope.REQUIRED,
        licenses=[LicenseFactory().make_from_string("BSD-3-Clause")],
        properties=[
            Property(name=PREFIX + "bundled", value="false"),
            Property(name=PREFIX + "requirement", value=f"torch{wheel.torch_requirement}"),
        ],
    )


def _bundled(wheel: Wheel) -> Iterator[Component]:
    versions = {codec.name: codec.version for codec in wheel.descriptor.codecs}
    for file_name, digest in sorted(wheel.bundled.items()):
        known = library_of(file_name)
        package = next((row for row in wheel.packages if _brings(str(row["name"]), file_name)), dict[str, Any]())
        upstream = versions.get(known.codec) if known and known.codec else None
        version = upstream or package.get("version")
        yield Component(
            type=ComponentType.LIBRARY,
            name=known.name if known else file_name,
            version=str(version) if version else None,
            bom_ref=file_name,
            purl=_purl(package),
            scope=ComponentScope.REQUIRED,
            licenses=[LicenseFactory().make_from_string(known.licence)] if known else [],
            hashes=[_sha256(digest)],
            properties=[
                Property(name=PREFIX + "bundled", value="true"),
                Property(name=PREFIX + "file", value=f"torchvision.libs/{file_name}"),
            ],
        )


def _purl(package: Mapping[str, Any]) -> PackageURL | None:
    try:
        return PackageURL.from_string(str(package["purl"]))
    except (KeyError, ValueError):
        return None


def _brings(package: str, file_name: str) -> bool:
    """Whether a Debian package's name is that of the file's SONAME: libjpeg62-turbo brings libjpeg-….so.62."""
    match = re.match(r"([A-Za-z]+)", file_name)
    return bool(match) and package.startswith(str(match and match[1]))


def _sha256(digest: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digest)

"""List the image libraries that are linked into a wheel, as a CycloneDX document inside it (PEP 770)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from build_torchvision import __version__
from build_torchvision.spec import LibraryIdentity

SBOM = "sboms/build-torchvision.cdx.json"
"""Its path in dist-info."""
AUDITWHEEL_SBOM = "sboms/auditwheel.cdx.json"
"""The path there of auditwheel's own: which distribution package brought each bundled library."""
PREFIX = "build-torchvision:"


def sbom_text(version: str, libraries: Sequence[LibraryIdentity]) -> str:
    """The document of a wheel of `version` that `libraries` are linked into; it depends on the arguments alone."""
    subject = Component(
        type=ComponentType.LIBRARY,
        name="torchvision",
        version=version,
        bom_ref="torchvision",
        purl=PackageURL("pypi", None, "torchvision", version),
        licenses=[LicenseFactory().make_from_string("BSD-3-Clause")],
    )
    parts = list(static_components(libraries))
    bom = Bom(serial_number=uuid5(NAMESPACE_URL, repr((version, [(row.name, row.sha256) for row in libraries]))))
    bom.metadata.component = subject
    bom.metadata.tools.components.add(
        Component(type=ComponentType.APPLICATION, name="build-torchvision", version=__version__)
    )
    for part in parts:
        bom.components.add(part)
        bom.register_dependency(part)
    bom.register_dependency(subject, parts)
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    del document["metadata"]["timestamp"]  # optional in the schema, and not a property of the wheel
    return json.dumps(document, indent=1) + "\n"


def static_components(libraries: Iterable[LibraryIdentity]) -> Iterator[Component]:
    """A component for each library that is linked in; the hash is that of its source archive."""
    for row in libraries:
        yield Component(
            type=ComponentType.LIBRARY,
            name=row.name,
            version=row.version,
            bom_ref=row.name,
            purl=PackageURL.from_string(row.purl),
            scope=ComponentScope.REQUIRED,
            licenses=[LicenseFactory().make_from_string(row.licence)],
            properties=[
                Property(name=PREFIX + "linked", value="static"),
                Property(name=PREFIX + "source_sha256", value=row.sha256),
            ],
        )

"""Render the pages that installers read: PEP 503's HTML and PEP 691's JSON (with PEP 700's sizes and versions).

A plain file server cannot choose by the Accept header, so it serves index.html and every installer reads that; the JSON
lies beside it as index.json, for a server that can choose. Both use relative addresses: the site works wherever it is
put. Each page also lists the files of variant metadata (PEP 825), with their hashes: `extra`, file name -> text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from build_torchvision.publish.metadata import Listed, metadata_sha256
from build_torchvision.publish.templates import render

PROJECT = "torchvision"
VERSION = "1.1"


Entry = tuple[Listed, str]
"""A wheel, and the relative address of the folder that it lies in, which ends in a slash."""


@dataclass(frozen=True)
class Link:
    """One anchor of a page."""

    url: str
    text: str
    attributes: dict[str, str] = field(default_factory=dict)


def root_html() -> str:
    """The page `simple/`: the one project there is."""
    return render("simple.html.j2", title="all projects", links=[Link(f"{PROJECT}/", PROJECT)])


def root_json() -> str:
    """`root_html` as JSON."""
    return _dump({"meta": {"api-version": VERSION}, "projects": [{"name": PROJECT}]})


def project_html(wheels: Sequence[Entry], extra: Mapping[str, str]) -> str:
    """The page `simple/torchvision/`. `extra` lies beside it."""
    links = [
        Link(
            f"{folder}{quote(wheel.name)}#sha256={wheel.sha256}",
            wheel.name,
            {
                "data-requires-python": wheel.requires_python,
                "data-core-metadata": f"sha256={metadata_sha256(wheel)}",
                "data-dist-info-metadata": f"sha256={metadata_sha256(wheel)}",  # the name before PEP 714
            },
        )
        for wheel, folder in wheels
    ]
    beside = [Link(f"{quote(name)}#sha256={_sha256(text)}", name) for name, text in extra.items()]
    return render("simple.html.j2", title=PROJECT, links=[*links, *beside])


def project_json(wheels: Sequence[Entry], extra: Mapping[str, str]) -> str:
    """`project_html` as JSON."""
    return _dump(
        {
            "meta": {"api-version": VERSION},
            "name": PROJECT,
            "versions": sorted({wheel.version for wheel, _ in wheels}),
            "files": [
                {
                    "filename": wheel.name,
                    "url": f"{folder}{quote(wheel.name)}",
                    "hashes": {"sha256": wheel.sha256},
                    "requires-python": wheel.requires_python,
                    "size": wheel.size,
                    "core-metadata": {"sha256": metadata_sha256(wheel)},
                    "yanked": False,
                }
                for wheel, folder in wheels
            ]
            + [
                {
                    "filename": name,
                    "url": quote(name),
                    "hashes": {"sha256": _sha256(text)},
                    "size": len(text.encode()),
                    "yanked": False,
                }
                for name, text in extra.items()
            ],
        }
    )


def _dump(data: object) -> str:
    return json.dumps(data, indent=1) + "\n"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

"""A folder of proved wheels -> a folder that any file server can serve.

SITE/index.html               the front page
SITE/index.json               the same as data: what `install --from` reads
SITE/SHA256SUMS
SITE/files/                   wheels, each with its metadata, SBOM and provenance
SITE/simple/                  every variant; ask for an exact version here
SITE/VARIANT/simple/          one variant, such as cpu-avx512: a plain `torchvision` is right here
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from securesystemslib.signer import CryptoSigner

from build_torchvision.errors import BadInput
from build_torchvision.publish import catalogue, checksums, simple
from build_torchvision.publish.admission import Wheel
from build_torchvision.publish.front import front_page
from build_torchvision.publish.metadata import metadata_name
from build_torchvision.publish.provenance import provenance_file
from build_torchvision.publish.sbom import SUFFIX, sbom
from build_torchvision.publish.variant_index import variants_files


def write_site(wheels: Sequence[Wheel], out: Path, *, signer: CryptoSigner | None = None) -> list[catalogue.Record]:
    """Write the site of `wheels` into `out`, in one step: a site that was there is replaced whole.

    The same wheels give the same bytes (and the same key the same signatures). Raises BadInput when `out` holds
    something that is no site of ours.
    """
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / catalogue.NAME).is_file())):
        raise BadInput(
            f"Write the index into {out}",
            "Something that is no index is there already.",
            "Name a new folder: --out DIR.",
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch:
        part = Path(scratch, "site")
        records = _fill(wheels, part, signer)
        if out.exists():
            out.replace(Path(scratch, "old"))
        part.replace(out)
    return records


def _fill(wheels: Sequence[Wheel], site: Path, signer: CryptoSigner | None) -> list[catalogue.Record]:
    records = []
    files = site / "files"
    files.mkdir(parents=True)
    for wheel in wheels:
        shutil.copyfile(wheel.path, files / wheel.name)
        (files / metadata_name(wheel)).write_bytes(wheel.metadata)
        bill = f"{wheel.name}{SUFFIX}"
        (files / bill).write_text(sbom(wheel), encoding="utf-8")
        provenance, text = provenance_file(wheel, signer)
        (files / provenance).write_text(text, encoding="utf-8")
        records.append(catalogue.record(wheel, provenance=provenance, sbom=bill))
    _write_simple(wheels, site / "simple", up=2)
    for name in dict.fromkeys(wheel.variant.short for wheel in wheels):
        _write_simple([wheel for wheel in wheels if wheel.variant.short == name], site / name / "simple", up=3)
    (site / catalogue.NAME).write_text(catalogue.dump(records, signed=signer is not None), encoding="utf-8")
    (site / "index.html").write_text(front_page(records, signed=signer is not None), encoding="utf-8")
    (site / checksums.NAME).write_text(checksums.sha256sums(site), encoding="utf-8")
    return records


def _write_simple(wheels: Sequence[Wheel], folder: Path, *, up: int) -> None:
    """Write the installers' pages into `folder`; the site's root is `up` folders above the project's page."""
    project, files = folder / simple.PROJECT, "../" * up + "files/"
    project.mkdir(parents=True)
    extra = variants_files(wheels)
    for name, text in extra.items():
        (project / name).write_text(text, encoding="utf-8")
    (folder / "index.html").write_text(simple.root_html(), encoding="utf-8")
    (folder / "index.json").write_text(simple.root_json(), encoding="utf-8")
    (project / "index.html").write_text(simple.project_html(wheels, list(extra), files=files), encoding="utf-8")
    (project / "index.json").write_text(simple.project_json(wheels, files=files), encoding="utf-8")

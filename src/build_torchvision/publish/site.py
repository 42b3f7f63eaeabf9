"""Write a folder of verified wheels as a folder that any file server can serve.

SITE/index.html               the front page
SITE/index.json               the same as data; index.json.gz is what `install --from` reads
SITE/SHA256SUMS
SITE/files/                   wheels, each with its metadata, SBOM and provenance
SITE/simple/                  every variant; ask for an exact version here
SITE/VARIANT/simple/          one variant, such as cpu-avx512: a plain `torchvision` is right here
SITE/VARIANT/files/           its wheels whose names have a label, without it (hard links)
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

from securesystemslib.signer import CryptoSigner

from build_torchvision.errors import BadInput, CannotWrite
from build_torchvision.inputs.cache import sha256_of
from build_torchvision.publish import catalogue, checksums, simple
from build_torchvision.publish.admission import Known, Wheel
from build_torchvision.publish.exchange import aside, exchange
from build_torchvision.publish.front import front_page
from build_torchvision.publish.metadata import Listed, metadata_name
from build_torchvision.publish.provenance import provenance_file
from build_torchvision.publish.sbom import SUFFIX, sbom
from build_torchvision.publish.stock import StockWheel
from build_torchvision.publish.variant_index import can_be_chosen, variants_files
from build_torchvision.writing import writing

SHOWN = 5  # files of others that an error names
FILES = "files"


def write_site(
    wheels: Sequence[Wheel], out: Path, *, signer: CryptoSigner | None = None, stock: Sequence[StockWheel] = ()
) -> list[catalogue.Record]:
    """Write the site of `wheels` into `out`, in one step: a site that was there is replaced whole.

    `stock` are listed beside them in SITE/simple, for installers and machines that take no variant.
    The same wheels give the same bytes (and the same key the same signatures). Raises BadInput when `out` holds
    something that is no site of ours, CannotWrite when it cannot be written; then what was there is there still.
    """
    out = out.resolve()
    action = f"Write the index into {out}"
    with writing(action, out):
        _sweep(out)
        check_replaceable(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.is_dir() and out.stat().st_dev != out.parent.stat().st_dev:
            raise CannotWrite(
                action, "It is a mount point, which cannot be replaced in one step.", "Name a folder in it."
            )
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent, ignore_cleanup_errors=True) as scratch:
            part = Path(scratch, "site")
            records = _fill(wheels, stock, part, signer, out)
            exchange(part, out)
    return records


def _sweep(out: Path) -> None:
    """Put back, or remove where a newer one is there, the site that a killed run left aside."""
    left = aside(out)
    if left.exists():
        check_replaceable(left)
        if out.exists():
            shutil.rmtree(left)
        else:
            left.rename(out)


def check_replaceable(out: Path) -> None:
    """Raise BadInput or CannotWrite unless `out` is absent, an empty folder, or a site of ours and nothing else."""
    action, hint = f"Write the index into {out}", "Name a new folder: --out DIR."
    if not out.exists():
        return
    if not out.is_dir():
        raise CannotWrite(action, "A file is there where a folder should be.", hint)
    with writing(action, out):
        if not any(out.iterdir()):
            return
    if _generator(out) is None:
        raise BadInput(action, "Something that is no index of this tool is there already.", hint)
    listed = _listed(out)
    others = sorted(
        path.relative_to(out).as_posix()
        for path in out.rglob("*")
        if not path.is_dir() and path.relative_to(out).as_posix() not in listed
    )
    if others:
        shown = ", ".join(others[:SHOWN]) + (f" and {len(others) - SHOWN} more" if len(others) > SHOWN else "")
        raise BadInput(
            action, f"Beside the index that is there stands what is not part of it: {shown}.", f"Move it. {hint}"
        )


def known_wheels(out: Path) -> dict[str, Known]:
    """File name -> what the index in `out` has of it; nothing where another version of the tool made that index."""
    out = out.resolve()
    if _generator(out) != catalogue.GENERATOR:
        return {}
    try:
        rows = catalogue.load((out / catalogue.NAME).read_text(encoding="utf-8"), str(out))
    except (OSError, UnicodeDecodeError, BadInput):
        return {}
    listed = _listed(out)
    found = {}
    for row in rows:
        bill = out / unquote(row.sbom)
        name = f"{FILES}/{bill.name}"
        if row.metadata_sha256 and bill.is_file() and listed.get(name) == sha256_of(bill):
            found[row.file] = Known(sha256=row.sha256, sbom=bill)
    return found


def held(out: Path) -> tuple[list[Path], list[Path]]:
    """The wheels of the index in `out`: variants, and stock ones. Raises BadInput where there is no index."""
    out = out.resolve()
    try:
        text = (out / catalogue.NAME).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"Add to the index in {out}", "There is no index.", "Leave out --add, or check --out."
        ) from error
    rows, stock = catalogue.load(text, str(out)), catalogue.load_stock(text)
    return [out / FILES / row.file for row in rows], [out / FILES / name for name in stock]


def _generator(out: Path) -> str | None:
    try:
        return catalogue.made_by((out / catalogue.NAME).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None


def _listed(out: Path) -> dict[str, str]:
    """The files of the site in `out`: path -> sha256. SHA256SUMS itself is one."""
    try:
        return {checksums.NAME: "", **checksums.read_sha256sums((out / checksums.NAME).read_text(encoding="utf-8"))}
    except (OSError, UnicodeDecodeError):
        return {}


class _Writer:
    """Writes files below `root` and keeps the sha256 of each, for SHA256SUMS."""

    def __init__(self, root: Path) -> None:
        self.root, self.digests = root, dict[str, str]()

    def write(self, name: str, data: bytes | str) -> None:
        data = data.encode() if isinstance(data, str) else data
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self.digests[name] = hashlib.sha256(data).hexdigest()

    def bring(self, name: str, source: Path, sha256: str, earlier: Path) -> None:
        """`source`, whose digest is `sha256`: a hard link to `earlier` where that has the same bytes, else a copy."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            if sha256_of(earlier) == sha256:
                os.link(earlier, path)
        except OSError:
            path.unlink(missing_ok=True)  # not there, or a file system without hard links
        if not path.exists():
            shutil.copyfile(source, path)
        self.digests[name] = sha256


def _fill(
    wheels: Sequence[Wheel], stock: Sequence[StockWheel], site: Path, signer: CryptoSigner | None, earlier: Path
) -> list[catalogue.Record]:
    """Write the site of `wheels` into `site`; files that the site `earlier` has already are linked from there."""
    writer, records = _Writer(site), []
    variants: Mapping[str, list[Wheel]] = defaultdict(list)
    for wheel in wheels:
        variants[wheel.variant.short].append(wheel)
        writer.bring(f"{FILES}/{wheel.name}", wheel.path, wheel.sha256, earlier / FILES / wheel.name)
        writer.write(f"{FILES}/{metadata_name(wheel)}", wheel.metadata)
        bill = f"{wheel.name}{SUFFIX}"
        writer.write(f"{FILES}/{bill}", wheel.sbom or sbom(wheel))
        provenance, text = provenance_file(wheel, signer)
        writer.write(f"{FILES}/{provenance}", text)
        records.append(catalogue.record(wheel, provenance=provenance, sbom=bill))
    for plain in stock:
        writer.bring(f"{FILES}/{plain.name}", plain.path, plain.sha256, earlier / FILES / plain.name)
        writer.write(f"{FILES}/{metadata_name(plain)}", plain.metadata)
    chosen = [wheel for wheel in wheels if can_be_chosen(wheel)]
    listed: list[Listed] = [*chosen, *stock]
    _write_simple(writer, [(row, f"../../{FILES}/") for row in listed], "simple", variants_files(chosen))
    for name, rows in variants.items():
        entries = [_under_plain_name(writer, wheel, name) for wheel in rows]
        _write_simple(writer, entries, f"{name}/simple", {})
    text = catalogue.dump(records, stock, signed=signer is not None)
    writer.write(catalogue.NAME, text)
    writer.write(catalogue.PACKED, catalogue.pack(text))
    writer.write("index.html", front_page(records, signed=signer is not None))
    (site / checksums.NAME).write_text(checksums.sha256sums(writer.digests), encoding="utf-8")
    return records


def _under_plain_name(writer: _Writer, wheel: Wheel, variant: str) -> simple.Entry:
    """The wheel for the index of its own variant: there the file name has no label, which pip would refuse."""
    if wheel.file_name.label is None:
        return wheel, f"../../../{FILES}/"
    plain = replace(wheel, path=wheel.path.with_name(wheel.file_name.plain))
    writer.bring(f"{variant}/{FILES}/{plain.name}", wheel.path, wheel.sha256, writer.root / FILES / wheel.name)
    writer.write(f"{variant}/{FILES}/{metadata_name(plain)}", wheel.metadata)
    return plain, f"../../{FILES}/"


def _write_simple(writer: _Writer, entries: Sequence[simple.Entry], folder: str, extra: Mapping[str, str]) -> None:
    """Write the installers' pages into `folder`, with the files `extra` beside them."""
    project = f"{folder}/{simple.PROJECT}"
    for name, text in extra.items():
        writer.write(f"{project}/{name}", text)
    writer.write(f"{folder}/index.html", simple.root_html())
    writer.write(f"{folder}/index.json", simple.root_json())
    writer.write(f"{project}/index.html", simple.project_html(entries, extra))
    writer.write(f"{project}/index.json", simple.project_json(entries, extra))

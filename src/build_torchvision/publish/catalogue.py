"""Write and read index.json: what `install` reads and the front page shows, one record per wheel.

All addresses are relative to the file. index.json.gz beside it holds the same bytes, packed, for `install`.
"""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Protocol
from urllib.parse import quote

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from build_torchvision import __version__
from build_torchvision.errors import BadInput, FetchFailed
from build_torchvision.publish.admission import Wheel
from build_torchvision.publish.metadata import metadata_sha256
from build_torchvision.publish.run_report import gpu_checks, run_checks
from build_torchvision.publish.stock import StockWheel
from build_torchvision.variants import Variant, parse
from build_torchvision.verify.package import parse_file_name

log = logging.getLogger(__name__)
NAME, PACKED = "index.json", "index.json.gz"
SCHEMA = 2
READABLE = (1, 2)  # 1 lacks `requires_python` and `metadata_sha256`
TOOL = "build-torchvision"
GENERATOR = f"{TOOL} {__version__}"


@dataclass(frozen=True, kw_only=True)
class Record:
    """One wheel of an index, as far as choosing among them needs. `size` is in bytes, `sha256` hexadecimal."""

    variant: str
    version: str
    torchvision: str
    python: str
    torch: str
    torch_requirement: str
    torch_cuda: str | None
    codegen_kind: str | None
    file: str
    url: str
    size: int
    sha256: str
    provenance: str
    sbom: str
    proof_checks: int
    """How many checks the static proof has; every one holds."""
    run_checks: int | None
    """How many checks were made at run time beside torch; None where no such proof lay beside the wheel."""
    benchmark: dict[str, Any] | None = None
    requires_python: str = ""
    metadata_sha256: str = ""
    tuned_operators: tuple[str, ...] = ()
    """Those with CPU kernels of ours; all others have upstream's."""
    tuned_gpu_operators: tuple[str, ...] = ()
    gpu_checks: int = 0
    """How many of `run_checks` were made on a GPU that the wheel is for."""

    @property
    def parsed(self) -> Variant:
        return parse(self.variant)

    @property
    def any_python(self) -> bool:
        """Whether the wheel is for every Python (py3-none) that `requires_python` allows."""
        return parse_file_name(self.file).any_python

    @property
    def python_text(self) -> str:
        """The Python as people write it: "3.13", or what a wheel for every Python requires: "any, >=3.10"."""
        if not self.any_python:
            return self.parsed.python_version
        return f"any, {self.requires_python}" if self.requires_python else "any"

    @property
    def with_variant_label(self) -> bool:
        """Whether only an installer that knows variants, or `install`, takes this file name."""
        return parse_file_name(self.file).label is not None


def address(file_name: str) -> str:
    """Where a file lies, relative to index.json."""
    return f"files/{quote(file_name)}"


def record(wheel: Wheel, *, provenance: str, sbom: str) -> Record:
    """The record of one admitted wheel; `provenance` and `sbom` are file names beside it."""
    return Record(
        variant=str(wheel.variant),
        version=wheel.version,
        torchvision=wheel.release,
        python=wheel.variant.python,
        torch=wheel.descriptor.torch.version,
        torch_requirement=wheel.torch_requirement,
        torch_cuda=wheel.descriptor.torch.cuda,
        codegen_kind=wheel.descriptor.cuda.kind if wheel.descriptor.cuda else None,
        file=wheel.name,
        url=address(wheel.name),
        size=wheel.size,
        sha256=wheel.sha256,
        provenance=address(provenance),
        sbom=address(sbom),
        proof_checks=len(wheel.proof.checks),
        run_checks=run_checks(wheel.run_proof) if wheel.run_proof else None,
        benchmark=dict(wheel.bench) if wheel.bench else None,
        requires_python=wheel.requires_python,
        metadata_sha256=metadata_sha256(wheel),
        tuned_operators=tuple(wheel.descriptor.operators),
        tuned_gpu_operators=tuple(wheel.descriptor.cuda.operators) if wheel.descriptor.cuda else (),
        gpu_checks=gpu_checks(wheel.run_proof) if wheel.run_proof else 0,
    )


def dump(records: Iterable[Record], stock: Iterable[StockWheel] = (), *, signed: bool) -> str:
    """The text of index.json."""
    rows = [asdict(row) for row in records]
    others = [
        {"file": row.name, "url": address(row.name), "version": row.version, "size": row.size, "sha256": row.sha256}
        for row in stock
    ]
    data = {"schema": SCHEMA, "generator": GENERATOR, "signed": signed, "wheels": rows, "stock": others}
    return json.dumps(data, indent=1) + "\n"


def pack(text: str) -> bytes:
    """The bytes of index.json.gz, the same for the same text."""
    return gzip.compress(text.encode(), mtime=0)


def load(text: str, origin: str) -> list[Record]:
    """The records of an index.json. Raises BadInput for what is none, or one of a newer schema.

    A wheel whose variant this version does not know is left out with a warning.
    """
    action, hint = f"Read the index {origin}", f"Name the address of a site that `{TOOL} index` made."
    try:
        data = json.loads(text)
        schema, rows = data["schema"], data["wheels"]
        if schema not in READABLE:
            problem = f"It has schema {schema}, this version reads {' and '.join(map(str, READABLE))}."
            raise BadInput(action, problem, "Update this tool.")
        records = [_read(row) for row in rows]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput(action, f"Its {NAME} is not one of ours ({_short(error)}).", hint) from error
    known: list[Record] = []
    unknown: list[str] = []
    for row in records:
        fault = _fault(row)
        if fault is None:
            known.append(row)
        else:
            unknown.append(f"{row.file} ({fault})")
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        log.warning("%s: wheels that this version does not know are left out: %s%s", origin, unknown[0], more)
    return known


class Source(Protocol):
    """Where an index is read from (`install.remote.Remote`)."""

    @property
    def base(self) -> str: ...
    def read(self, address: str) -> bytes: ...
    def read_packed(self, address: str) -> bytes: ...


def fetch(site: Source) -> list[Record]:
    """The records of the index at `site`, from index.json.gz, or index.json where an older version made it."""
    try:
        data = site.read_packed(PACKED)
    except FetchFailed:
        data = site.read(NAME)
    return load(data.decode(errors="replace"), site.base)


def load_stock(text: str) -> list[str]:
    """The file names of the stock wheels of an index.json that `load` has read."""
    rows = json.loads(text).get("stock", [])
    return [row["file"] for row in rows if isinstance(row, dict) and isinstance(row.get("file"), str)]


def made_by(text: str) -> str | None:
    """The generator of an index.json that this tool wrote, in any version; None for any other text."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or not isinstance(data.get("wheels"), list):
        return None
    schema, generator = data.get("schema"), data.get("generator")
    ours = isinstance(schema, int) and isinstance(generator, str) and generator.partition(" ")[0] == TOOL
    return str(generator) if ours else None


NAMES = "tuple[str, ...]"
_TYPES: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "str | None": (str, type(None)),
    "int | None": (int, type(None)),
    NAMES: (list, tuple),
}


def _read(row: Mapping[str, Any]) -> Record:
    """One record. Raises TypeError or KeyError for a row that is none."""
    values: dict[str, Any] = {}
    for field in fields(Record):
        value = row[field.name] if field.default is MISSING else row.get(field.name, field.default)
        if not isinstance(value, _TYPES.get(str(field.type), (dict, type(None)))) or isinstance(value, bool):
            raise TypeError(f"{field.name} is {type(value).__name__}")
        values[field.name] = _names(value) if field.type == NAMES else value
    return Record(**values)


def _names(value: Any) -> tuple[str, ...]:
    """The texts of a list. Raises TypeError for a list of anything else."""
    if not all(isinstance(name, str) for name in value):
        raise TypeError("a name is no text")
    return tuple(value)


def _fault(row: Record) -> str | None:
    """Why nothing can be chosen by a record; None where it can."""
    try:
        parse_file_name(row.file)
        parse(row.variant)
        for text in (row.torch_requirement, row.requires_python):
            SpecifierSet(text)
        Version(row.torchvision)
    except BadInput as error:
        return error.problem
    except (InvalidSpecifier, InvalidVersion) as error:
        return str(error)
    return None


def _short(error: Exception) -> str:
    return repr(error)[:200]

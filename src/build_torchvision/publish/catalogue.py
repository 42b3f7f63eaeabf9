"""index.json: what `install` reads and the front page shows. One record a wheel, all addresses relative to the file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

from build_torchvision import __version__
from build_torchvision.errors import BadInput
from build_torchvision.publish.admission import Wheel
from build_torchvision.publish.run_report import run_checks
from build_torchvision.variants import Variant, parse
from build_torchvision.verify.package import parse_file_name

NAME = "index.json"
SCHEMA = 1


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

    @property
    def parsed(self) -> Variant:
        return parse(self.variant)

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
        torch=str(wheel.descriptor["torch"]),
        torch_requirement=wheel.torch_requirement,
        torch_cuda=wheel.descriptor.get("torch_cuda"),
        codegen_kind=wheel.descriptor.get("codegen_kind"),
        file=wheel.name,
        url=address(wheel.name),
        size=wheel.size,
        sha256=wheel.sha256,
        provenance=address(provenance),
        sbom=address(sbom),
        proof_checks=len(wheel.proof.checks),
        run_checks=run_checks(wheel.run_proof) if wheel.run_proof else None,
        benchmark=dict(wheel.bench) if wheel.bench else None,
    )


def dump(records: Iterable[Record], *, signed: bool) -> str:
    """The text of index.json."""
    rows = [asdict(row) for row in records]
    data = {"schema": SCHEMA, "generator": f"build-torchvision {__version__}", "signed": signed, "wheels": rows}
    return json.dumps(data, indent=1) + "\n"


def load(text: str, origin: str) -> list[Record]:
    """The records of an index.json. Raises BadInput for what is none, or one of a newer schema."""
    action, hint = f"Read the index {origin}", "Name the address of a site that `build-torchvision index` made."
    try:
        data = json.loads(text)
        if data["schema"] != SCHEMA:
            raise BadInput(action, f"It has schema {data['schema']}, this version reads {SCHEMA}.", "Update this tool.")
        return [Record(**row) for row in data["wheels"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(action, f"Its {NAME} is not one of ours ({error!r}).", hint) from error

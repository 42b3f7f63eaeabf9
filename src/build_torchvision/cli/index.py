"""`index`: make a static package index of a folder of wheels."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from build_torchvision.cli import tables
from build_torchvision.cli.options import OUT, RESULT, WHAT, Json, Quiet, Verbose, flag, log_to_stderr
from build_torchvision.errors import BadInput
from build_torchvision.progress import counting
from build_torchvision.publish.admission import admit_all, find_wheels
from build_torchvision.publish.provenance import load_signer
from build_torchvision.publish.site import check_replaceable, held, known_wheels, write_site
from build_torchvision.publish.stock import read_stock


def index(
    *wheels: Annotated[Path, Parameter(help="Wheels, or folders of them.")],
    out_dir: Annotated[Path, Parameter(name="--out", group=RESULT)] = Path("site"),
    sign: Annotated[Path | None, Parameter(group=RESULT)] = None,
    add: Annotated[bool, flag(WHAT, "Keep the wheels that the index in --out has, and add WHEELS to them.")] = False,
    stock: Annotated[tuple[Path, ...], Parameter(consume_multiple=True, negative=(), group=WHAT)] = (),
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make a static package index of WHEELS (files, or folders of them), for pip, uv and `install --from`.

    Only verified wheels enter: each one's report must hold and belong to its bytes, and the audit is repeated. A wheel
    that the index has already, with the same bytes, is not audited again. Any file server can serve the folder.

    Parameters
    ----------
    out_dir
        The folder to write. An index that is there is replaced in one step; a folder with anything else is refused.
    sign
        An ed25519 private key (PEM) that signs each wheel's provenance. Without one it is an unsigned record.
    stock
        Wheels that TorchVision's own project published, listed too, for installers that know no variants.
    """
    log_to_stderr(quiet=quiet, verbose=verbose)
    if not wheels:
        raise BadInput("index", "no wheel was named.", "Try `build-torchvision index dist --out site`.")
    signer = load_signer(sign) if sign else None
    check_replaceable(out_dir)
    kept, kept_stock = held(out_dir) if add else ([], [])
    paths = find_wheels([*wheels, *kept])
    plain = {path.name: path for path in [*kept_stock, *stock]}
    with counting("Check wheels", len(paths)) as one_more:
        admitted = admit_all(paths, known_wheels(out_dir), lambda path, audited: one_more())
    records = write_site(admitted, out_dir, signer=signer, stock=[read_stock(path) for path in plain.values()])
    if as_json:
        print(json.dumps([asdict(record) for record in records], indent=2))
        return
    fields = [
        tables.Field(head="variant"),
        tables.Field(head="version", spare=2),
        tables.Field(head="codegen", spare=1),
        *(tables.Field(head=head, number=True) for head in ("MB", "checks", "run")),
    ]
    rows = []
    for record in records:
        ran = "-" if record.run_checks is None else str(record.run_checks)
        kind, size = record.codegen_kind or "-", f"{record.size / 1e6:.1f}"
        rows.append([record.variant, record.version, kind, size, str(record.proof_checks), ran])
    OUT.print(tables.listing(fields, rows, OUT.width))
    word = "signed" if signer else "unsigned (sign it with --sign KEY)"
    count = f"{len(records)} wheel{'s' * (len(records) != 1)}"
    OUT.print(f"{out_dir}: {count}, provenance {word}", highlight=False)

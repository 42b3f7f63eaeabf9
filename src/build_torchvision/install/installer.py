"""A wheel of an index, checked and installed into a Python environment."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from uv import find_uv_bin

from build_torchvision.errors import ProcessFailed, VerificationFailed
from build_torchvision.install.remote import Remote
from build_torchvision.machine.environment import PythonEnvironment, read_environment
from build_torchvision.process import run
from build_torchvision.publish.catalogue import Record
from build_torchvision.publish.provenance import check_signed
from build_torchvision.verify.embedded import read_embedded_report
from build_torchvision.verify.package import Package, parse_file_name
from build_torchvision.verify.static import audit_wheel

INSTALL_SECONDS = 3600.0


def install(
    remote: Remote, row: Record, environment: PythonEnvironment, *, trust: Path | None = None, deps: bool = True
) -> None:
    """Fetch the wheel of `row`, prove it, and install it into `environment` with uv.

    Its hash must be the index's, its own proof must hold and belong to its bytes, and what bytes show is audited again
    before anything of it is unpacked. `trust` is a public key that must have signed its provenance. Raises
    VerificationFailed when any of it does not hold, ProcessFailed when the installer fails; then the
    environment is as it was.
    """
    with tempfile.TemporaryDirectory(prefix="install-") as scratch:
        folder = Path(scratch)
        wheel = remote.fetch(row.url, folder, row.file, sha256=row.sha256, size=row.size)
        hint = "Nothing was installed. Do not use this index."
        proof = read_embedded_report(Package(wheel))
        if proof.variant != row.variant:
            raise VerificationFailed(f"Install {row.file}", f"Its proof is one of {proof.variant}.", hint)
        (proof + audit_wheel(wheel, row.parsed)).require(hint)
        if trust is not None:
            statement = remote.read(row.provenance).decode(errors="replace")
            check_signed(statement, trust, name=row.file, sha256=row.sha256)
        plain = folder / parse_file_name(row.file).plain  # an installer that knows no variants refuses a label
        wheel.rename(plain)
        _uv(plain, environment, deps=deps)
    found = read_environment(environment.executable).torchvision
    if found is None or found.version != row.version:
        raise ProcessFailed(
            f"Install {row.file} into {environment.executable}",
            f"The installer ended well, and the environment has torchvision {found.version if found else '(none)'}.",
            "Look at what else is on its path: `build-torchvision doctor`.",
        )


def _uv(wheel: Path, environment: PythonEnvironment, *, deps: bool) -> None:
    env = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")}
    flags = ["--quiet", "--reinstall-package", "torchvision", *([] if deps else ["--no-deps"])]
    run(
        [find_uv_bin(), "pip", "install", *flags, "--python", environment.executable, wheel],
        action=f"Install {wheel.name} into {environment.executable}",
        hint="Check the network and the disk (torch takes up to 5 GB), or keep to what is there: --no-deps.",
        env=env,
        timeout=INSTALL_SECONDS,
    )

"""Fetch a wheel of an index, check it, and install it into a Python environment."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from build_torchvision.errors import BuildTorchvisionError, CannotWrite, ProcessFailed, VerificationFailed
from build_torchvision.inputs.programs import uv as uv_program
from build_torchvision.install.remote import Remote
from build_torchvision.machine.environment import PythonEnvironment, read_environment
from build_torchvision.process import run
from build_torchvision.progress import waiting
from build_torchvision.publish.catalogue import Record
from build_torchvision.publish.provenance import check_signed
from build_torchvision.verify.embedded import read_embedded_report
from build_torchvision.verify.package import Package, parse_file_name
from build_torchvision.verify.static import audit_package
from build_torchvision.writing import writing

INSTALL_SECONDS = 3600.0
PROVENANCE_BYTES = 1 << 20
SPARE = 1 << 20  # bytes that a file system needs for folders and metadata
_ROOM = "Free some space there, change its permissions, or name another environment: --python."


def install(
    remote: Remote,
    row: Record,
    environment: PythonEnvironment,
    *,
    trust: Path | None = None,
    deps: bool = True,
) -> None:
    """Fetch the wheel of `row`, verify it, and install it into `environment` with uv.

    Its hash must be the index's, its own report must hold and belong to its bytes, and what bytes show is audited again
    before anything of it is unpacked. `trust` is a public key that must have signed its provenance. Raises
    VerificationFailed when any of it does not hold, CannotWrite when the environment has no room for it or cannot be
    written, ProcessFailed when the installer fails for another reason; then the environment is as it was.
    """
    action = f"Install {row.file} into {environment.executable}"
    _check_writable(environment.paths[:1], action)
    with _scratch() as folder:
        wheel = remote.fetch(row.url, folder, row.file, sha256=row.sha256, size=row.size)
        hint = "Nothing was installed. Do not use this index."
        package = Package(wheel)
        proof = read_embedded_report(package)
        if proof.variant != row.variant:
            raise VerificationFailed(f"Install {row.file}", f"Its proof is one of {proof.variant}.", hint)
        (proof + audit_package(package, row.parsed)).require(hint)
        if trust is not None:
            statement = remote.read(row.provenance, PROVENANCE_BYTES).decode(errors="replace")
            check_signed(statement, trust, name=row.file, sha256=row.sha256)
        plain = folder / parse_file_name(row.file).plain  # an installer that knows no variants refuses a label
        wheel.rename(plain)
        with zipfile.ZipFile(plain) as archive:
            needed = sum(member.file_size for member in archive.infolist())
        _check_writable(environment.paths[:1], action, needed)
        with waiting(f"Install {plain.name}" + (" and what it requires" if deps else "")):
            _uv(plain, environment, deps=deps, action=action)
    found = read_environment(environment.executable).torchvision
    if found is None or found.version != row.version:
        raise ProcessFailed(
            action,
            f"The installer ended well, and the environment has torchvision {found.version if found else '(none)'}.",
            "Look at what else is on its path: `build-torchvision doctor`.",
        )


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for the time of the installation. Raises CannotWrite where there is none."""
    hint = "Name a folder for temporary files that has room and may be written: TMPDIR."
    try:
        folder = Path(tempfile.mkdtemp(prefix="install-"))
    except FileNotFoundError as error:  # tempfile found no folder in which a file can be made
        raise CannotWrite("Make a temporary folder", f"{error.strerror or error}.", hint) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_writable(folders: Sequence[Path], action: str, needed: int = 0) -> None:
    """Raise CannotWrite unless each of `folders` that exists takes a file and has `needed` bytes free."""
    for folder in folders:
        if not folder.is_dir():
            continue
        with writing(action, folder, hint=_ROOM), tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(1 << 16))
            file.flush()
        free = shutil.disk_usage(folder).free
        if needed and free < needed + SPARE:
            problem = (
                f"{folder}: it takes {needed / 1e6:.1f} MB, and {free / 1e6:.1f} MB are free; nothing was changed."
            )
            raise CannotWrite(action, problem, _ROOM)


def _uv(wheel: Path, environment: PythonEnvironment, *, deps: bool, action: str) -> None:
    uv = uv_program()
    env = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")}
    flags = ["--quiet", "--reinstall-package", "torchvision", *([] if deps else ["--no-deps"])]
    try:
        run(
            [uv, "pip", "install", *flags, "--python", environment.executable, wheel],
            action=action,
            hint="Check the network and the disk (torch takes up to 5 GB), or keep to what is there: --no-deps.",
            env=env,
            timeout=INSTALL_SECONDS,
        )
    except ProcessFailed as error:
        try:
            cache = run([uv, "cache", "dir"], action=action, env=env).stdout.strip()
            _check_writable([*environment.paths[:1], Path(cache)], action, SPARE)
        except BuildTorchvisionError as cause:
            if isinstance(cause, CannotWrite):
                raise cause from error
        raise

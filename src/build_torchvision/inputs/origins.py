"""Download one pinned file from the first origin that serves the right bytes: a URL, a mirror or a package index."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from packaging.version import Version

from build_torchvision.errors import BuildTorchvisionError, FetchFailed
from build_torchvision.inputs.apt import APT_HELPER, APT_SECONDS, configured_mirrors
from build_torchvision.inputs.cache import publish, remove, sha256_of
from build_torchvision.inputs.index_page import default_index, read_page
from build_torchvision.process import run

log = logging.getLogger(__name__)
CONNECT_SECONDS = 4.0
READ_SECONDS = 60.0

Origin = Callable[[Path], str]
"""Fill a path that does not exist with the file, and return where it came from. Raises OriginFailed."""


class OriginFailed(Exception):
    """One origin could not serve the file; the next is tried."""


def pinned_file(dest: Path, sha256: str, origins: Sequence[tuple[str, Origin]], *, action: str, hint: str) -> Path:
    """Make `dest` the file whose SHA-256 is `sha256`, downloaded unless it is there, and return it.

    `origins`: name -> origin, in the order in which they are tried. Raises FetchFailed when none serves those bytes,
    naming what each answered; MissingInput when the disk is full.
    """

    def fill(part: Path) -> None:
        first_right(part, sha256, origins, action=action, hint=hint)

    def fault(path: Path) -> str | None:
        actual = sha256_of(path)
        return None if actual == sha256 else f"its sha256 is {actual}, not {sha256}"

    return publish(dest, fill, fault)


def first_right(part: Path, sha256: str, origins: Sequence[tuple[str, Origin]], *, action: str, hint: str) -> str:
    """Fill `part` from the first of `origins` that serves the bytes of `sha256`; returns where it came from."""
    troubles: list[str] = []
    for name, fetch in origins:
        try:
            origin = fetch(part)
            actual = sha256_of(part)
            if actual != sha256:
                raise OriginFailed(f"{origin} served sha256 {actual} ({part.stat().st_size} bytes), not {sha256}")
        except (OriginFailed, BuildTorchvisionError) as error:
            remove(part)
            log.warning("%s: %s: %s", action, name, error)
            troubles.append(f"{name}: {error}")
        else:
            log.info("%s: %s", action, origin)
            return origin
    raise FetchFailed(action, "No origin served it. " + " | ".join(troubles), hint)


def from_url(url: str) -> Origin:
    """The file at `url`, as the server stores it."""

    def fetch(part: Path) -> str:
        import httpx  # slow to import, and needed only where something is fetched

        timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
        try:
            stored = {"Accept-Encoding": "identity"}  # the archive's own bytes are what is pinned
            with httpx.stream("GET", url, headers=stored, follow_redirects=True, timeout=timeout) as response:
                response.raise_for_status()
                with part.open("wb") as file:
                    for chunk in response.iter_raw():
                        file.write(chunk)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise OriginFailed(f"{url}: {type(error).__name__}: {error}") from error
        return url

    return fetch


def from_mirror(pool_path: str, sha256: str) -> Origin:
    """The file at `pool_path` ("pool/main/n/nasm/…") of the mirror that this machine's apt is configured with."""

    def fetch(part: Path) -> str:
        action = f"Fetch {pool_path}"
        mirrors = configured_mirrors(action)
        if not mirrors:
            raise OriginFailed("apt's configuration names no Debian or Ubuntu archive")
        troubles: list[str] = []
        for mirror in mirrors:
            url = f"{mirror.rstrip('/')}/{pool_path}"
            # The file is the caller's: apt's own user may not write there.
            command: list[str | Path] = [
                APT_HELPER,
                "-o",
                "APT::Sandbox::User=",
                "download-file",
                url,
                part,
                f"SHA256:{sha256}",
            ]
            try:
                run(command, action=action, timeout=APT_SECONDS)
            except BuildTorchvisionError as error:
                remove(part)
                troubles.append(str(error))
            else:
                return url
        raise OriginFailed("; ".join(troubles))

    return fetch


def from_registry(requirement: str) -> Origin:
    """The source distribution of `requirement` ("zlib-ng==1.1.0") at the address that pip's index lists for it."""

    def fetch(part: Path) -> str:
        import httpx

        project, _, version = requirement.partition("==")
        index = default_index()
        try:
            listed = read_page(index, project)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError) as error:
            raise OriginFailed(f"{index}: {type(error).__name__}: {error}") from error
        found = [file for file in listed if file.source_version == Version(version)]
        if not found:
            raise OriginFailed(f"{index} lists no source distribution of {requirement}")
        return from_url(found[0].url)(part)

    return fetch

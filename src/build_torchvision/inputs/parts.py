"""Of a large wheel only the files that a build reads, in parts (RFC 9110, section 14), each held to a pinned digest."""

from __future__ import annotations

import io
import logging
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from build_torchvision.inputs.registry import download, extract, locate, unpack

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)
LARGE = 16 << 20  # bytes of a wheel that is worth reading in parts
LEAST = 1 << 18  # bytes of one request; neighbouring members of a wheel come together
SECONDS = 60.0


def take(
    requirement: str,
    tree: Path,
    place: Callable[[str], str | None],
    *,
    package: str,
    record: str,
    platform: str,
    action: str,
    hint: str,
) -> int:
    """Unpack into `tree` what `place` names of the wheel that meets `requirement`; returns the bytes left unfetched.

    Of a large wheel only these members are fetched, where the registry serves parts. pip checks a whole wheel against
    the registry's digest, which no part can be: so `record` is the sha256 of the wheel's RECORD, and each member is
    held to its row there, whichever way it came. Raises BadInput for what differs, FetchFailed with pip's own words.
    """
    try:
        located = locate(requirement, platform=platform, python=None, action=action, hint=hint)
        with remote(located.url) as (file, size):
            if size > LARGE:
                unpacked = unpack(file, f"{requirement} in parts", tree, place, package=package, record=record)
                log.info("%s: %.1f of %.0f MiB fetched", requirement, unpacked / 2**20, size / 2**20)
                return size - unpacked
    except NotInParts as error:
        log.info("%s: fetched whole (%s)", requirement, error)
    with tempfile.TemporaryDirectory(prefix="wheel.", dir=tree.parent) as folder:
        wheel = download(requirement, Path(folder), platform=platform, python=None, action=action, hint=hint)
        extract(wheel, tree, place, package=package, record=record)
    return 0


class NotInParts(Exception):
    """The server does not serve parts of this file, or not to us: it has to be fetched whole, by whoever knows how."""


class _Remote(io.RawIOBase):
    """The bytes at `url`. Raises NotInParts for any answer that is not the part that was asked for."""

    def __init__(self, url: str, client: httpx.Client) -> None:
        self.url, self.client, self.at = url, client, 0
        self.size = self._part("bytes=0-0")[1]

    def _part(self, wanted: str) -> tuple[bytes, int]:
        import httpx  # slow to import, and needed only where something is fetched

        try:
            answer = self.client.get(self.url, headers={"Range": wanted, "Accept-Encoding": "identity"})
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NotInParts(str(error)) from error
        told = re.fullmatch(r"bytes \d+-\d+/(\d+)", answer.headers.get("Content-Range", ""))
        if answer.status_code != httpx.codes.PARTIAL_CONTENT or told is None:
            raise NotInParts(f"the server answered {answer.status_code}")
        return answer.content, int(told[1])

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.size}[whence]
        self.at = max(0, start + offset)
        return self.at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # what BufferedReader hands over
        end = min(self.at + len(buffer), self.size)
        if self.at >= end:
            return 0
        data, _ = self._part(f"bytes={self.at}-{end - 1}")
        if len(data) != end - self.at:
            raise NotInParts(f"{len(data)} bytes came where {end - self.at} were asked for")
        buffer[: len(data)] = data
        self.at = end
        return len(data)


@contextmanager
def remote(url: str) -> Iterator[tuple[BinaryIO, int]]:
    """The file at `url` to be read and sought in, and its size in bytes. Raises NotInParts, now or in any read."""
    import httpx

    with httpx.Client(follow_redirects=True, timeout=SECONDS) as client:
        raw = _Remote(url, client)
        yield cast(BinaryIO, io.BufferedReader(raw, LEAST)), raw.size

"""Read and check the files of an index, which is a web address or a folder."""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit
from urllib.request import url2pathname

import httpx

from build_torchvision.errors import BadInput, FetchFailed, VerificationFailed
from build_torchvision.progress import waiting
from build_torchvision.reading import home_expanded
from build_torchvision.writing import writing

log = logging.getLogger(__name__)
SECONDS = 60.0
REDIRECTS = 5  # one or two are common in front of object stores
CHUNK = 1 << 18  # bytes
MOST_DATA = 64 << 20
"""The largest description (index.json, provenance) that is read, in bytes: about 70,000 wheels."""


@dataclass(frozen=True, kw_only=True)
class Remote:
    """Where an index is: `base` ends in a slash and is an http, https or file address."""

    base: str

    @property
    def open_to_others(self) -> bool:
        """Whether the connection is plain http to another machine, which anyone on the way can change."""
        return _open_to_others(self.base)

    def read(self, address: str, limit: int = MOST_DATA) -> bytes:
        """The bytes at `address`, relative to the index.

        Raises FetchFailed when nothing serves it, BadInput when it is not below the index, leads from https to plain
        http, or has more than `limit` bytes.
        """
        return b"".join(self._chunks(address, limit))

    def read_packed(self, address: str, limit: int = MOST_DATA) -> bytes:
        """`read` of a gzip file, unpacked; `limit` holds for what comes out as well. Raises BadInput for a damaged one.

        A server that unpacks it by itself (Content-Encoding) has done so already.
        """
        data = self.read(address, limit)
        if not data.startswith(b"\x1f\x8b"):
            return data
        action = f"Unpack {urljoin(self.base, address)}"
        unpacker = zlib.decompressobj(wbits=31)
        try:
            text = unpacker.decompress(data, limit + 1)
        except zlib.error as error:
            raise BadInput(action, f"It is damaged ({error}).", _DISTRUST) from error
        if len(text) > limit:
            raise BadInput(action, f"It unpacks to more than {limit} bytes.", _DISTRUST)
        if not unpacker.eof:
            raise BadInput(action, "It ends too early.", _DISTRUST)
        return text

    def fetch(self, address: str, folder: Path, name: str, *, sha256: str, size: int) -> Path:
        """Fetch one file into `folder`.

        Raises VerificationFailed when its bytes are not those that the index lists, CannotWrite for a full disk.
        """
        if Path(name).name != name:
            raise BadInput(f"Fetch {name}", "It is no plain file name.", _DISTRUST)
        action, path = f"Fetch {urljoin(self.base, address)}", folder / name
        digest, arrived = hashlib.sha256(), 0
        hint = "Free some space, or name a larger folder for temporary files: TMPDIR."
        with writing(action, folder, hint=hint), waiting(f"Fetch {name}", path, size), path.open("wb") as file:
            for chunk in self._chunks(address, size + 1, cut=True):
                file.write(chunk)
                digest.update(chunk)
                arrived += len(chunk)
        if arrived != size or digest.hexdigest() != sha256:
            path.unlink()
            got = "more" if arrived > size else f"{arrived} bytes with sha256 {digest.hexdigest()}"
            raise VerificationFailed(
                action,
                f"It is not the file that the index lists: {got}, not {size} bytes with {sha256}. It was changed, or "
                "not copied whole.",
                "Nothing was installed. Make the index again, or ask its maker.",
            )
        return path

    def _chunks(self, address: str, limit: int, *, cut: bool = False) -> Iterator[bytes]:
        """The bytes at `address`; of more than `limit` none beyond it: BadInput, or the end where `cut` is set."""
        url = urljoin(self.base, address)
        action, total = f"Fetch {url}", 0
        if not url.startswith(self.base):
            raise BadInput(action, f"It is not below {self.base}.", _DISTRUST)
        with _open(url, action) as chunks:
            for chunk in chunks:
                total += len(chunk)
                if total > limit:
                    if cut:
                        yield chunk[: len(chunk) - (total - limit)]
                        return
                    raise BadInput(action, f"It has more than {limit} bytes.", _DISTRUST)
                yield chunk


_REMEDY = "Name the address of a site that `build-torchvision index` made, such as http://host/torchvision/."
_DISTRUST = "Do not use this index."


@contextmanager
def _open(url: str, action: str) -> Iterator[Iterator[bytes]]:
    """The bytes at `url`, in pieces. Raises FetchFailed when nothing serves it."""
    if url.startswith("file:"):
        path = Path(url2pathname(urlsplit(url).path))  # which unquotes
        if ".." in path.parts:
            raise BadInput(action, "It leads out of the index.", _DISTRUST)
        try:
            with path.open("rb") as file:
                yield iter(lambda: file.read(CHUNK), b"")
        except OSError as error:
            if error.filename is None or Path(error.filename) != path:
                raise  # the reader's own trouble, such as a full disk
            raise FetchFailed(action, f"{error.strerror}: {path}.", _REMEDY) from error
        return
    try:
        client = httpx.Client(timeout=SECONDS, headers={"Accept-Encoding": "identity"})
        with client, _answer(client, url, action) as answer:
            yield answer.iter_bytes(CHUNK)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise FetchFailed(action, f"{error}", _REMEDY) from error


@contextmanager
def _answer(client: httpx.Client, url: str, action: str) -> Iterator[httpx.Response]:
    """The answer of the server that `url` leads to. A redirect from https to plain http is not followed."""
    for _ in range(REDIRECTS + 1):
        with client.stream("GET", url) as answer:
            if not answer.has_redirect_location or answer.next_request is None:
                answer.raise_for_status()
                yield answer
                return
            target = str(answer.next_request.url)
        if urlsplit(target).scheme not in ("http", "https"):
            raise BadInput(action, f"{url} redirects to {target}, which is no web address.", _DISTRUST)
        if _open_to_others(target) and not _open_to_others(url):
            raise BadInput(
                action,
                f"{url} redirects to {target}, which is plain http: anyone on the way could change what comes.",
                "Name an address that stays with https, or the http address itself together with --trust KEY.",
            )
        log.info("%s redirects to %s", url, target)
        url = target
    raise FetchFailed(action, f"It redirects more than {REDIRECTS} times.", _REMEDY)


def _open_to_others(url: str) -> bool:
    parts = urlsplit(url)
    if parts.scheme != "http":
        return False
    try:
        return not ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return parts.hostname != "localhost"


def remote(place: str) -> Remote:
    """The index at `place`: an address, with or without index.html, or a folder. Raises BadInput for neither."""
    if "://" not in place:
        folder = home_expanded(place).absolute()
        if not folder.is_dir():
            raise BadInput(f"Install from {place}", "There is no such folder, and it is no address.", _REMEDY)
        return Remote(base=folder.as_uri() + "/")
    if urlsplit(place).scheme not in ("http", "https", "file"):
        raise BadInput(f"Install from {place}", "Only http, https and file addresses are read.", _REMEDY)
    base = place.partition("#")[0].removesuffix("index.html").removesuffix("index.json")
    return Remote(base=base if base.endswith("/") else base + "/")

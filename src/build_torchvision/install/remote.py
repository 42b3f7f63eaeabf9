"""An index as `install` sees it: a web address or a folder, from which files are read and checked."""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import url2pathname

import httpx

from build_torchvision.errors import BadInput, FetchFailed, VerificationFailed

SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Remote:
    """Where an index is: `base` ends in a slash and is an http, https or file address."""

    base: str

    @property
    def open_to_others(self) -> bool:
        """Whether somebody on the way could change what comes: plain http, and not from this machine itself."""
        parts = urlsplit(self.base)
        if parts.scheme != "http":
            return False
        try:
            return not ipaddress.ip_address(parts.hostname or "").is_loopback
        except ValueError:
            return parts.hostname != "localhost"

    def read(self, address: str) -> bytes:
        """The bytes at `address`, relative to the index. Raises FetchFailed when nothing serves it."""
        url = urljoin(self.base, address)
        action = f"Fetch {url}"
        if not url.startswith(self.base):
            raise BadInput(action, f"It is not below {self.base}.", "Do not use this index.")
        if url.startswith("file:"):
            path = Path(url2pathname(unquote(urlsplit(url).path)))
            try:
                return path.read_bytes()
            except OSError as error:
                raise FetchFailed(action, f"{error.strerror}: {path}.", _REMEDY) from error
        try:
            answer = httpx.get(url, timeout=SECONDS, follow_redirects=True)
            answer.raise_for_status()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise FetchFailed(action, f"{error}", _REMEDY) from error
        return answer.content

    def fetch(self, address: str, folder: Path, name: str, *, sha256: str, size: int) -> Path:
        """Fetch one file into `folder`. Raises VerificationFailed when its bytes are not those that the index lists."""
        if Path(name).name != name:
            raise BadInput(f"Fetch {name}", "It is no plain file name.", "Do not use this index.")
        data = self.read(address)
        if len(data) != size or hashlib.sha256(data).hexdigest() != sha256:
            raise VerificationFailed(
                f"Fetch {urljoin(self.base, address)}",
                f"It is not the file that the index lists: {len(data)} bytes with sha256 "
                f"{hashlib.sha256(data).hexdigest()}, not {size} with {sha256}. It was changed, or not copied whole.",
                "Nothing was installed. Make the index again, or ask its maker.",
            )
        path = folder / name
        path.write_bytes(data)
        return path


_REMEDY = "Name the address of a site that `build-torchvision index` made, such as http://host/torchvision/."


def remote(place: str) -> Remote:
    """The index at `place`: an address, with or without index.html, or a folder. Raises BadInput for neither."""
    if "://" not in place:
        folder = Path(place).expanduser().absolute()
        if not folder.is_dir():
            raise BadInput(f"Install from {place}", "There is no such folder, and it is no address.", _REMEDY)
        return Remote(base=folder.as_uri() + "/")
    if urlsplit(place).scheme not in ("http", "https", "file"):
        raise BadInput(f"Install from {place}", "Only http, https and file addresses are read.", _REMEDY)
    base = place.partition("#")[0].removesuffix("index.html").removesuffix("index.json")
    return Remote(base=base if base.endswith("/") else base + "/")

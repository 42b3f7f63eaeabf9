"""Read a project's page of the package index that pip is configured with: the files that it lists, and where.

pip itself finds wheels (`registry`). Of a source distribution it would ask the metadata, which runs the project's own
build script in an environment made for it: where only the archive is wanted, its address is read from the page.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from packaging.tags import Tag
from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from build_torchvision.process import run

if TYPE_CHECKING:
    import httpx

SIMPLE_JSON, SIMPLE_HTML = "application/vnd.pypi.simple.v1+json", "text/html;q=0.2"
SECONDS = 60.0


@dataclass(frozen=True)
class IndexFile:
    """A file as an index page lists it."""

    name: str
    url: str
    yanked: bool = False

    @property
    def wheel(self) -> tuple[str, Version, frozenset[Tag]] | None:
        """(project, version, tags) of a wheel; None for anything else."""
        try:
            name, version, _, tags = parse_wheel_filename(self.name)
        except (InvalidWheelFilename, InvalidVersion):
            return None
        return str(name), version, tags

    @property
    def source_version(self) -> Version | None:
        """The version of a source distribution; None for anything else."""
        try:
            return parse_sdist_filename(self.name)[1]
        except (InvalidSdistFilename, InvalidVersion):
            return None


class _Links(HTMLParser):
    """The links of an HTML index page (PEP 503)."""

    def __init__(self, base: str) -> None:
        super().__init__()
        self.base, self.files = base, list[IndexFile]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "a" and found.get("href"):
            url = urldefrag(urljoin(self.base, found["href"] or "")).url
            name = unquote(urlsplit(url).path.rpartition("/")[2])
            self.files.append(IndexFile(name=name, url=url, yanked="data-yanked" in found))


def parse_page(text: str, content_type: str, base: str) -> list[IndexFile]:
    """The files of an index page: JSON (PEP 691) or HTML (PEP 503)."""
    if "json" in content_type:
        return [
            IndexFile(name=row["filename"], url=urljoin(base, row["url"]), yanked=bool(row.get("yanked")))
            for row in json.loads(text)["files"]
        ]
    links = _Links(base)
    links.feed(text)
    return links.files


def read_page(index: str, project: str) -> list[IndexFile]:
    """The files of `project` that are not yanked. Raises httpx.HTTPError or httpx.InvalidURL."""
    import httpx  # slow to import, and needed only where something is fetched

    url = f"{index.rstrip('/')}/{project}/"
    headers = {"Accept": f"{SIMPLE_JSON}, {SIMPLE_HTML}"}
    answer: httpx.Response = httpx.get(url, headers=headers, follow_redirects=True, timeout=SECONDS)
    answer.raise_for_status()
    page = parse_page(answer.text, answer.headers.get("Content-Type", ""), str(answer.url))
    return [one for one in page if not one.yanked]


@cache
def _configured_index() -> str:
    pip = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    told = run(pip, action="Ask pip for its index", check=False)
    if told.returncode == 0 and told.stdout.strip():
        return told.stdout.strip()
    script = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"
    return run([sys.executable, "-c", script], action="Ask pip for its index").stdout.strip()


def default_index() -> str:
    """The index that pip is configured with, or its own default. Raises ProcessFailed where there is no pip."""
    return os.environ.get("PIP_INDEX_URL") or _configured_index()

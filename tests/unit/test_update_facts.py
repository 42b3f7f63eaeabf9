"""The tool that keeps the tables true, against answers of the package registry recorded in November 2026.

registry_answers.json holds index pages cut to a few versions, with the addresses replaced, and of the wheels the parts
that the tool reads: the head of METADATA, names of libraries, version.py.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from packaging.version import Version

from build_torchvision import facts
from build_torchvision.facts import releases
from build_torchvision.facts.codecs import codec_libraries
from build_torchvision.facts.cuda_wheels import cuda_wheels
from build_torchvision.inputs.index_page import SIMPLE_JSON, parse_page

ROOT = Path(__file__).parents[2]
ANSWERS: dict[str, Any] = json.loads((ROOT / "tests/unit/registry_answers.json").read_text(encoding="utf-8"))


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("update_facts", ROOT / "tools" / "update_facts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["update_facts"] = module
    spec.loader.exec_module(module)
    return module


tool = load()


class Recorded(tool.Registry):  # type: ignore[name-defined,misc]  # a module that is loaded by path
    """The registry as it answered when it was recorded."""

    def __init__(self, pages: dict[str, Any] | None = None) -> None:
        super().__init__(index="https://index.invalid/simple")
        self.pages = pages or ANSWERS["pages"]

    def files(self, project: str) -> list[Any]:
        page = json.dumps(self.pages[project])
        return [one for one in parse_page(page, SIMPLE_JSON, "https://index.invalid/") if not one.yanked]

    def members(self, file: Any, wanted: str) -> dict[str, str]:
        found: dict[str, str] = ANSWERS["members"][file.name]
        return {name: text for name, text in found.items() if re.fullmatch(wanted, name)}

    def record_sha256(self, requirement: str, platform: str) -> str:
        return ("ab" if platform == "x86_64" else "cd") * 32


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the tables that the tool may write and the loaders then read."""
    for path in Path(facts.__file__).parent.glob("*.toml"):
        shutil.copy(path, tmp_path)
    monkeypatch.setattr("importlib.resources.files", lambda _package: tmp_path)
    for loader in (releases, cuda_wheels):
        loader.cache_clear()
    yield tmp_path
    for loader in (releases, cuda_wheels):
        loader.cache_clear()


def test_the_rows_say_what_the_registry_says(tables: Path) -> None:
    assert list(tool.release_changes(Recorded(), tables)) == []


@pytest.mark.parametrize("version", ["0.26.0", "0.28.0", "0.29.1", "0.29.2"])
def test_a_release_is_read_from_its_wheels_and_its_torch(version: str) -> None:
    assert tool.read_release(Recorded(), Version(version)) == tool.known_fields(releases()[version])


@pytest.mark.parametrize("version", ["0.29.2", "0.28.0"])
def test_a_release_that_the_table_lacks_is_told_and_written(version: str, tables: Path) -> None:
    before = releases()[version]
    path = tables / "releases.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(rf'\["{version}"\]\n.*?(?=\n\["|\Z)', "", text, flags=re.DOTALL), encoding="utf-8")
    releases.cache_clear()
    assert version not in releases()
    changes = [one for one in tool.release_changes(Recorded(), tables) if one.write]
    (change,) = changes
    assert f"TorchVision {version} is new: torch {before.torch_requirement}, CUDA {before.cuda}" in change.text
    change.write()
    releases.cache_clear()
    after = releases()[version]
    assert tool.known_fields(after) == tool.known_fields(before)
    assert after.sha256 is None
    assert list(tool.release_changes(Recorded(), tables)) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            'torch_requirement = ">=2.14.0"\ncuda = "13.2"',
            'torch_requirement = ">=2.14.0"\ncuda = "13.0"',
            "cuda is '13.0'",
        ),
        ('extensions = ["_C_stable", "image_stable"]', 'extensions = ["_C_stable"]', "extensions is ['_C_stable']"),
        ('pythons = ["311", "312", "313", "314", "314t", "315", "315t"]', 'pythons = ["311"]', "pythons is ['311']"),
        ("any_python = true\n", "", "any_python is None"),
    ],
)
def test_a_row_that_is_not_true_is_told(tables: Path, old: str, new: str, said: str) -> None:
    path = tables / "releases.toml"
    head, mark, tail = path.read_text(encoding="utf-8").partition('["0.29.2"]')
    assert old in tail
    path.write_text(head + mark + tail.replace(old, new, 1), encoding="utf-8")
    releases.cache_clear()
    texts = [one.text for one in tool.release_changes(Recorded(), tables)]
    assert any(text.startswith("releases.toml [0.29.2]: ") and said in text for text in texts)


def test_a_torch_newer_than_the_table_is_told(tables: Path) -> None:
    path = tables / "releases.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.partition('["0.29.2"]')[0], encoding="utf-8")
    releases.cache_clear()
    texts = [one.text for one in tool.release_changes(Recorded(), tables)]
    assert "torch 2.15.0 is new, built with CUDA 13.2; the newest in the table is 2.14.0." in texts


def test_newer_wheels_of_a_toolkit_are_told_and_pinned_with_their_digests(tables: Path) -> None:
    changes = {one.text: one for one in tool.toolkit_changes(Recorded(), tables) if one.write}
    (text,) = changes  # the deliberate cccl of 12.4 is held; 13.2 is up to date
    assert text == "cuda13_0: nvidia-cublas 13.1.0.3 is pinned, cuda-toolkit 13.0.3.0 has 13.1.1.3."
    before = cuda_wheels()
    changes[text].write()
    cuda_wheels.cache_clear()
    after = cuda_wheels()
    (changed,) = [(old, new) for old, new in zip(before["cuda13_0"], after["cuda13_0"], strict=True) if old != new]
    assert changed[1].version == "13.1.1.3"
    assert changed[1].records == {"x86_64": "ab" * 32, "aarch64": "cd" * 32}
    assert {track: pins for track, pins in after.items() if track != "cuda13_0"} == {
        track: pins for track, pins in before.items() if track != "cuda13_0"
    }


def test_a_wheel_that_was_replaced_is_told(tables: Path) -> None:
    texts = [one.text for one in tool.digest_changes(Recorded())]
    assert len(texts) == 2 * sum(len(pins) for pins in cuda_wheels().values())
    assert f"is {'ab' * 32}, pinned " in texts[0]


def test_the_pinned_compilers_are_the_newest_pair(tmp_path: Path) -> None:
    """clang-tidy 23 waits for a ziglang with clang 23."""
    assert list(tool.compiler_changes(Recorded(), ROOT / "pyproject.toml")) == []
    old = tmp_path / "pyproject.toml"
    old.write_text('"clang-tidy==22.1.7"\n"ziglang==0.17.0"\n', encoding="utf-8")
    texts = [one.text for one in tool.compiler_changes(Recorded(), old)]
    assert any(text.startswith("ziglang 0.17.1 is newer than 0.17.0") for text in texts)
    assert any(text.startswith("clang-tidy 22.1.8 is newer than 22.1.7") for text in texts)


def test_html_pages_are_read_as_json_ones_are() -> None:
    found = parse_page(ANSWERS["html"], "text/html", "https://index.invalid/simple/cuda-toolkit/")
    assert {str(one.wheel[1]) for one in found} == {"13.0.2", "13.2.2"}
    assert all("#" not in one.url for one in found)
    yanked = '<a href="../../x/torch-1.0-py3-none-any.whl#sha256=00" data-yanked="broken">torch</a>'
    (one,) = parse_page(yanked, "text/html", "https://index.invalid/simple/torch/")
    assert (one.url, one.yanked) == ("https://index.invalid/x/torch-1.0-py3-none-any.whl", True)


@pytest.mark.parametrize("kind", ["json", "html"])
def test_the_index_is_asked_as_pip_asks_it(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if kind == "json":
            page = json.dumps(ANSWERS["pages"]["cuda-toolkit"])
            return httpx.Response(200, text=page, headers={"Content-Type": SIMPLE_JSON})
        return httpx.Response(200, text=ANSWERS["html"], headers={"Content-Type": "text/html"})

    client = httpx.Client(transport=httpx.MockTransport(answer))
    monkeypatch.setattr(tool.httpx, "get", lambda url, **rest: client.get(url, headers=rest["headers"]))
    registry = tool.Registry("https://index.invalid/simple/")
    assert Version("13.2.2") in registry.versions("cuda-toolkit")
    assert registry.files("cuda-toolkit") == registry.files("cuda-toolkit")
    assert len(asked) == 1
    assert str(asked[0].url) == "https://index.invalid/simple/cuda-toolkit/"
    assert asked[0].headers["Accept"].startswith("application/vnd.pypi.simple.v1+json, text/html")


ASKED = "Vulnerabilities: the database was asked about "
# As OSV.dev documents it (post-v1-query), in two pages, of which the second has an entry without another name.
OSV_PAGES = (
    {
        "vulns": [
            {
                "id": "GHSA-aaaa-bbbb-cccc",
                "summary": "A heap overflow in a decoder",
                "aliases": ["CVE-2026-0001"],
                "affected": [{"ranges": [{"type": "GIT", "events": [{"introduced": "0"}]}], "versions": ["v1.0"]}],
                "schema_version": "1.7.0",
            }
        ],
        "next_page_token": "second",
    },
    {"vulns": [{"id": "OSV-2026-2", "schema_version": "1.7.0"}]},
)


@pytest.fixture
def osv(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The questions that a recorded database is asked: it knows vulnerabilities of libpng alone."""
    asked: list[dict[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        assert (request.method, str(request.url)) == ("POST", tool.OSV)
        query = json.loads(request.content)
        asked.append(query)
        if "libpng" not in query["package"]["name"]:
            return httpx.Response(200, json={})
        return httpx.Response(200, json=OSV_PAGES["page_token" in query])

    client = httpx.Client(transport=httpx.MockTransport(answer))
    monkeypatch.setattr(tool.httpx, "post", lambda url, **rest: client.post(url, json=rest["json"]))
    return asked


def test_vulnerabilities_of_image_libraries_that_their_rows_do_not_list_are_told(osv: list[dict[str, Any]]) -> None:
    libpng, notes = codec_libraries()["libpng"], list[str]()
    texts = [one.text for one in tool.vulnerability_changes(tool.ask_osv, notes)]
    assert texts == [
        f"codecs.toml [libpng]: {name} is published for version {libpng.version}."
        for name in ("CVE-2026-0001", "OSV-2026-2")
    ]
    package = {"name": "https://github.com/pnggroup/libpng.git", "ecosystem": "GIT"}
    assert {"package": package, "version": libpng.version, "page_token": "second"} in osv
    assert len(osv) == len(codec_libraries()) + 1
    assert notes == [ASKED + ", ".join(f"{row.name} {row.version}" for row in codec_libraries().values()) + "."]


def test_a_listed_vulnerability_is_not_told_again(osv: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    rows = dict(codec_libraries())
    rows["libpng"] = replace(rows["libpng"], advisories=("CVE-2026-0001: a heap overflow", "OSV-2026-2: another"))
    monkeypatch.setattr(tool, "codec_libraries", lambda: rows)
    assert list(tool.vulnerability_changes(tool.ask_osv, [])) == []
    assert osv


@pytest.mark.parametrize("failure", ["unreachable", "refused", "no JSON"])
def test_a_database_that_cannot_be_asked_is_told_as_not_checked(failure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if "libjpeg-turbo" in request.content.decode():
            return httpx.Response(200, json={})
        if failure == "unreachable":
            raise httpx.ConnectError("no route")
        return httpx.Response(503 if failure == "refused" else 200, text="<html>")

    client = httpx.Client(transport=httpx.MockTransport(answer))
    monkeypatch.setattr(tool.httpx, "post", lambda url, **rest: client.post(url, json=rest["json"]))
    notes = list[str]()
    assert list(tool.vulnerability_changes(tool.ask_osv, notes)) == []
    first, *others = (f"{row.name} {row.version}" for row in codec_libraries().values())
    assert notes[0] == f"{ASKED}{first}."
    assert notes[1].startswith(f"Vulnerabilities: NOT CHECKED for {', '.join(others)}: the database could not be asked")


def test_the_check_says_that_vulnerabilities_were_not_checked(
    tables: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def unreachable(_url: str, **_: Any) -> httpx.Response:
        raise httpx.ConnectError("no route")

    monkeypatch.setattr(tool, "TABLES", tables)
    monkeypatch.setattr(tool, "Registry", lambda _index: Recorded())
    monkeypatch.setattr(tool.httpx, "post", unreachable)
    tool.main(["--index-url", "https://index.invalid/simple", "--check"])
    said = capsys.readouterr().out
    assert "Vulnerabilities: NOT CHECKED for libjpeg-turbo" in said
    assert ASKED not in said


def test_check_reports_and_writes_nothing(tables: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(tool, "TABLES", tables)
    monkeypatch.setattr(tool, "Registry", lambda _index: Recorded())
    monkeypatch.setattr(tool, "ask_osv", lambda _purl, _version: [])
    before = (tables / "cuda_wheels.toml").read_text(encoding="utf-8")
    main = partial(tool.main, ["--index-url", "https://index.invalid/simple", "--check"])
    assert main() == 1
    said = capsys.readouterr().out
    assert "nvidia-cublas 13.1.0.3 is pinned" in said
    assert re.search(r"\d of \d+ can be written: python tools/update_facts\.py\n$", said)
    assert (tables / "cuda_wheels.toml").read_text(encoding="utf-8") == before
    assert tool.main(["--index-url", "https://index.invalid/simple"]) == 0
    assert (tables / "cuda_wheels.toml").read_text(encoding="utf-8") != before


def test_a_registry_that_cannot_be_read_has_its_own_exit_code(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def get(url: str, **_: Any) -> httpx.Response:
        raise httpx.ConnectError("no route")

    monkeypatch.setattr(tool.httpx, "get", get)
    assert tool.main(["--index-url", "https://index.invalid/simple", "--check"]) == 5
    assert "The registry could not be read: no route" in capsys.readouterr().err

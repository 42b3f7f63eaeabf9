"""Of a large wheel only what a build reads is fetched; what comes, whichever way, is what was pinned."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx
import pytest
from _wheels import record_of, wheel_of

from build_torchvision.errors import BadInput, FetchFailed
from build_torchvision.inputs import parts
from build_torchvision.inputs.registry import RegistryFile, locate

STEM = "nvidia_x-1"
HEADER, LIBRARY = "nvidia/x/include/x.h", "nvidia/x/lib/libx.so"
MEMBERS = {LIBRARY: b"\0" * (4 << 20), HEADER: b"#define X\n"}
PIN = hashlib.sha256(record_of(MEMBERS, STEM).encode()).hexdigest()
Answer = Callable[[httpx.Request], httpx.Response]


def in_parts(data: bytes) -> Answer:
    """A server of `data` that serves parts."""

    def answer(request: httpx.Request) -> httpx.Response:
        first, last = map(int, request.headers["Range"].removeprefix("bytes=").split("-"))
        part = data[first : last + 1]
        told = {"Content-Range": f"bytes {first}-{first + len(part) - 1}/{len(data)}"}
        return httpx.Response(206, headers=told, content=part)

    return answer


class Registry:
    """A registry that answers as `answer` does, with a `whole` wheel for pip, and what was fetched of it."""

    def __init__(self, answer: Answer, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fetched, self.whole, self.downloads = 0, whole, 0

        def counted(request: httpx.Request) -> httpx.Response:
            found = answer(request)
            self.fetched += len(found.content)
            return found

        monkeypatch.setattr(httpx, "Client", partial(httpx.Client, transport=httpx.MockTransport(counted)))
        found = RegistryFile(url="https://registry.invalid/x.whl", sha256=None)
        monkeypatch.setattr(parts, "locate", lambda *_, **__: found)
        monkeypatch.setattr(parts, "download", self.download)
        monkeypatch.setattr(parts, "LARGE", 1 << 20)

    def download(self, requirement: str, folder: Path, **_: object) -> Path:
        self.downloads += 1
        return self.whole.rename(folder / self.whole.name)

    def take(self, tree: Path, record: str = PIN) -> int:
        tree.parent.mkdir()
        return parts.take(
            "nvidia-x==1",
            tree,
            {HEADER: "include/x.h"}.get,
            package="nvidia_x",
            record=record,
            platform="x86_64",
            action="Fetch it",
            hint="Check the network.",
        )


def test_a_header_of_a_large_wheel_is_all_that_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = wheel_of(tmp_path, MEMBERS, STEM)
    there = Registry(in_parts(whole.read_bytes()), whole, monkeypatch)
    saved = there.take(tmp_path / "part" / "tree")
    assert [path.name for path in (tmp_path / "part").rglob("*.*")] == ["x.h"]
    assert (tmp_path / "part" / "tree" / "include" / "x.h").read_bytes() == MEMBERS[HEADER]
    assert there.fetched < 1 << 20 < saved
    assert there.downloads == 0


def test_a_small_wheel_is_left_to_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = wheel_of(tmp_path, MEMBERS, STEM)
    there = Registry(in_parts(whole.read_bytes()), whole, monkeypatch)
    monkeypatch.setattr(parts, "LARGE", 1 << 30)
    assert there.take(tmp_path / "part" / "tree") == 0
    assert there.downloads == 1


def unreachable(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("no route")


def cut_short(data: bytes) -> Answer:
    whole = in_parts(data)

    def answer(request: httpx.Request) -> httpx.Response:
        found = whole(request)
        return (
            httpx.Response(206, headers=found.headers, content=found.content[:-1]) if len(found.content) > 1 else found
        )

    return answer


@pytest.mark.parametrize("case", ["whole", "refused", "unreachable", "short"])
def test_where_parts_are_not_to_be_had_pip_fetches_the_wheel(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = wheel_of(tmp_path, MEMBERS, STEM)
    answers: dict[str, Answer] = {
        "whole": lambda _: httpx.Response(200, content=b"PK"),
        "refused": lambda _: httpx.Response(403),
        "unreachable": unreachable,
        "short": cut_short(whole.read_bytes()),
    }
    there = Registry(answers[case], whole, monkeypatch)
    assert there.take(tmp_path / "part" / "tree") == 0
    assert there.downloads == 1
    assert [path.name for path in (tmp_path / "part").rglob("*.*")] == ["x.h"]


@pytest.mark.parametrize("large", [1 << 20, 1 << 30], ids=["in parts", "whole"])
@pytest.mark.parametrize(
    ("members", "record", "said"),
    [
        (MEMBERS, record_of({**MEMBERS, HEADER: b"#define Y\n"}, STEM), "not the one that is pinned"),
        ({**MEMBERS, HEADER: b"#define Y\n"}, record_of(MEMBERS, STEM), "not what the wheel's RECORD says"),
        (MEMBERS, record_of({LIBRARY: MEMBERS[LIBRARY]}, STEM), "no digest of nvidia/x/include/x.h"),
    ],
)
def test_what_differs_from_the_pin_is_refused(
    members: dict[str, bytes], record: str, said: str, large: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pin is that of the true RECORD; in the last row that of one without the header."""
    pin = hashlib.sha256(record.encode()).hexdigest() if "digest" in said else PIN
    monkeypatch.setattr("_wheels.record_of", lambda *_: record)
    whole = wheel_of(tmp_path, members, STEM)
    there = Registry(in_parts(whole.read_bytes()), whole, monkeypatch)
    monkeypatch.setattr(parts, "LARGE", large)
    with pytest.raises(BadInput, match=said):
        there.take(tmp_path / "part" / "tree", pin)


def test_a_file_is_read_and_sought_in_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytes(range(256)) * 4096
    client = partial(httpx.Client, transport=httpx.MockTransport(in_parts(data)))
    monkeypatch.setattr(httpx, "Client", client)
    with parts.remote("https://registry.invalid/x") as (file, size):
        assert size == len(data)
        for offset, count in ((0, 3), (500_000, 300_000), (len(data) - 5, 99), (len(data), 1), (7, 0)):
            file.seek(offset)
            assert file.read(count) == data[offset : offset + count]
        assert file.seek(-2, 2) == len(data) - 2
        assert file.read() == data[-2:]


def test_what_pip_cannot_find_is_said_in_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(FetchFailed, match=r"No matching distribution|not find a version"):
        locate("nvidia-no-such-thing==1", platform="x86_64", python=None, action="Fetch it", hint="Check the network.")

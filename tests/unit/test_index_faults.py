"""What an index does when something goes wrong: it loses nothing of anyone's, and records nothing that is not so."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from _disks import on_full_disk, on_read_only_disk
from _sealed import sealed
from _wheels import pack
from test_install import into_nothing, machine

from build_torchvision.errors import BadInput, BuildTorchvisionError, CannotWrite, FetchFailed, VerificationFailed
from build_torchvision.inputs.source import fetch_source
from build_torchvision.install.installer import install
from build_torchvision.install.remote import Remote, remote
from build_torchvision.install.select import judge
from build_torchvision.publish import catalogue, exchange
from build_torchvision.publish import site as site_module
from build_torchvision.publish.admission import Wheel, admit, admit_all, find_wheels
from build_torchvision.publish.site import write_site
from build_torchvision.releases import release_named
from build_torchvision.wheel import archive

TOOL = (sys.executable, "-m", "build_torchvision.cli.main")


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults") / "dist"
    for isa in ("avx2", "avx512"):
        sealed(folder, f"torchvision-python313-cpu-{isa}")
    return folder


@pytest.fixture(scope="module")
def wheels(dist: Path) -> list[Wheel]:
    return admit_all(find_wheels([dist]))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- what is replaced -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        '{"mine": 1}',
        '{"schema": 1, "wheels": []}',
        '{"schema": 1, "generator": "another tool 1", "wheels": []}',
        '{"schema": "1", "generator": "build-torchvision 0.1.0", "wheels": []}',
        '{"schema": 1, "generator": "build-torchvision 0.1.0"}',
        "[]",
        "[" * 100_000,
        "not JSON",
    ],
)
def test_a_folder_with_an_index_json_of_somebody_else_is_refused_and_kept(
    text: str, wheels: list[Wheel], tmp_path: Path
) -> None:
    out = tmp_path / "scratch"
    out.mkdir()
    (out / "index.json").write_text(text)
    (out / "letter.txt").write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(BadInput, match="no index of this tool"):
        write_site(wheels, out)
    assert contents(tmp_path) == before


def test_a_site_with_a_file_of_the_users_is_refused_and_names_it(wheels: list[Wheel], tmp_path: Path) -> None:
    write_site(wheels, tmp_path / "site")
    (tmp_path / "site/files/notes").mkdir()
    (tmp_path / "site/files/notes/letter.txt").write_text("mine")
    with pytest.raises(BadInput, match=r"not part of it: files/notes/letter\.txt"):
        write_site(wheels, tmp_path / "site")
    assert (tmp_path / "site/files/notes/letter.txt").read_text() == "mine"


def test_a_site_of_an_earlier_version_is_replaced(wheels: list[Wheel], tmp_path: Path) -> None:
    out = tmp_path / "site"
    write_site(wheels, out)
    data = json.loads((out / "index.json").read_text())
    (out / "index.json").write_text(json.dumps(data | {"schema": 1, "generator": "build-torchvision 0.0.9"}))
    write_site(wheels[:1], out)
    assert len(list(out.glob("files/*.whl"))) == 1


@pytest.mark.parametrize("exchanging", [True, False], ids=["names exchanged", "in two steps"])
def test_an_interruption_at_any_step_leaves_a_whole_site(
    exchanging: bool, wheels: list[Wheel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step that moves something is interrupted once, before and after it is done."""
    if not exchanging:
        monkeypatch.setattr(exchange, "_exchange_names", unsupported)
    out = tmp_path / "site"
    write_site(wheels, out)
    old = contents(out)
    write_site(wheels[:1], tmp_path / "other")
    new = contents(tmp_path / "other")
    assert old != new
    at, steps = 0, [""]
    while len(steps) > at:
        for when in ("before", "after"):
            with monkeypatch.context() as patch:
                steps = interrupt(patch, at, when)
                with contextlib.suppress(KeyboardInterrupt):
                    write_site(wheels[:1], out)
            assert contents(out) in (old, new), f"step {at} interrupted {when} it was done"
            write_site(wheels, out)
            assert contents(out) == old
            assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "site"]
        at += 1
    assert at == len(steps) == (1 if exchanging else 4), steps


def unsupported(part: Path, out: Path) -> None:
    raise OSError(22, "Invalid argument")


def interrupt(patch: pytest.MonkeyPatch, at: int, when: str) -> list[str]:
    """Raise KeyboardInterrupt at the step `at` (from 0) of those that give a folder another name."""
    steps: list[str] = []

    def wrapped(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **keywords: Any) -> Any:
            steps.append(str(arguments))
            if len(steps) - 1 == at and when == "before":
                raise KeyboardInterrupt
            result = real(*arguments, **keywords)
            if len(steps) - 1 == at:
                raise KeyboardInterrupt
            return result

        return step

    for name in ("rename", "replace"):
        patch.setattr(os, name, wrapped(getattr(os, name)))
    patch.setattr(exchange, "_exchange_names", wrapped(exchange._exchange_names))
    return steps


def test_what_a_killed_run_left_aside_is_put_back(
    wheels: list[Wheel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "site"
    write_site(wheels, out)
    before = contents(out)
    out.rename(tmp_path / ".site.old")
    monkeypatch.setattr(site_module, "front_page", stop)
    with pytest.raises(KeyboardInterrupt):
        write_site(wheels[:1], out)
    assert contents(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def stop(*arguments: object, **keywords: object) -> str:
    raise KeyboardInterrupt


def test_a_link_to_a_site_stays_a_link(wheels: list[Wheel], tmp_path: Path) -> None:
    write_site(wheels, tmp_path / "2026-11")
    (tmp_path / "current").symlink_to("2026-11")
    write_site(wheels[:1], tmp_path / "current")
    assert (tmp_path / "current").is_symlink()
    assert len(list(tmp_path.glob("2026-11/files/*.whl"))) == 1


# --- where nothing can be written -------------------------------------------------------------------------------------


def is_three_part_error(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == CannotWrite.exit_code == 6, done.stderr
    assert "Traceback" not in done.stderr
    for part in ("action:", "problem:", "hint:"):
        assert part in done.stderr


def test_index_on_a_full_disk_leaves_nothing(dist: Path, tmp_path: Path) -> None:
    script = '"$@"; code=$?; ls -A . >&2; exit $code'
    at = tmp_path / "disk"
    at.mkdir()
    run = ["sh", "-c", f'cd "{at}" && {script}', "sh", *TOOL, "index", dist, "--out", at / "site"]
    done = on_full_disk(at, "24k", run)
    is_three_part_error(done)
    assert "disk is full" in done.stderr
    assert "site" not in done.stderr.splitlines()[-1], "something half-written was left"


def test_index_on_a_full_disk_keeps_the_site_that_was_there(dist: Path, tmp_path: Path) -> None:
    at = tmp_path / "disk"
    at.mkdir()
    index = " ".join(map(str, TOOL)) + f" index {dist} --out {at}/site"
    sums = f"sha256sum -c --quiet {at}/site/SHA256SUMS"
    fill = f"dd if=/dev/zero of={at}/fill 2>/dev/null"
    script = f"{index} -q >&2 && cd {at}/site && {fill}; {index}; code=$?; {sums} && exit $code"
    done = on_full_disk(at, "2m", ["sh", "-c", script])
    is_three_part_error(done)


def test_index_on_a_read_only_disk_says_so(dist: Path, tmp_path: Path) -> None:
    at = tmp_path / "disk"
    at.mkdir()
    done = on_read_only_disk(at, [*TOOL, "index", dist, "--out", at / "site"])
    is_three_part_error(done)
    assert "read-only" in done.stderr


@pytest.mark.parametrize("at", ["file", "file/site"])
def test_index_where_a_file_stands_says_so_and_keeps_the_file(at: str, dist: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    done = subprocess.run([*TOOL, "index", dist, "--out", tmp_path / at], capture_output=True, text=True, check=False)
    is_three_part_error(done)
    assert (tmp_path / "file").read_text() == "mine"


def an_environment(folder: Path) -> Path:
    """A virtual environment without anything in it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return folder


@pytest.fixture(scope="module")
def site(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index whose one wheel fits this Python and any x86-64 CPU with AVX2."""
    folder = tmp_path_factory.mktemp("site")
    sealed(folder / "dist", f"torchvision-python{sys.version_info.major}{sys.version_info.minor}-cpu-avx2")
    write_site(admit_all(find_wheels([folder / "dist"])), folder / "site")
    return folder / "site"


def test_install_into_a_read_only_environment_says_so(site: Path, tmp_path: Path) -> None:
    env = an_environment(tmp_path / "env")
    done = on_read_only_disk(env, [*TOOL, "install", "--from", site, "--python", env, "--no-deps"])
    is_three_part_error(done)
    assert "read-only" in done.stderr
    assert not list(env.glob("lib/python*/site-packages/torchvision*"))


def test_install_into_an_environment_on_a_full_disk_changes_nothing(site: Path, tmp_path: Path) -> None:
    env = tmp_path / "disk/env"
    packages = f"{env}/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    install = " ".join(map(str, TOOL)) + f" install --from {site} --python {env} --no-deps"
    make = f"{sys.executable} -m venv --without-pip {env}"
    fill = f"dd if=/dev/zero of={tmp_path}/disk/fill 2>/dev/null"
    script = f"{make} && {fill}; {install}; code=$?; ls {packages} >&2; exit $code"
    (tmp_path / "disk").mkdir()
    done = on_full_disk(tmp_path / "disk", "200k", ["sh", "-c", script])
    is_three_part_error(done)
    assert not [line for line in done.stderr.splitlines() if line.startswith("torchvision")]


def test_install_with_a_full_folder_for_temporary_files_says_so(site: Path, tmp_path: Path) -> None:
    env, at = an_environment(tmp_path / "env"), tmp_path / "disk"
    at.mkdir()
    run = ["env", f"TMPDIR={at}", *TOOL, "install", "--from", site, "--python", env, "--no-deps"]
    done = on_full_disk(at, "4k", run)
    is_three_part_error(done)
    assert "TMPDIR" in done.stderr


# --- where the source came from ---------------------------------------------------------------------------------------


def source_tree(folder: Path) -> Path:
    (folder / "torchvision").mkdir(parents=True)
    (folder / "version.txt").write_text("0.21.0\n")
    (folder / "setup.py").write_text("pass\n")
    (folder / "torchvision/__init__.py").write_text("")
    return folder


def test_a_folder_as_source_has_the_digest_of_its_contents(tmp_path: Path) -> None:
    tree = source_tree(tmp_path / "tree")
    found = fetch_source(release_named("0.21.0"), tree)
    assert found.local
    listing = subprocess.run(
        "find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs sha256sum",
        shell=True,
        cwd=tree,
        capture_output=True,
        check=True,
    ).stdout
    assert found.sha256 == hashlib.sha256(listing).hexdigest()
    (tree / ".git").mkdir()
    (tree / ".git/HEAD").write_text("x")
    (tree / "torchvision/__pycache__").mkdir()
    (tree / "torchvision/__pycache__/x.pyc").write_text("x")
    assert fetch_source(release_named("0.21.0"), tree).sha256 == found.sha256
    (tree / "torchvision/__init__.py").write_text("import os\n")
    assert fetch_source(release_named("0.21.0"), tree).sha256 != found.sha256


def with_descriptor(path: Path, scratch: Path, **fields: object) -> Path:
    """The wheel with other fields in its descriptor, and its report bound to it again."""
    from build_torchvision.wheel.assemble import embed_report

    tree = archive.unpack(path, scratch / "tree")
    (at,) = tree.glob("*.dist-info/build_torchvision.json")
    (proof,) = tree.glob("*.dist-info/build_torchvision.proof.json")
    text = proof.read_text()
    at.write_text(json.dumps(json.loads(at.read_text()) | fields))
    return embed_report(archive.read(pack(tree, path)), text, path)


def test_a_wheel_of_local_source_never_bears_the_releases_name(tmp_path: Path) -> None:
    digest = "5" * 64
    path = with_descriptor(
        sealed(tmp_path / "dist"), tmp_path, source={"version": "0.21.0", "sha256": digest, "origin": "local"}
    )
    (row,) = write_site([admit(path)], tmp_path / "site")
    statement = (tmp_path / "site" / unquote(row.provenance)).read_text()
    bill = (tmp_path / "site" / unquote(row.sbom)).read_text()
    for text in (statement, bill):
        assert "github.com/pytorch/vision" not in text
        assert digest in text
        assert "local" in text
    source = json.loads(statement)["predicate"]["buildDefinition"]["resolvedDependencies"][0]
    assert source["digest"] == {"treeSha256": digest}


@pytest.mark.parametrize("digest", [None, "", "None", "abc", 7])
def test_a_wheel_without_a_digest_of_its_source_is_refused(digest: object, tmp_path: Path) -> None:
    path = with_descriptor(
        sealed(tmp_path / "dist"), tmp_path, source={"version": "0.21.0", "sha256": digest, "origin": "archive"}
    )
    with pytest.raises(VerificationFailed, match=r"\$\.source\.sha256"):
        admit(path)


# --- what comes over the network --------------------------------------------------------------------------------------


class Web:
    """Answers httpx without a network."""

    def __init__(self, patch: pytest.MonkeyPatch, answer: Callable[[httpx.Request], httpx.Response]) -> None:
        self.asked: list[str] = []

        def handle(transport: object, request: httpx.Request) -> httpx.Response:
            self.asked.append(str(request.url))
            return answer(request)

        patch.setattr(httpx.HTTPTransport, "handle_request", handle)


def moved(to: str) -> httpx.Response:
    return httpx.Response(302, headers={"Location": to})


def test_a_redirect_from_https_to_plain_http_is_refused_before_it_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    web = Web(monkeypatch, lambda request: moved("http://host/") if request.url.scheme == "https" else page(b"x"))
    with pytest.raises(BadInput, match="plain http"):
        remote("https://host/a/").read("index.json")
    assert web.asked == ["https://host/a/index.json"]


def page(data: bytes) -> httpx.Response:
    return httpx.Response(200, stream=httpx.ByteStream(data))


def test_a_redirect_that_stays_with_https_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    Web(monkeypatch, lambda request: moved("https://store/x") if request.url.host == "host" else page(b"found"))
    assert remote("https://host/a/").read("index.json") == b"found"


def test_a_circle_of_redirects_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    web = Web(monkeypatch, lambda request: moved(str(request.url)))
    with pytest.raises(FetchFailed):
        remote("https://host/a/").read("index.json")
    assert len(web.asked) < 30


class Endless(httpx.SyncByteStream):
    """An answer that does not end; it counts what was taken."""

    def __init__(self) -> None:
        self.sent = 0

    def __iter__(self) -> Any:
        while self.sent < 1 << 30:
            self.sent += 1 << 20
            yield bytes(1 << 20)
        raise AssertionError("a gigabyte was read")


def test_no_more_is_read_than_an_index_can_have(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    endless = Endless()
    Web(monkeypatch, lambda request: httpx.Response(200, stream=endless))
    with pytest.raises(BadInput, match="more than"):
        remote("https://host/").read("index.json", 3 << 20)
    assert endless.sent <= 5 << 20
    endless.sent = 0
    with pytest.raises(VerificationFailed, match="not the file that the index lists"):
        remote("https://host/").fetch("files/x.whl", tmp_path, "x.whl", sha256="0" * 64, size=100)
    assert endless.sent <= 2 << 20
    assert not list(tmp_path.iterdir())


def test_a_packed_index_that_swells_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = catalogue.pack(" " * (8 << 20))
    Web(monkeypatch, lambda request: page(bomb))
    assert len(remote("https://host/").read_packed("index.json.gz")) == 8 << 20
    with pytest.raises(BadInput, match="unpacks to more"):
        remote("https://host/").read_packed("index.json.gz", 1 << 20)
    for broken in (bomb[:-9], bomb[:50] + b"\xff" * 50 + bomb[100:]):
        Web(monkeypatch, lambda request, data=broken: page(data))  # type: ignore[misc]
        with pytest.raises(BadInput):
            remote("https://host/").read_packed("index.json.gz")


def test_a_folders_name_is_unquoted_once(tmp_path: Path, wheels: list[Wheel]) -> None:
    """A folder called "a%20b" is not the folder "a b"."""
    for name in ("a%20b", "a b", "50% off", "a#b", "a?b"):
        write_site(wheels[:1], tmp_path / name / "site")
        (row,) = catalogue.load(remote(str(tmp_path / name / "site")).read("index.json").decode(), name)
        assert remote(str(tmp_path / name / "site")).read(row.url) == wheels[0].path.read_bytes()
    with pytest.raises(BadInput):
        remote(str(tmp_path / "a b/site")).read("%2e%2e/%2e%2e/secret")


# --- damaged and hostile ----------------------------------------------------------------------------------------------


def hostile_rows(row: dict[str, Any]) -> list[object]:
    changed = [row | {key: value} for key in row for value in (None, 7, [], {}, "\0", "../x", True)]
    return [*changed, {}, [], None, "x", 7, {"variant": row["variant"]}]


def test_no_index_json_is_a_traceback(wheels: list[Wheel], tmp_path: Path) -> None:
    (first,) = write_site(wheels[:1], tmp_path / "site")
    data = json.loads((tmp_path / "site/index.json").read_text())
    texts = [json.dumps(data | {"wheels": [row]}) for row in hostile_rows(data["wheels"][0])]
    texts += [json.dumps(data | {"wheels": value}) for value in (None, 7, {}, "x")]
    texts += ["[" * 200_000, '{"schema":1,"wheels":' + "[" * 200_000, "\0", "{}", '{"schema": [], "wheels": []}']
    for text in texts:
        try:
            rows = catalogue.load(text, "x")
            judge(machine("haswell"), rows)
            for row in rows:
                if row != first:
                    install(Remote(base=f"file://{tmp_path}/site/"), row, into_nothing())
        except BuildTorchvisionError:
            continue


MUTANTS = 120


def mutants(data: bytes) -> list[bytes]:
    """The wheel `data` with flipped bytes, cut short, and with pieces of it swapped; the same ones every time."""
    random.seed(2026)
    found = []
    for number in range(MUTANTS):
        broken = bytearray(data)
        if number % 3 == 0:
            for _ in range(random.choice((1, 8, 64))):
                broken[random.randrange(len(broken))] ^= 1 << random.randrange(8)
        elif number % 3 == 1:
            del broken[random.randrange(len(broken)) :]
        else:
            start, length = random.randrange(len(broken)), random.randrange(1, 4096)
            broken[start : start + length] = reversed(broken[start : start + length])
        found.append(bytes(broken))
    return found


def test_no_damaged_wheel_enters_and_none_is_a_traceback(dist: Path, tmp_path: Path) -> None:
    source = sorted(dist.glob("*.whl"))[0]
    data = source.read_bytes()
    for broken in mutants(data):
        path = tmp_path / source.name
        path.write_bytes(broken)
        if broken == data:
            continue
        try:
            wheel = admit(path)
        except BuildTorchvisionError:
            continue
        with_same_members = Path(tmp_path / "same" / source.name)
        with_same_members.parent.mkdir(exist_ok=True)
        with_same_members.write_bytes(data)
        whole = admit(with_same_members)
        assert (wheel.metadata, wheel.descriptor, wheel.bundled) == (whole.metadata, whole.descriptor, whole.bundled)


@pytest.mark.parametrize(
    "fields",
    [
        {"isa_flags": 7},
        {"isa_flags": [7]},
        {"cuda": {"gencode": {"a": 1}}},
        {"codecs": ["x"]},
        {"compiler": ["clang"]},
        {"torch": None},
        {"torch": 2.6},
        {"codecs": 3},
    ],
    ids=json.dumps,
)
def test_a_descriptor_of_other_shapes_is_refused(fields: dict[str, object], tmp_path: Path) -> None:
    path = with_descriptor(sealed(tmp_path / "dist"), tmp_path, **fields)
    with pytest.raises(BuildTorchvisionError):
        write_site([admit(path)], tmp_path / "site")


def test_verify_static_needs_no_network(dist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its torch cannot be had: what needs it is left out, and the report says so."""
    from build_torchvision.verify import session

    def offline(*arguments: object, **keywords: object) -> None:
        raise FetchFailed("Fetch torch", "There is no network.", "Check it.")

    monkeypatch.setattr(session, "torch_sdk", offline)
    wheel = sorted(dist.glob("*.whl"))[0]
    report = session.verify_wheel(wheel, options=session.VerifyOptions(static_only=True))
    assert report.ok
    assert "Symbols were not resolved" in " ".join(check.detail for check in report.checks)
    with pytest.raises(FetchFailed):
        session.verify_wheel(wheel, options=session.VerifyOptions(static_only=True, torch="2.6.0"))

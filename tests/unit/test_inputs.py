"""Inputs are whole or absent, and an error names what happened and what to type next. No network, no compiler."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import logging
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from _wheels import record_of

from build_torchvision.errors import BadInput, CannotWrite, FetchFailed, MissingInput, ProcessFailed
from build_torchvision.facts import Release, releases
from build_torchvision.inputs import apt, codecs, compiler, parts, registry, source, torch_sdk
from build_torchvision.inputs.cache import cache_dir, publish
from build_torchvision.inputs.origins import OriginFailed
from build_torchvision.inputs.registry import RegistryFile
from build_torchvision.releases import TorchBuild, unlisted_release

VERSION = "0.21.0"
Answer = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("BUILD_TORCHVISION_CACHE", str(folder))
    return folder


def entries(folder: Path) -> list[str]:
    """What a cache folder holds, its lock files aside."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


# --- the cache -------------------------------------------------------------------------------------------------------


def test_the_environment_chooses_the_cache(cache: Path) -> None:
    assert cache_dir() == cache


def test_a_filled_entry_is_filled_once(tmp_path: Path) -> None:
    dest, calls = tmp_path / "c" / "entry", []

    def fill(part: Path) -> None:
        calls.append(part)
        part.write_text("whole", encoding="utf-8")

    assert publish(dest, fill) == dest
    assert publish(dest, fill).read_text() == "whole"
    assert len(calls) == 1
    assert entries(dest.parent) == ["entry"]


def test_two_publishes_at_once_fill_once(tmp_path: Path) -> None:
    dest, calls = tmp_path / "c" / "entry", []
    together = threading.Barrier(2)

    def fill(part: Path) -> None:
        calls.append(part)
        part.mkdir()
        time.sleep(0.3)
        (part / "file").write_text("whole")

    def one() -> None:
        together.wait()
        publish(dest, fill)

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert (dest / "file").read_text() == "whole"


@pytest.mark.parametrize("failure", [RuntimeError("network"), KeyboardInterrupt()])
def test_a_failed_fill_leaves_nothing(tmp_path: Path, failure: BaseException) -> None:
    dest = tmp_path / "c" / "entry"

    def fill(part: Path) -> None:
        part.mkdir()
        (part / "half").write_text("ha")
        part.with_name(part.name + ".FAILED").write_text("what a downloader leaves")
        raise failure

    with pytest.raises(type(failure)):
        publish(dest, fill)
    assert entries(dest.parent) == []


def test_a_killed_fill_publishes_nothing_and_the_next_sweeps_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dest = tmp_path / "c" / "entry"
    script = (
        "import sys, time; from pathlib import Path; from build_torchvision.inputs.cache import publish\n"
        "def fill(part):\n    part.mkdir(); (part / 'half').write_text('ha'); print('filling', flush=True)\n"
        "    time.sleep(60)\n"
        "publish(Path(sys.argv[1]), fill)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, dest], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "filling\n"
        child.send_signal(signal.SIGKILL)
    assert not dest.exists()
    assert any(name.endswith(".part") for name in entries(dest.parent)), "the kill must have come in mid-fill"
    with caplog.at_level(logging.WARNING):
        publish(dest, lambda part: part.write_text("whole") and None)
    assert entries(dest.parent) == ["entry"]
    assert "interrupted" in caplog.text


def test_a_full_disk_leaves_nothing_and_says_so(tmp_path: Path) -> None:
    dest = tmp_path / "c" / "entry"

    def fill(part: Path) -> None:
        part.write_text("ha", encoding="utf-8")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(CannotWrite, match=r"disk is full.*BUILD_TORCHVISION_CACHE"):
        publish(dest, fill)
    assert entries(dest.parent) == []


def test_other_system_errors_are_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    def fill(part: Path) -> None:
        raise PermissionError(errno.EACCES, "no", "/root/somebody-elses-file")

    with pytest.raises(PermissionError):
        publish(tmp_path / "c" / "entry", fill)


def test_a_cache_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("", encoding="utf-8")
    with pytest.raises(CannotWrite, match=r"a file.*BUILD_TORCHVISION_CACHE"):
        publish(tmp_path / "c" / "entry", lambda part: None)
    assert (tmp_path / "c").read_text(encoding="utf-8") == ""


def test_a_faulty_entry_is_filled_again_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dest = tmp_path / "entry"
    dest.write_text("tampered")
    with caplog.at_level(logging.WARNING):
        publish(
            dest,
            lambda part: part.write_text("whole") and None,
            lambda path: None if path.read_text() == "whole" else "its text is wrong",
        )
    assert dest.read_text() == "whole"
    assert "its text is wrong" in caplog.text


# --- the source ------------------------------------------------------------------------------------------------------


def tarball_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for member, data in members:
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.fixture
def tarball() -> bytes:
    filler = os.urandom(20000)  # does not compress, so that half of the file is half of the tree
    return tarball_of(
        (member("vision-0.21.0/version.txt"), b"0.21.0\n"),
        (member("vision-0.21.0/setup.py"), b"# setup\n"),
        (member("vision-0.21.0/filler"), filler),
    )


@pytest.fixture
def release(tarball: bytes) -> Release:
    return replace(releases()[VERSION], sha256=hashlib.sha256(tarball).hexdigest())


@pytest.fixture
def origins(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Stand in for the network: each origin gets the bytes it serves, or None to be unreachable."""

    def set_up(github: bytes | None, apt: bytes | None) -> list[str]:
        asked: list[str] = []

        def serve(name: str, data: bytes | None) -> Callable[[Release, str, Path], str]:
            def fetch(release: Release, pinned: str, part: Path) -> str:
                asked.append(name)
                if data is None:
                    raise OriginFailed("connection refused")
                part.write_bytes(data)
                return name

            return fetch

        monkeypatch.setattr(source, "_from_github", serve("github", github))
        monkeypatch.setattr(source, "_from_apt", serve("apt", apt))
        return asked

    return set_up


def test_source_comes_from_github_and_then_from_the_cache(
    release: Release, tarball: bytes, origins: Callable[..., list[str]]
) -> None:
    asked = origins(tarball, None)
    first = source.fetch_source(release)
    assert (first.root / "setup.py").read_text() == "# setup\n"
    assert (first.version, first.origin, first.sha256) == (VERSION, "github", release.sha256)
    assert source.fetch_source(release) == first
    assert asked == ["github"]


@pytest.mark.parametrize("damage", ["unreachable", "truncated", "tampered"])
def test_what_github_cannot_serve_the_apt_mirror_does(
    damage: str,
    release: Release,
    tarball: bytes,
    origins: Callable[..., list[str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    served = {
        "unreachable": None,
        "truncated": tarball[: len(tarball) // 2],
        "tampered": tarball[:-1] + bytes([tarball[-1] ^ 1]),
    }[damage]
    asked = origins(served, tarball)
    with caplog.at_level(logging.WARNING):
        found = source.fetch_source(release)
    assert found.origin == "apt"
    assert asked == ["github", "apt"]
    assert ("connection refused" if served is None else hashlib.sha256(served).hexdigest()) in caplog.text


def test_nothing_is_kept_when_every_origin_fails(
    release: Release, tarball: bytes, origins: Callable[..., list[str]], cache: Path
) -> None:
    origins(tarball[:100], None)
    with pytest.raises(FetchFailed, match=r"100 bytes.*connection refused.*--source"):
        source.fetch_source(release)
    assert entries(cache / "source") == []
    origins(tarball, None)
    assert source.fetch_source(release).origin == "github"


def test_a_full_disk_is_not_taken_for_a_failed_origin(
    release: Release, monkeypatch: pytest.MonkeyPatch, cache: Path, origins: Callable[..., list[str]]
) -> None:
    asked = origins(None, None)

    def full(release: Release, pinned: str, part: Path) -> str:
        part.write_bytes(b"ha")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(source, "_from_github", full)
    with pytest.raises(CannotWrite, match="disk is full"):
        source.fetch_source(release)
    assert asked == []
    assert entries(cache / "source") == []


def test_a_cached_tarball_that_was_cut_is_fetched_again(
    release: Release, tarball: bytes, origins: Callable[..., list[str]], cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked = origins(tarball, None)
    source.fetch_source(release)
    kept = cache / "source" / "torchvision-0.21.0.tar.gz"
    kept.write_bytes(tarball[:-10])
    with caplog.at_level(logging.WARNING):
        source.fetch_source(release)
    assert asked == ["github", "github"]
    assert kept.read_bytes() == tarball
    assert f"not {release.sha256}" in caplog.text


@pytest.mark.parametrize("tamper", [lambda path: path.write_text("import evil\n"), lambda path: path.unlink()])
def test_a_cached_tree_that_was_changed_is_unpacked_again(
    tamper: Callable[[Path], object],
    release: Release,
    tarball: bytes,
    origins: Callable[..., list[str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked = origins(tarball, None)
    tamper(source.fetch_source(release).root / "setup.py")
    with caplog.at_level(logging.WARNING):
        again = source.fetch_source(release)
    assert (again.root / "setup.py").read_text() == "# setup\n"
    assert asked == ["github"]
    assert "setup.py" in caplog.text


def test_a_given_tarball_is_checked_too(release: Release, tarball: bytes, tmp_path: Path, cache: Path) -> None:
    good, cut = tmp_path / "good.tar.gz", tmp_path / "cut.tar.gz"
    good.write_bytes(tarball)
    cut.write_bytes(tarball[:-10])
    assert (source.fetch_source(release, good).root / "version.txt").exists()
    before = entries(cache / "source")
    with pytest.raises(BadInput, match=r"truncated, altered"):
        source.fetch_source(release, cut)
    assert entries(cache / "source") == before


def test_an_unpinned_tarball_that_was_cut_leaves_nothing(
    release: Release, tarball: bytes, tmp_path: Path, cache: Path
) -> None:
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(tarball[: len(tarball) // 2])
    with pytest.raises(BadInput, match="cannot be read to its end"):
        source.fetch_source(replace(release, sha256=None), cut)
    assert entries(cache / "source") == []


def test_an_unpinned_release_is_not_downloaded(release: Release, origins: Callable[..., list[str]]) -> None:
    asked = origins(b"", b"")
    with pytest.raises(BadInput, match=r"No sha256 is pinned.*--source"):
        source.fetch_source(replace(release, sha256=None))
    assert asked == []


def test_a_given_folder_must_be_that_release(release: Release, tmp_path: Path) -> None:
    (tmp_path / "version.txt").write_text("0.21.0a0\n")
    assert source.fetch_source(release, tmp_path).root == tmp_path.resolve()
    (tmp_path / "version.txt").write_text("0.22.0\n")
    with pytest.raises(BadInput, match=r"0\.22\.0"):
        source.fetch_source(release, tmp_path)


UNSAFE = {
    "parent": member("vision/../../escaped"),
    "absolute": member("/tmp/escaped"),
    "symlink out": member("vision/link", tarfile.SYMTYPE, "../../escaped"),
    "absolute symlink": member("vision/link", tarfile.SYMTYPE, "/etc/passwd"),
    "hard link out": member("vision/link", tarfile.LNKTYPE, "../escaped"),
    "device": member("vision/null", tarfile.CHRTYPE),
}


@pytest.mark.parametrize("filtered", [True, False], ids=["with tarfile's filter", "without"])
@pytest.mark.parametrize("kind", UNSAFE)
def test_an_unsafe_member_is_refused_and_nothing_unpacked(
    kind: str, filtered: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not filtered:
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    packed = tmp_path / "bad.tar.gz"
    packed.write_bytes(tarball_of((member("vision/version.txt"), b"0.21.0\n"), (UNSAFE[kind], b"")))
    holder = tmp_path / "holder"
    holder.mkdir()
    with pytest.raises(BadInput, match="nothing was unpacked"):
        source.unpack(packed, holder / "tree")
    assert list(holder.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.tar.gz", "holder"]


def test_a_link_inside_the_tree_is_kept(tmp_path: Path) -> None:
    packed = tmp_path / "good.tar.gz"
    link = member("vision/docs/link", tarfile.SYMTYPE, "../version.txt")
    packed.write_bytes(tarball_of((member("vision/version.txt"), b"0.21.0\n"), (link, b"")))
    source.unpack(packed, tmp_path / "tree")
    assert (tmp_path / "tree" / "docs" / "link").read_text() == "0.21.0\n"


def test_the_apt_mirror_is_read_from_apts_own_configuration() -> None:
    listed = (
        "http://one.example/debian-security/|bookworm-security|\n"
        "http://third.example/apt/|bookworm|\n"
        "http://two.example/debian/|bookworm-updates|/keys/a.gpg\n"
        "http://two.example/debian/|bookworm|/keys/a.gpg\n"
    )
    found = apt.apt_archives(listed, {"ID": "debian", "VERSION_CODENAME": "bookworm"})
    assert [(archive.uri, archive.suite) for archive in found] == [
        ("http://two.example/debian/", "trixie"),
        ("http://two.example/debian/", "forky"),
        ("http://two.example/debian/", "sid"),
        ("http://two.example/debian/", "experimental"),
        ("http://two.example/debian/", "bookworm"),
    ]
    assert apt.apt_archives("", {"ID": "debian", "VERSION_CODENAME": "bookworm"}) == []


def test_on_ubuntu_its_own_suite_is_asked() -> None:
    listed = "http://one.example/ubuntu/|noble-updates|\nhttp://one.example/ubuntu/|noble|/keys/u.gpg\n"
    found = apt.apt_archives(listed, {"ID": "ubuntu", "VERSION_CODENAME": "noble"})
    assert [str(archive) for archive in found] == [
        "deb-src [signed-by=/keys/u.gpg] http://one.example/ubuntu/ noble main universe"
    ]


SHOWSRC = """\
Package: pytorch-vision
Binary: python3-torchvision
Version: 0.21.0-3
Checksums-Sha256:
 11111111111111111111111111111111111111111111111111111111111111ab 2829 pytorch-vision_0.21.0-3.dsc
 0a4a967bbb7f9810f792cd0289a07fb98c8fb5d1303fae8b63e3a6b05d720058 14270456 pytorch-vision_0.21.0.orig.tar.gz
 33333333333333333333333333333333333333333333333333333333333333ab 5104 pytorch-vision_0.21.0-3.debian.tar.xz

Package: pytorch-vision
Version: 0.29.1-1~exp1
Checksums-Sha256:
 0a14655bd32095148d93fa595f93aba45dda0d13b25cc7fe86a041340e4a4862 14270456 pytorch-vision_0.29.1.orig.tar.gz

Package: pytorch-vision
Version: 9-1
Checksums-Sha256:
 33333333333333333333333333333333333333333333333333333333333333ab 5104 pytorch-vision_9-1.debian.tar.xz
"""


def test_the_versions_of_a_source_package_are_read_with_their_digests() -> None:
    found = apt.parse_showsrc(SHOWSRC, "pytorch-vision")
    assert [(one.upstream, one.version) for one in found] == [("0.21.0", "0.21.0-3"), ("0.29.1", "0.29.1-1~exp1")]
    assert all(one.sha256 == releases()[one.upstream].sha256 for one in found)
    assert apt.parse_showsrc("", "pytorch-vision") == []


def offering(monkeypatch: pytest.MonkeyPatch, answer: Answer, mirror: Mapping[str, bytes]) -> list[str]:
    """Let GitHub give `answer`, and the apt mirror have the tarballs `mirror`; returns who was asked, in turn."""
    asked: list[str] = []

    def head(url: str, **options: Any) -> httpx.Response:
        asked.append("github")
        options.pop("timeout")
        with httpx.Client(transport=httpx.MockTransport(answer)) as client:
            return client.head(url, **options)

    def from_apt(release: Release, pinned: str, part: Path) -> str:
        asked.append(f"apt {release.torchvision}")
        if release.torchvision not in mirror:
            raise OriginFailed("404  Not Found")
        part.write_bytes(mirror[release.torchvision])
        return "apt"

    monkeypatch.setattr(httpx, "head", head)
    monkeypatch.setattr(source, "_from_apt", from_apt)
    return asked


def no_route(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("no route")


def test_where_github_answers_every_pinned_release_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = offering(monkeypatch, lambda _: httpx.Response(200), {})
    there = source.SourceAvailability()
    assert [row.torchvision for row in releases().values() if not there(row)] == ["0.29.2"]
    assert asked == ["github"]


@pytest.mark.parametrize("answer", [no_route, lambda _: httpx.Response(403)], ids=["unreachable", "refused"])
def test_without_github_it_is_what_the_mirror_has_byte_for_byte(
    answer: Answer, release: Release, tarball: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = replace(release, torchvision="0.29.1")
    asked = offering(monkeypatch, answer, {"0.21.0": tarball, "0.27.0": tarball[:-1]})
    there = source.SourceAvailability()
    for _ in range(2):
        assert there.problem(release) is None
        assert "GitHub: " in str(there.problem(later))
        assert "the apt mirror: 404  Not Found" in str(there.problem(later))
        assert "apt served sha256" in str(there.problem(replace(release, torchvision="0.27.0")))
    assert asked == ["github", "apt 0.21.0", "apt 0.29.1", "apt 0.27.0"]
    assert source.fetch_source(release).origin == "apt"
    again = source.SourceAvailability()
    assert "the apt mirror: 404  Not Found" in str(again.problem(later))
    assert asked[4:] == ["github"]  # what the mirror lacked is remembered for a while, and only for a while
    monkeypatch.setattr(source, "FRESH_SECONDS", 0.0)
    assert "the apt mirror: 404  Not Found" in str(source.SourceAvailability().problem(later))
    assert asked[5:] == ["github", "apt 0.29.1"]


def test_what_is_in_the_cache_can_be_had_and_nobody_is_asked(
    release: Release, tarball: bytes, origins: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    origins(tarball, None)
    source.fetch_source(release)
    asked = offering(monkeypatch, no_route, {})
    assert source.SourceAvailability()(release)
    assert asked == []


def test_the_version_of_a_source_is_read_without_unpacking_it(tarball: bytes, tmp_path: Path) -> None:
    (tmp_path / "s.tar.gz").write_bytes(tarball)
    assert source.source_version(tmp_path / "s.tar.gz") == "0.21.0"
    tree = tmp_path / "tree"
    tree.mkdir()
    with pytest.raises(BadInput, match=r"no readable version\.txt"):
        source.source_version(tree)
    (tree / "version.txt").write_text("0.30.0a0+git12\n")
    assert source.source_version(tree) == "0.30.0a0"
    with pytest.raises(BadInput, match="no such file"):
        source.source_version(tmp_path / "gone")
    (tmp_path / "s.tar.gz").write_bytes(tarball[:40])
    with pytest.raises(BadInput, match=r"no readable version\.txt"):
        source.source_version(tmp_path / "s.tar.gz")


def test_an_unlisted_source_is_taken_as_the_version_that_it_says(tmp_path: Path) -> None:
    (tmp_path / "version.txt").write_text("0.30.0a0\n")
    unlisted = unlisted_release("0.30.0a0", TorchBuild.parse("2.15.0"))
    assert source.fetch_source(unlisted, tmp_path).version == "0.30.0a0"
    with pytest.raises(BadInput, match=r"version\.txt says 0\.30\.0a0"):
        source.fetch_source(unlisted_release("0.30.0a1", TorchBuild.parse("2.15.0")), tmp_path)


def test_a_release_without_a_pinned_source_says_what_to_name_or_to_take_instead() -> None:
    with pytest.raises(BadInput, match=r"No sha256 is pinned.*--source DIR.*--torchvision 0\.29\.1"):
        source.fetch_source(releases()["0.29.2"])


def test_a_suite_that_cannot_be_read_stops_a_strict_apt_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "bin", "apt-get", "echo 'E: The repository is not signed.' >&2; exit 100")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    archive = apt.AptArchive(uri="http://m.example/debian", suite="sid", components="main", signed_by=None)
    with pytest.raises(ProcessFailed, match="not signed"), apt.private_apt([archive], "Ask"):
        pass
    with apt.private_apt([archive], "Ask", partly=True) as asked:
        assert any("Check-Valid-Until=false" in option for option in asked.options)
    binary = replace(archive, kind="deb")
    with apt.private_apt([binary, archive], "Ask", partly=True) as asked:
        assert not any("Check-Valid-Until" in option for option in asked.options)


def test_only_the_original_tarball_of_that_version_is_taken() -> None:
    digest = "ab" * 32
    printed = (
        "Reading package lists...\n"
        "'http://m.example/p_0.21.0-3.dsc' pytorch-vision_0.21.0-3.dsc 2829 SHA256:cd\n"
        f"'http://m.example/p_0.21.0.orig.tar.gz' pytorch-vision_0.21.0.orig.tar.gz 15 SHA256:{digest}\n"
        "'http://m.example/p.debian.tar.xz' pytorch-vision_0.21.0-3.debian.tar.xz 5104 SHA256:ef\n"
    )
    found = source.orig_tarball(printed, "pytorch-vision", "0.21.0")
    assert found == ("http://m.example/p_0.21.0.orig.tar.gz", digest)
    assert source.orig_tarball(printed, "pytorch-vision", "0.22.1") is None


# --- torch -----------------------------------------------------------------------------------------------------------

OLD_ABI = b"\0_ZN3c105ErrorC2ENS_14SourceLocationESs\0"
NEW_ABI = b"\0_ZN3c105ErrorC2ENS_14SourceLocationENSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE\0"
CONFIG_0 = 'set(TORCH_CXX_FLAGS "-D_GLIBCXX_USE_CXX11_ABI=0")\n'
VERSION_PY = (
    "from typing import Optional\n__version__ = '2.6.0+cu124'\ndebug = False\n"
    "cuda: Optional[str] = '12.4'\nhip: Optional[str] = None\n"
    "raise SystemExit('torch must never be run')\n"
)


def torch_wheel(
    folder: Path,
    version_py: str = VERSION_PY,
    config: str = CONFIG_0,
    libc10: bytes = OLD_ABI,
    alter: str = "",
    name: str = "torch-2.6.0+cu124-cp313-cp313-manylinux1_x86_64.whl",
) -> Path:
    """A torch wheel with the real one's names and nothing much in the files; `alter` spoils one file after RECORD."""
    files = {
        "torch/__init__.py": b"raise SystemExit('torch must never be imported')\n",
        "torch/version.py": version_py.encode(),
        "torch/include/ATen/ATen.h": b"#pragma once\n",
        "torch/include/torch/csrc/api/include/torch/torch.h": b"#pragma once\n",
        "torch/share/cmake/Torch/TorchConfig.cmake": config.encode(),
        "torch/lib/libc10.so": libc10,
        "torch/lib/libtorch.so": b"elf",
        "torch/lib/libtorch_cpu.so": b"elf",
        "torch/lib/libc10_cuda.so": b"elf",
        "torch/lib/libtorch_cuda.so": b"elf",
        "torch/lib/libtorch_python.so": b"elf",
        "torch-2.6.0+cu124.dist-info/METADATA": b"Name: torch\n",
    }
    record = record_of(files, "torch-2.6.0+cu124")
    folder.mkdir(exist_ok=True)
    wheel = folder / name
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, data in files.items():
            archive.writestr(zipfile.ZipInfo(path), b"spoiled" if path == alter else data)
        archive.writestr(zipfile.ZipInfo("torch-2.6.0+cu124.dist-info/RECORD"), record)
    return wheel


def sdk_of(wheel: Path, cuda: bool = False, platform: str = "x86_64") -> torch_sdk.TorchSdk:
    return torch_sdk.torch_sdk(str(wheel), releases()[VERSION], "313", platform, cuda)


def test_a_wheel_that_was_saved_under_the_name_in_its_link_is_taken(tmp_path: Path) -> None:
    """An index's links spell the + of a local version as %2B, and browsers keep that."""
    sdk = sdk_of(torch_wheel(tmp_path / "w", name="torch-2.6.0%2Bcu124-cp313-cp313-manylinux1_x86_64.whl"))
    assert (sdk.version, sdk.local) == ("2.6.0", "cu124")


def test_a_torchs_facts_are_read_from_its_wheel(tmp_path: Path) -> None:
    sdk = sdk_of(torch_wheel(tmp_path / "w"))
    assert (sdk.version, sdk.local, sdk.cuda, sdk.cxx11_abi) == ("2.6.0", "cu124", "12.4", False)
    assert [path.relative_to(sdk.root).as_posix() for path in sdk.include_dirs] == [
        "torch/include",
        "torch/include/torch/csrc/api/include",
    ]
    assert sorted(path.name for path in sdk.lib_dir.iterdir()) == ["libc10.so", "libtorch.so", "libtorch_cpu.so"]
    assert not (sdk.root / "torch" / "__init__.py").exists()
    assert "torch" not in sys.modules


def test_cuda_libraries_come_when_asked_for(tmp_path: Path) -> None:
    names = {path.name for path in sdk_of(torch_wheel(tmp_path / "w"), cuda=True).lib_dir.iterdir()}
    assert {"libc10_cuda.so", "libtorch_cuda.so"} < names


@pytest.mark.parametrize(
    ("config", "libc10", "expected"),
    [
        (CONFIG_0, OLD_ABI, False),
        (CONFIG_0, b"stripped", False),
        (CONFIG_0.replace("=0", "=1"), NEW_ABI, True),
        ("", NEW_ABI, True),
        ("", OLD_ABI, False),
        ("", b"stripped", True),
    ],
)
def test_the_abi_is_what_the_cmake_file_and_libc10_say(
    config: str, libc10: bytes, expected: bool, tmp_path: Path
) -> None:
    assert sdk_of(torch_wheel(tmp_path / "w", config=config, libc10=libc10)).cxx11_abi is expected


def test_a_torch_whose_abi_facts_disagree_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"_GLIBCXX_USE_CXX11_ABI=0, and libc10\.so was built with 1"):
        sdk_of(torch_wheel(tmp_path / "w", libc10=NEW_ABI))


def test_a_site_packages_folder_is_used_in_place(tmp_path: Path) -> None:
    with zipfile.ZipFile(torch_wheel(tmp_path / "w")) as archive:
        archive.extractall(tmp_path / "site")
    sdk = sdk_of(tmp_path / "site")
    assert sdk.root == (tmp_path / "site").resolve()
    assert sdk.version == "2.6.0"


def test_a_torch_of_another_release_is_refused(tmp_path: Path) -> None:
    wheel = torch_wheel(tmp_path / "w", version_py="__version__ = '2.7.1+cu126'\ncuda = '12.6'\n")
    with pytest.raises(BadInput, match=r"needs torch ==2\.6\.0"):
        sdk_of(wheel)


def test_a_cpu_torch_is_refused_for_a_cuda_build(tmp_path: Path) -> None:
    wheel = torch_wheel(tmp_path / "w", version_py="__version__ = '2.6.0+cpu'\ncuda = None\n")
    assert sdk_of(wheel).cuda is None
    with pytest.raises(BadInput, match="CPU-only"):
        sdk_of(wheel, cuda=True)


def test_a_wheel_for_another_platform_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not for aarch64"):
        sdk_of(torch_wheel(tmp_path / "w"), platform="aarch64")


def test_a_truncated_wheel_leaves_nothing(tmp_path: Path) -> None:
    wheel = torch_wheel(tmp_path / "w")
    wheel.write_bytes(wheel.read_bytes()[:-200])
    with pytest.raises(BadInput, match="truncated or no wheel"):
        sdk_of(wheel)
    assert not (cache_dir() / "torch").exists()


def test_a_file_that_is_not_what_record_says_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"libtorch_cpu\.so is not what the wheel's RECORD says"):
        sdk_of(torch_wheel(tmp_path / "w", alter="torch/lib/libtorch_cpu.so"))
    assert entries(cache_dir() / "torch") == []


def test_an_unpacked_torch_that_was_cut_is_unpacked_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wheel = torch_wheel(tmp_path / "w")
    library = sdk_of(wheel).lib_dir / "libtorch_cpu.so"
    library.write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        sdk_of(wheel)
    assert library.read_bytes() == b"elf"
    assert "libtorch_cpu.so was changed" in caplog.text


class Index:
    """Stand in for a package index: what pip would find and fetch of it."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        *,
        sha256: str | None = None,
        has: str = "torch==2.6.0",
        pythons: Sequence[str] = ("311", "312", "313"),
    ) -> None:
        self.asked: list[tuple[str, str, str, str | None]] = []
        self.sha256, self.has, self.pythons = sha256, has, pythons
        monkeypatch.setattr(torch_sdk, "locate", self.locate)
        monkeypatch.setattr(torch_sdk, "download", self.download)
        monkeypatch.setattr(torch_sdk, "check_room", lambda *_: None)

    def locate(self, requirement: str, *, python: str, **_: str | None) -> RegistryFile:
        if requirement != self.has or python not in self.pythons:
            raise FetchFailed("Fetch torch", f"No matching distribution found for {requirement}", "Check.")
        return RegistryFile(url="https://index.invalid/torch.whl", sha256=self.sha256)

    def download(
        self, requirement: str, folder: Path, *, platform: str, python: str, index: str | None, **_: str
    ) -> Path:
        self.asked.append((requirement, python, platform, index))
        return torch_wheel(folder)


def test_the_registry_wheel_is_fetched_once_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    index = Index(monkeypatch)
    for _ in range(2):
        sdk = torch_sdk.torch_sdk(None, releases()[VERSION], "313", "x86_64", False)
    assert sdk.version == "2.6.0"
    assert index.asked == [("torch==2.6.0", "312", "x86_64", None)]
    assert list(cache_dir().rglob("*.whl")) == []


def test_which_python_is_built_for_does_not_change_the_torch_that_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a wheel's descriptor, which holds torch's digest, would depend on the Pythons that are built along."""
    index = Index(monkeypatch)
    sdks = [torch_sdk.torch_sdk(None, releases()[VERSION], each, "x86_64", False) for each in ("313", "311", "312")]
    assert len({(sdk.root, sdk.sha256) for sdk in sdks}) == 1
    assert [python for _, python, _, _ in index.asked] == ["312"]
    assert all(torch_sdk.READ_PYTHON in row.pythons for row in releases().values())


def test_an_index_with_wheels_for_one_python_alone_serves_that_one(monkeypatch: pytest.MonkeyPatch) -> None:
    index = Index(monkeypatch, pythons=["311"])
    torch_sdk.torch_sdk(None, releases()[VERSION], "311", "x86_64", False)
    assert [python for _, python, _, _ in index.asked] == ["311"]
    with pytest.raises(FetchFailed, match="No matching distribution"):
        torch_sdk.torch_sdk(None, releases()[VERSION], "313", "x86_64", False)


def test_a_cached_torch_without_its_wheels_digest_is_fetched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    index = Index(monkeypatch)
    sdk = torch_sdk.torch_sdk(None, releases()[VERSION], "313", "x86_64", False)
    inventory = sdk.root.parent / "entry.json"
    kept = json.loads(inventory.read_text())
    del kept["facts"]["sha256"]
    inventory.write_text(json.dumps(kept))
    assert torch_sdk.torch_sdk(None, releases()[VERSION], "313", "x86_64", False).sha256 == sdk.sha256
    assert len(index.asked) == 2


def test_the_digest_of_torchs_wheel_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = source.sha256_of(torch_wheel(tmp_path / "same"))
    Index(monkeypatch, sha256=digest)
    for _ in range(2):
        assert torch_sdk.torch_sdk(None, releases()[VERSION], "313", "x86_64", False).sha256 == digest
    assert sdk_of(torch_wheel(tmp_path / "w")).sha256 == digest


def test_a_torch_that_is_not_what_the_index_lists_is_refused_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Index(monkeypatch, sha256="ab" * 32)
    with pytest.raises(BadInput, match=r"has sha256 .*, and the index says abab"):
        torch_sdk.torch_sdk(None, releases()[VERSION], "313", "x86_64", False)
    assert entries(cache_dir() / "torch") == []


@pytest.mark.parametrize("has", ["torch==2.6.0+cu124", "torch==2.6.0"])
def test_an_index_that_the_user_names_is_asked_for_the_build_of_the_track(
    has: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Index(monkeypatch, has=has)
    address = "https://index.invalid/whl"
    torch_sdk.torch_sdk(None, releases()[VERSION], "313", "x86_64", False, index=address, local="cu124")
    torch_sdk.torch_sdk(None, releases()[VERSION], "313", "x86_64", False, index=f"{address}/other", local="cu124")
    assert index.asked == [(has, "312", "x86_64", address), (has, "312", "x86_64", f"{address}/other")]


def test_a_wheel_that_does_not_fit_on_the_disk_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def remote(url: str) -> Iterator[tuple[None, int]]:
        yield None, 1 << 60

    listed = RegistryFile(url="https://index.invalid/torch.whl", sha256=None)
    monkeypatch.setattr(parts, "remote", remote)
    with pytest.raises(CannotWrite, match=r"needs 2199023255552 MiB, and .* MiB are free"):
        torch_sdk.check_room(tmp_path, listed, "Fetch torch")
    monkeypatch.undo()
    torch_sdk.check_room(tmp_path, RegistryFile(url="file:///nowhere", sha256=None), "Fetch torch")  # cannot be told


def test_a_free_threaded_python_has_tags_of_its_own() -> None:
    options = " ".join(registry.wheels_for("x86_64", "313t"))
    assert "--python-version 3.13 --implementation cp --abi cp313t" in options


def test_something_that_is_no_torch_is_named() -> None:
    with pytest.raises(BadInput, match=r"no version, no wheel and no folder"):
        torch_sdk.torch_sdk("newest please", releases()[VERSION], "313", "x86_64", False)


# --- codecs and compiler ---------------------------------------------------------------------------------------------


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH of one folder, empty but for what a test puts there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


PKG_CONFIG = """case "$1 $2" in
  *libwebp) exit 1;;
  --modversion*) echo 1.2.3;;
  --cflags*) echo -I/opt/a;;
  --libs*) echo -L/opt/b -lx;;
esac"""


def test_a_missing_codec_names_its_package_and_the_way_without(path: Path) -> None:
    program(path, "pkg-config", PKG_CONFIG)
    with pytest.raises(MissingInput, match=r"apt-get install libwebp-dev`.*--without webp\."):
        codecs.find_codecs(frozenset())
    found = codecs.find_codecs(frozenset({"webp"})).found
    assert sorted(found) == ["jpeg", "png"]
    assert found["jpeg"].version == "1.2.3"
    assert found["jpeg"].cflags == ("-I/opt/a",)
    assert found["jpeg"].libs == ("-L/opt/b", "-lx")


def test_a_missing_pkg_config_names_its_package(path: Path) -> None:
    with pytest.raises(MissingInput, match="apt-get install pkg-config"):
        codecs.find_codecs(frozenset())
    assert codecs.find_codecs(frozenset(codecs.KNOWN)).found == {}


def test_an_unknown_codec_is_refused() -> None:
    with pytest.raises(BadInput, match="gif"):
        codecs.find_codecs(frozenset({"gif"}))


def test_a_missing_compiler_names_its_package(path: Path) -> None:
    with pytest.raises(MissingInput, match=r"apt-get install g\+\+"):
        compiler.find_compiler("auto")


GPP = """case "$*" in
  -dumpfullversion) echo {version}; exit;;
  -dumpmachine) echo {machine}-linux-gnu; exit;;
  -print-libgcc-file-name) echo /usr/lib/gcc/x86_64-linux-gnu/12/libgcc.a; exit;;
  *nonsense*) exit 1;;
esac
while [ $# -gt 0 ]; do [ "$1" = -o ] && : > "$2"; shift; done"""


def test_gcc_is_asked_about_its_flags(path: Path) -> None:
    program(path, "g++", GPP.format(version="12.2.0", machine=compiler.host.machine()))
    found = compiler.find_compiler("gcc", compiler.host.machine())
    assert (found.family, found.version, found.linker, found.origin) == ("gcc", "12.2.0", ("g++",), "system")
    assert compiler.accepts(found, ["-march=x86-64-v4"])
    assert not compiler.accepts(found, ["-march=nonsense"])


def test_a_gcc_too_old_is_refused(path: Path) -> None:
    program(path, "g++", GPP.format(version="11.4.0", machine=compiler.host.machine()))
    with pytest.raises(MissingInput, match=r"version 11\.4\.0; 12 is the first"):
        compiler.find_compiler("gcc", compiler.host.machine())


def test_an_unknown_compiler_is_refused() -> None:
    with pytest.raises(BadInput, match="auto, clang or gcc"):
        compiler.find_compiler("icc")

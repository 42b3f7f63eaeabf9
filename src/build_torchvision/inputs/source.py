"""TorchVision's source: from the cache, GitHub's tag archive, the machine's apt mirror, or a path the user names."""

from __future__ import annotations

import atexit
import hashlib
import logging
import os
import re
import tarfile
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path, PurePosixPath

from packaging.version import InvalidVersion, Version

from build_torchvision.errors import BadInput, BuildTorchvisionError, ProcessFailed
from build_torchvision.facts import Release
from build_torchvision.inputs.apt import (
    Apt,
    SourcePackage,
    apt_archives,
    indextargets,
    os_release,
    private_apt,
    source_packages,
)
from build_torchvision.inputs.cache import (
    cache_dir,
    inventory_fault,
    publish,
    read_facts,
    remove,
    sha256_of,
    write_inventory,
)
from build_torchvision.inputs.origins import CONNECT_SECONDS, OriginFailed, first_right, from_url
from build_torchvision.releases import pinned_instead
from build_torchvision.spec import SourceIdentity

__all__ = ["Source", "SourceAvailability", "fetch_source", "sha256_of", "source_version", "tree_sha256", "unpack"]
log = logging.getLogger(__name__)
GITHUB_ARCHIVE = "https://github.com/pytorch/vision/archive/refs/tags/v{version}.tar.gz"
FRESH_SECONDS = 6 * 3600.0
Unreadable = (tarfile.TarError, EOFError, zlib.error)


@dataclass(frozen=True, kw_only=True)
class Source:
    """An unpacked source tree. `sha256` is that of the release's tarball.

    `local` source is the user's own, a folder or a tarball of no pinned digest; its `sha256` is `tree_sha256`.
    """

    root: Path
    version: str
    origin: str
    sha256: str
    local: bool = False

    @property
    def identity(self) -> SourceIdentity:
        """Which source this is, for the wheel's descriptor."""
        return SourceIdentity(version=self.version, sha256=self.sha256, origin="local" if self.local else "archive")


def fetch_source(release: Release, given: Path | None = None) -> Source:
    """The source of `release`, checked against its pinned sha256 and unpacked in the cache.

    `given` is a folder (used as it is) or a tarball. Raises BadInput for a given path that is not this release's
    source, FetchFailed when no origin serves it (saying what each answered), MissingInput when the disk is full.
    """
    if given is not None:
        return _given(release, given)
    pinned = release.sha256
    if pinned is None:
        raise unpinned(release)
    tarball, origin = _keep(release, pinned, lambda part: _download(release, pinned, part))
    return _unpacked(release, tarball, pinned, origin)


def unpinned(release: Release, python: str = "313") -> BadInput:
    """The error of a release whose archive nobody has hashed: where it lies, and what can be built for `python`."""
    other = pinned_instead(release, python)
    instead = ""
    if other is not None and python in other.pythons:
        instead = f", or take --torchvision {other.torchvision}, which goes with torch {release.torch} too"
    elif other is not None:  # only the torch of `release` is for this Python
        instead = f", or take --torchvision {other.torchvision} --torch {release.torch}"
    return BadInput(
        f"Fetch the source of TorchVision {release.torchvision}",
        "No sha256 is pinned for its archive, so it is not fetched.",
        f"Name a source that you trust with --source DIR|TARBALL (its tag archive is "
        f"{GITHUB_ARCHIVE.format(version=release.torchvision)}){instead}.",
    )


def _keep(release: Release, pinned: str, fetch: Callable[[Path], str]) -> tuple[Path, str]:
    """The release's tarball in the cache, filled by `fetch` unless it is there, and where it came from."""
    tarball = _tarball(release)
    origin_note = tarball.with_name(f"torchvision-{release.torchvision}.origin")

    def fill(part: Path) -> None:
        origin = fetch(part)
        if sha256_of(part) != pinned:
            raise OriginFailed(f"{origin} served sha256 {sha256_of(part)}, not {pinned}")
        origin_note.write_text(origin, encoding="utf-8")

    def fault(path: Path) -> str | None:
        found = sha256_of(path)
        return None if found == pinned else f"its sha256 is {found}, not {pinned}"

    publish(tarball, fill, fault)
    return tarball, origin_note.read_text(encoding="utf-8") if origin_note.exists() else str(tarball)


def _tarball(release: Release) -> Path:
    return cache_dir() / "source" / f"torchvision-{release.torchvision}.tar.gz"


def source_version(given: Path) -> str:
    """The version that the version.txt of a source folder or tarball states, without its local part.

    Raises BadInput for what is no TorchVision source.
    """
    action = f"Read the version of the source in {given}"
    if not given.exists():
        raise BadInput(action, "There is no such file or folder.", "Name an unpacked source tree or a .tar.gz.")
    try:
        text = _version_text(given)
        return Version(text.strip()).public
    except (OSError, UnicodeDecodeError, InvalidVersion, KeyError, *Unreadable) as error:
        raise BadInput(
            action, "It has no readable version.txt, so it is no TorchVision source.", "Name the folder with setup.py."
        ) from error


def _version_text(given: Path) -> str:
    if given.is_dir():
        return (given / "version.txt").read_text(encoding="utf-8")
    with tarfile.open(given) as archive:
        for member in archive:
            if PurePosixPath(member.name).parts[1:] == ("version.txt",) and member.isfile():
                file = archive.extractfile(member)
                assert file is not None
                return file.read(64).decode("utf-8")
    raise KeyError("version.txt")


def tree_sha256(action: str, root: Path) -> str:
    """The sha256 of a whole source tree: of lines "SHA256  PATH" for each file, sorted by path, as `sha256sum` prints.

    A symbolic link counts as its target's text. Version control's folder and Python's bytecode are left out.
    Raises BadInput for a file that cannot be read.
    """
    lines = []
    for path in root.rglob("*"):
        name = path.relative_to(root).as_posix()
        if {".git", "__pycache__"} & set(path.relative_to(root).parts) or (path.is_dir() and not path.is_symlink()):
            continue
        try:
            linked = path.is_symlink()
            digest = hashlib.sha256(os.fsencode(path.readlink())).hexdigest() if linked else sha256_of(path)
        except OSError as error:
            raise BadInput(
                action, f"{path} cannot be read ({error.strerror}).", "Make it readable, or move it."
            ) from error
        lines.append(f"{digest}  {name}\n")
    text = "".join(sorted(lines, key=lambda line: line[66:]))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _given(release: Release, given: Path) -> Source:
    action = f"Use {given} as the source of TorchVision {release.torchvision}"
    if given.is_dir():
        root = given.resolve()
        _check_tree(action, release, root)
        return Source(
            root=root, version=release.torchvision, origin=str(root), sha256=tree_sha256(action, root), local=True
        )
    if not given.is_file():
        raise BadInput(action, "There is no such file or folder.", "Name an unpacked source tree or a .tar.gz.")
    found = sha256_of(given)
    if release.sha256 is None:
        log.warning("%s: no sha256 is pinned for TorchVision %s; taken on trust", given, release.torchvision)
        source = _unpacked(release, given, found, str(given.resolve()))
        return replace(source, sha256=tree_sha256(action, source.root), local=True)
    if found != release.sha256:
        raise BadInput(
            action,
            f"Its sha256 is {found}, and that release's is {release.sha256}: it is truncated, altered or another file.",
            "Fetch it again, or unpack it and name the folder if you mean to build altered source.",
        )
    return _unpacked(release, given, found, str(given.resolve()))


def _unpacked(release: Release, tarball: Path, sha256: str, origin: str) -> Source:
    entry = cache_dir() / "source" / f"torchvision-{release.torchvision}-{sha256[:16]}"

    def fill(part: Path) -> None:
        part.mkdir()
        unpack(tarball, part / "tree")
        _check_tree(f"Unpack {tarball}", release, part / "tree")
        write_inventory(part, {"origin": origin}, sha256_of)

    publish(entry, fill, lambda found: inventory_fault(found, sha256_of))
    kept = read_facts(entry)["origin"] or origin
    return Source(root=entry / "tree", version=release.torchvision, origin=kept, sha256=sha256)


def _check_tree(action: str, release: Release, root: Path) -> None:
    check_version(action, release, source_version(root))


def check_version(action: str, release: Release, found: str) -> None:
    """Raises BadInput where source of version `found` ("0.28.0a0") is not that of `release`.

    A pre-release's source counts as that of a listed release: upstream's branches say 0.28.0a0 up to the release.
    """
    version = Version(found).base_version if release.listed else found
    if version != release.torchvision:
        raise BadInput(
            action, f"Its version.txt says {found}.", f"Ask for --torchvision {version}, or name other source."
        )


def unpack(tarball: Path, dest: Path) -> None:
    """Unpack a source tarball with one top folder so that `dest` becomes that folder.

    Raises BadInput, having written nothing outside `dest`'s own folder, for a member with an absolute path, a `..`, a
    link that leads out, or a device, and for a truncated file.
    """
    action = f"Unpack {tarball}"
    holder = dest.with_name(dest.name + ".unpacking")
    try:
        with tarfile.open(tarball) as archive:
            members = archive.getmembers()
            for member in members:
                _refuse_unsafe(action, member)
            tops = {PurePosixPath(member.name).parts[0] for member in members if PurePosixPath(member.name).parts}
            if len(tops) != 1:
                raise BadInput(action, f"It has {len(tops)} top-level names where a source archive has one.", _AGAIN)
            holder.mkdir(parents=True)
            if hasattr(tarfile, "data_filter"):
                archive.extractall(holder, filter="data")
            else:  # Python 3.11 before 3.11.4; _refuse_unsafe has done the filter's work
                archive.extractall(holder, members=members)
        (holder / tops.pop()).replace(dest)
    except Unreadable as error:
        raise BadInput(action, f"It cannot be read to its end ({error}).", _AGAIN) from error
    finally:
        remove(holder)


_AGAIN = "Fetch it again from where you had it."


def _refuse_unsafe(action: str, member: tarfile.TarInfo) -> None:
    path = PurePosixPath(member.name)
    reason = None
    if path.is_absolute() or ".." in path.parts:
        reason = "leads out of the archive's folder"
    elif not (member.isfile() or member.isdir() or member.issym() or member.islnk()):
        reason = "is a device or a pipe"
    elif member.issym() or member.islnk():
        target = PurePosixPath(member.linkname)
        start = path.parent if member.issym() else PurePosixPath()
        resolved = os.path.normpath(str(start / target))
        if target.is_absolute() or resolved == ".." or resolved.startswith("../"):
            reason = f"is a link to {member.linkname}, out of the archive's folder"
    if reason:
        raise BadInput(action, f"Its member {member.name!r} {reason}; nothing was unpacked.", "Do not use this file.")


def _download(release: Release, pinned: str, part: Path) -> str:
    """Fill `part` with the tarball from the first origin that serves the right bytes, and return that origin."""
    version = release.torchvision
    return first_right(
        part,
        pinned,
        [
            ("GitHub", lambda path: _from_github(release, pinned, path)),
            ("the apt mirror", lambda path: _from_apt(release, pinned, path)),
        ],
        action=f"Fetch the source of TorchVision {version}",
        hint=f"Put {GITHUB_ARCHIVE.format(version=version)} on this machine (sha256 {pinned}) and name it "
        "with --source.",
    )


def _from_github(release: Release, pinned: str, part: Path) -> str:
    return from_url(GITHUB_ARCHIVE.format(version=release.torchvision))(part)


def _from_apt(release: Release, pinned: str, part: Path) -> str:
    if release.debian_source is None:
        raise OriginFailed("no distribution is known to carry this release")
    apt, offered = _debian_sources(release.debian_source)
    version = next((one.version for one in offered if one.upstream == release.torchvision), None)
    if version is None:
        raise OriginFailed(f"it has {_versions(offered)} of {release.debian_source}, not {release.torchvision}")
    printed = apt.get("source", "--print-uris", "--download-only", f"{release.debian_source}={version}")
    found = orig_tarball(printed, release.debian_source, release.torchvision)
    if found is None:
        raise OriginFailed(f"{release.debian_source} {version} has no .orig.tar.gz")
    uri, digest = found
    if digest not in (None, pinned):
        raise OriginFailed(f"its {release.debian_source} {version} has sha256 {digest}, not {pinned}")
    try:
        apt.download(uri, part, pinned)
    except ProcessFailed as error:
        reason = re.findall(r"^E: (.*)$", error.problem, re.MULTILINE)
        raise OriginFailed(reason[0] if reason else f"{uri}: {error.problem}") from error
    return uri


@cache
def _debian_sources(name: str) -> tuple[Apt, tuple[SourcePackage, ...]]:
    """apt with the suites that the machine's mirror has, and the versions of source package `name` in them.

    The lists are fetched once in a process, and removed when it ends.
    """
    action = f"Fetch the source package {name}"
    archives = apt_archives(indextargets(action), os_release())
    if not archives:
        raise OriginFailed("apt's configuration names no Debian or Ubuntu archive")
    apt = _OPENED.enter_context(private_apt(archives, action, partly=True))
    return apt, tuple(source_packages(apt, name))


_OPENED = ExitStack()
atexit.register(_OPENED.close)


def _versions(offered: Sequence[SourcePackage]) -> str:
    return ", ".join(dict.fromkeys(one.upstream for one in offered)) or "no version"


def orig_tarball(print_uris: str, source: str, version: str) -> tuple[str, str | None] | None:
    """URL and sha256 of SOURCE_VERSION.orig.tar.gz in what `apt-get source --print-uris` printed, or None."""
    wanted = f"{source}_{version}.orig.tar.gz"
    for uri, name, digest in re.findall(r"^'([^']+)' (\S+) \d+ ?(\S*)$", print_uris, re.MULTILINE):
        if name == wanted:
            return uri, digest.removeprefix("SHA256:") if digest.startswith("SHA256:") else None
    return None


def _is_fresh(note: Path) -> bool:
    try:
        return time.time() - note.stat().st_mtime < FRESH_SECONDS
    except OSError:
        return False


class SourceAvailability:
    """Tell whether this machine can get a release's source: from the cache, GitHub or apt.

    GitHub is asked once, and a silent one costs CONNECT_SECONDS. What apt lists is fetched into the cache at once: a
    mirror may list what it does not have. That it does not is kept in the cache for FRESH_SECONDS.
    """

    def __init__(self) -> None:
        self._github: str | None = None
        self._github_asked = False
        self._problems: dict[str, str | None] = {}

    def __call__(self, release: Release) -> bool:
        """Whether the source of `release` can be had."""
        return self.problem(release) is None

    def problem(self, release: Release) -> str | None:
        """Why the source of `release` cannot be had, each place with its reason; None where it can."""
        if release.torchvision not in self._problems:
            self._problems[release.torchvision] = self._look(release)
        return self._problems[release.torchvision]

    def _look(self, release: Release) -> str | None:
        if release.sha256 is None:
            return "no sha256 is pinned for it"
        if _tarball(release).is_file() or self._github_problem(release) is None:
            return None
        noted = _tarball(release).with_name(f"torchvision-{release.torchvision}.unavailable")
        if _is_fresh(noted):
            return f"GitHub: {self._github}; the apt mirror: {noted.read_text(encoding='utf-8')}"
        try:
            _keep(release, release.sha256, lambda part: _from_apt(release, str(release.sha256), part))
        except (OriginFailed, BuildTorchvisionError) as error:
            noted.parent.mkdir(parents=True, exist_ok=True)
            noted.write_text(str(error), encoding="utf-8")
            return f"GitHub: {self._github}; the apt mirror: {error}"
        return None

    def _github_problem(self, release: Release) -> str | None:
        if not self._github_asked:
            import httpx  # slow to import, and needed only where something is fetched

            self._github_asked = True
            timeout = httpx.Timeout(CONNECT_SECONDS)
            try:
                url = GITHUB_ARCHIVE.format(version=release.torchvision)
                httpx.head(url, follow_redirects=True, timeout=timeout).raise_for_status()
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                self._github = f"{type(error).__name__}: {error}"
        return self._github

"""The machine's apt, asked with private lists: any suite and architecture, nothing of it changed, no root needed."""

from __future__ import annotations

import logging
import os
import platform as host
import re
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from build_torchvision.errors import FetchFailed, MissingInput, ProcessFailed
from build_torchvision.process import run

log = logging.getLogger(__name__)
APT_SECONDS = 240.0
CONNECT_SECONDS = 20
"""How long apt waits for a silent server."""
APT_HELPER = Path("/usr/lib/apt/apt-helper")
APT_FORMAT = "$(REPO_URI)|$(RELEASE)|$(SIGNED_BY)"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # ours -> dpkg's
DEBIAN_SUITES = ("trixie", "forky", "sid", "experimental")
"""Where a release of TorchVision may be, whatever suite this machine runs; a mirror need not have all."""
DEBIAN_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_MIRRORS = {"debian", "ubuntu", "ubuntu-ports"}
_ANY_VERSION = "Package: {}\nStatus: install ok installed\nArchitecture: {}\nMulti-Arch: same\nVersion: 999:0\n\n"
_URI_LINE = re.compile(r"^'([^']+)' (\S+)_(\S+)_(\w+)\.deb \d+", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class AptArchive:
    """A place that may have a package, as a line of apt's sources says it. `kind` is deb or deb-src."""

    uri: str
    suite: str
    components: str
    signed_by: str | None
    kind: str = "deb-src"

    def __str__(self) -> str:
        options = f"[signed-by={self.signed_by}] " if self.signed_by else ""
        return f"{self.kind} {options}{self.uri} {self.suite} {self.components}"


def indextargets(action: str, platform: str | None = None) -> str:
    """What apt is configured with, in lines of APT_FORMAT; with `platform`, for that one's packages.

    Raises MissingInput on a machine without apt.
    """
    options = architecture_options(ARCHITECTURES[platform]) if platform else ()
    # --no-release-info: what is configured, whether or not its lists were ever fetched.
    command = ["apt-get", *options, "indextargets", "--no-release-info", "--format", APT_FORMAT]
    try:
        return run(command, action=action, timeout=APT_SECONDS).stdout
    except MissingInput as error:
        raise MissingInput(
            action, "apt-get is not on this machine.", "Work on Debian or Ubuntu, or in a container of one."
        ) from error


def architecture_options(architecture: str) -> tuple[str, ...]:
    """apt's options to work for `architecture` ("arm64") alone."""
    return ("-o", f"APT::Architecture={architecture}", "-o", f"APT::Architectures={architecture}")


def os_release() -> dict[str, str]:
    """This system's /etc/os-release; empty where there is none."""
    try:
        return host.freedesktop_os_release()
    except OSError:
        return {}


def apt_archives(indextargets: str, os_release: dict[str, str]) -> list[AptArchive]:
    """The archives worth asking for a source package, from apt's own list of what it is configured with.

    The first mirror of the distribution itself is used; its security, backports and third-party archives are not.
    Suites: this machine's own, and on Debian those that carry the package, whatever this machine runs.
    """
    own = os_release.get("VERSION_CODENAME", "")
    ubuntu = os_release.get("ID") == "ubuntu"
    for uri, suite, signed_by in _lines(indextargets):
        if not own or suite not in {own, *DEBIAN_SUITES, "stable", "testing", "unstable"}:
            continue
        if PurePosixPath(uri.rstrip("/")).name not in _MIRRORS:
            continue
        if ubuntu:
            return [AptArchive(uri=uri, suite=own, components="main universe", signed_by=signed_by)]
        suites = dict.fromkeys((*DEBIAN_SUITES, own))
        keyring = _debian_keyring(signed_by)
        return [AptArchive(uri=uri, suite=name, components="main", signed_by=keyring) for name in suites]
    return []


def configured_mirrors(action: str) -> tuple[str, ...]:
    """The mirrors that apt is configured with for the distribution itself, its security archives left out.

    Raises MissingInput on a machine without apt.
    """
    uris = (uri for uri, _, _ in _lines(indextargets(action)))
    return tuple(dict.fromkeys(uri for uri in uris if PurePosixPath(uri.rstrip("/")).name in _MIRRORS))


def own_archives(indextargets: str, os_release: dict[str, str]) -> list[AptArchive]:
    """This machine's own suite with its updates and security fixes, as apt is configured with them, for binaries."""
    own = os_release.get("VERSION_CODENAME", "")
    return _binaries(indextargets, os_release, (own, f"{own}-updates", f"{own}-security")) if own else []


def suite_archives(indextargets: str, os_release: dict[str, str], suite: str) -> list[AptArchive]:
    """The distribution's `suite` on the mirror that this machine uses for its own, for binaries."""
    own = own_archives(indextargets, os_release)
    return [replace(archive, suite=suite) for archive in own if archive.suite == os_release.get("VERSION_CODENAME")][:1]


def _binaries(indextargets: str, os_release: dict[str, str], suites: Sequence[str]) -> list[AptArchive]:
    ubuntu = os_release.get("ID") == "ubuntu"
    found = [
        AptArchive(
            uri=uri,
            suite=suite,
            components="main universe" if ubuntu else "main",
            signed_by=signed_by if ubuntu else _debian_keyring(signed_by),
            kind="deb",
        )
        for uri, suite, signed_by in _lines(indextargets)
        if suite in suites and PurePosixPath(uri.rstrip("/")).name in {*_MIRRORS, "debian-security"}
    ]
    # Ubuntu keeps all but x86 in an archive of its own; where one is configured, the main one has nothing to add.
    ports = [archive for archive in found if PurePosixPath(archive.uri.rstrip("/")).name == "ubuntu-ports"]
    return list(dict.fromkeys(ports or found))


def _lines(indextargets: str) -> Iterator[tuple[str, str, str | None]]:
    for line in indextargets.splitlines():
        uri, suite, signed_by = [*line.split("|"), "", ""][:3]
        if uri:
            yield uri, suite, signed_by if signed_by and not signed_by.startswith("$(") else None


def _debian_keyring(signed_by: str | None) -> str | None:
    return str(DEBIAN_KEYRING) if DEBIAN_KEYRING.exists() else signed_by


@dataclass(frozen=True, kw_only=True)
class Apt:
    """apt with lists of its own. `options` come after `apt-get` or apt-helper."""

    work: Path
    options: tuple[str, ...]
    action: str

    def get(self, *arguments: str, cwd: Path | None = None) -> str:
        """`apt-get ARGUMENTS`; what it printed."""
        return run(["apt-get", *self.options, *arguments], action=self.action, cwd=cwd, timeout=APT_SECONDS).stdout

    def download(self, uri: str, dest: Path, sha256: str) -> None:
        """One file, checked."""
        command: list[str | Path] = [APT_HELPER, *self.options, "download-file", uri, dest, f"SHA256:{sha256}"]
        run(command, action=self.action, timeout=APT_SECONDS)


@dataclass(frozen=True, kw_only=True)
class SourcePackage:
    """A version of a source package that an archive offers, with the sha256 of its .orig tarball."""

    upstream: str
    version: str
    sha256: str


def source_packages(apt: Apt, name: str) -> list[SourcePackage]:
    """Every version of source package `name` that `apt`'s archives offer with an .orig.tar.gz."""
    command = ["apt-cache", *apt.options, "showsrc", "--only-source", name]
    return parse_showsrc(run(command, action=apt.action, check=False).stdout, name)


def parse_showsrc(text: str, name: str) -> list[SourcePackage]:
    """What `apt-cache showsrc` printed of source package `name`; see `source_packages`."""
    found: list[SourcePackage] = []
    for stanza in text.split("\n\n"):
        version = re.search(r"^Version: (\S+)$", stanza, re.MULTILINE)
        orig = re.search(rf"^ ([0-9a-f]{{64}}) \d+ {re.escape(name)}_(\S+)\.orig\.tar\.gz$", stanza, re.MULTILINE)
        if version and orig:
            found.append(SourcePackage(upstream=orig[2], version=version[1], sha256=orig[1]))
    return list(dict.fromkeys(found))


@contextmanager
def private_apt(
    archives: Sequence[AptArchive],
    action: str,
    *,
    architecture: str | None = None,
    present: Collection[str] = (),
    partly: bool = False,
) -> Iterator[Apt]:
    """An apt that knows `archives` alone and believes that `present` alone is installed; its lists are up to date.

    `architecture` is dpkg's name ("arm64"), None for the machine's own. The machine's settings (proxies,
    certificates) hold. Raises ProcessFailed where an archive cannot be read; with `partly` the others do.
    """
    with tempfile.TemporaryDirectory(prefix="build-torchvision-apt-") as name:
        work = Path(name)
        for folder in ("lists/partial", "archives/partial", "parts"):
            (work / folder).mkdir(parents=True)
        (work / "sources.list").write_text("".join(f"{archive}\n" for archive in archives), encoding="utf-8")
        (work / "status").write_text(
            "".join(_ANY_VERSION.format(name, architecture) for name in present), encoding="utf-8"
        )
        settings: dict[str, object] = {
            "Dir::Etc::SourceList": work / "sources.list",
            "Dir::Etc::SourceParts": work / "parts",
            "Dir::Etc::Preferences": work / "none",
            "Dir::Etc::PreferencesParts": work / "parts",
            "Dir::State::Lists": work / "lists",
            "Dir::State::status": work / "status",
            "Dir::Cache": work,
            "Acquire::Languages": "none",
            "Acquire::Retries": "0" if partly else "2",
            "Acquire::http::Timeout": CONNECT_SECONDS,
            "Acquire::https::Timeout": CONNECT_SECONDS,
            "APT::Sandbox::User": "",  # the private folders belong to this user
        }
        if all(archive.kind == "deb-src" for archive in archives):
            # A frozen mirror will do for sources: each is held to a pinned sha256. Binaries are not pinned, so that for
            # them an expired list, which an attacker could replay, stays an error unless the machine allows it.
            settings["Acquire::Check-Valid-Until"] = "false"
        options = tuple(part for key, value in settings.items() for part in ("-o", f"{key}={value}"))
        options += architecture_options(architecture) if architecture else ()
        apt = Apt(work=work, options=options, action=action)
        if partly:  # a suite that the mirror lacks, or that this machine's keys do not sign, is left out
            run(["apt-get", *options, "update"], action=action, timeout=APT_SECONDS, check=False)
        else:
            apt.get("update", "--error-on=any")
        yield apt


@dataclass(frozen=True, kw_only=True)
class Deb:
    """A package as it was unpacked."""

    name: str
    version: str
    files: tuple[str, ...]


def unpack_packages(
    packages: Collection[str],
    root: Path,
    *,
    archives: Sequence[AptArchive],
    platform: str,
    action: str,
    present: Collection[str] = (),
) -> tuple[Deb, ...]:
    """Fetch `packages` for `platform` and all that they depend on, but `present`, and unpack them into `root`.

    Nothing is installed: no script of a package runs. apt checks every file against the archive's signature.
    `root`/var/lib/dpkg lists what is there, for dpkg-query. Raises FetchFailed where the archives do not serve them,
    MissingInput without apt or dpkg.
    """
    architecture = ARCHITECTURES[platform]
    hint = (
        f"apt's sources need an archive that has {architecture} packages: Debian's do, on Ubuntu add its ports archive "
        f"with [arch={architecture}]; a container of Debian will do too."
    )
    if not archives:
        raise FetchFailed(action, "apt's configuration names no archive of the distribution wanted.", hint)
    try:
        with private_apt(archives, action, architecture=architecture, present=present) as apt:
            listing = ("install", "--print-uris", "-y", "--no-install-recommends", *sorted(packages))
            wanted = sorted({match[2] for match in _URI_LINE.finditer(apt.get(*listing))})
            debs = apt.work / "debs"
            debs.mkdir()
            apt.get("download", *wanted, cwd=debs)
            found = [_unpack(deb, root, action) for deb in sorted(debs.glob("*.deb"))]
    except ProcessFailed as error:
        raise FetchFailed(action, f"apt: {error.problem}", hint) from error
    if len(found) != len(wanted) or not found:
        raise FetchFailed(action, f"{len(found)} packages came where {len(wanted)} were asked for.", hint)
    _close(root)
    log.info("%s: %d packages", action, len(found))
    return tuple(found)


def _close(root: Path) -> None:
    """Turn absolute links into relative ones, so that they stay inside, and let /lib be /usr/lib where nothing is."""
    for path in root.rglob("*"):
        if path.is_symlink() and (target := path.readlink()).is_absolute():
            path.unlink()
            path.symlink_to(os.path.relpath(f"{root}{target}", path.parent))
    if not (root / "lib").exists():
        (root / "lib").symlink_to("usr/lib")


def _unpack(deb: Path, root: Path, action: str) -> Deb:
    root.mkdir(parents=True, exist_ok=True)
    control = run(["dpkg-deb", "--field", deb], action=action).stdout
    listed = run(["dpkg-deb", "--contents", deb], action=action).stdout
    run(["dpkg-deb", "--extract", deb, root], action=action)
    # "-rw-r--r-- root/root 123 2024-01-01 00:00 ./usr/lib/x.so -> y.so"
    paths = [line.split(None, 5)[5].partition(" -> ")[0].removeprefix(".") for line in listed.splitlines()]
    files = tuple(path.rstrip("/") or "/." for path in paths)
    fields = dict(re.findall(r"^([A-Za-z-]+): (.*)$", control, re.MULTILINE))
    database = root / "var" / "lib" / "dpkg"
    (database / "info").mkdir(parents=True, exist_ok=True)
    qualified = f"{fields['Package']}:{fields['Architecture']}" if fields.get("Multi-Arch") == "same" else None
    (database / "info" / f"{qualified or fields['Package']}.list").write_text("\n".join([*files, ""]), encoding="utf-8")
    (database / "info" / "format").write_text("1\n", encoding="utf-8")
    with (database / "status").open("a", encoding="utf-8") as status:
        head, _, rest = control.partition("\n")
        status.write(f"{head}\nStatus: install ok unpacked\n{rest.rstrip()}\n\n")
    return Deb(name=fields["Package"], version=fields["Version"], files=files)

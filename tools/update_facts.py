"""Bring the tables of facts up to date with the package registry, or say what has changed.

    python tools/update_facts.py --check     print what is new or has drifted; exit code 1 if anything is
    python tools/update_facts.py             write it: new releases, and newer pins of each toolkit's wheels

It reads what pip reads: index pages (JSON or HTML), and of the wheels METADATA, file names and RECORD, by HTTP ranges;
no wheel is fetched whole. Reported and not written: a tag archive's sha256, which the registry does not know; newer
compilers, whose clang and headers must agree; published vulnerabilities of the image libraries.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import httpx
from packaging.requirements import Requirement
from packaging.tags import Tag
from packaging.version import Version

from build_torchvision.errors import BuildTorchvisionError
from build_torchvision.facts import PLATFORMS, Release, releases, toolkits, version_key
from build_torchvision.facts.codecs import codec_libraries
from build_torchvision.facts.cuda_wheels import CudaWheel, cuda_wheels
from build_torchvision.inputs.index_page import IndexFile, default_index, read_page
from build_torchvision.inputs.parts import NotInParts, remote
from build_torchvision.inputs.registry import locate

ROOT = Path(__file__).parents[1]
TABLES = ROOT / "src" / "build_torchvision" / "facts"
FIRST = "0.20.0"
"""The oldest release that the table lists."""
OLDEST_PYTHON = (3, 10)
OSV = "https://api.osv.dev/v1/query"
SECONDS = 60.0


# --- the registry -----------------------------------------------------------------------------------------------------


Wheel = tuple[IndexFile, frozenset[Tag]]


@dataclass
class Registry:
    """A package index, read as pip reads it."""

    index: str
    _pages: dict[str, list[IndexFile]] = field(default_factory=dict)

    def files(self, project: str) -> list[IndexFile]:
        """All files of `project` that are not yanked."""
        if project not in self._pages:
            self._pages[project] = read_page(self.index, project)
        return self._pages[project]

    def members(self, file: IndexFile, wanted: str) -> dict[str, str]:
        """The members of a wheel whose names match `wanted`, as text; of libraries the names alone."""
        with remote(file.url) as (stream, _), zipfile.ZipFile(stream) as archive:
            names = [name for name in archive.namelist() if re.fullmatch(wanted, name)]
            return {name: "" if name.endswith(".so") else archive.read(name).decode("utf-8") for name in names}

    def record_sha256(self, requirement: str, platform: str) -> str:
        """The sha256 of RECORD of the wheel that pip takes for `requirement`."""
        found = locate(requirement, platform=platform, python=None, action=f"Find {requirement}", hint="Check pip.")
        with remote(found.url) as (stream, _), zipfile.ZipFile(stream) as archive:
            (name,) = [one for one in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/RECORD", one)]
            return hashlib.sha256(archive.read(name)).hexdigest()

    def versions(self, project: str) -> list[Version]:
        """Final versions of `project` that have a wheel, oldest first."""
        found = {wheel[1] for one in self.files(project) if (wheel := one.wheel)}
        return sorted(version for version in found if not version.is_prerelease)

    def wheels(
        self, project: str, version: Version, platform: str | None = None
    ) -> list[tuple[IndexFile, frozenset[Tag]]]:
        """The wheels of a version for Linux on `platform`, or for any platform."""
        found = []
        for one in self.files(project):
            wheel = one.wheel
            if wheel is None or wheel[1] != version:
                continue
            if platform is None or any(_is_linux(tag, platform) for tag in wheel[2]):
                found.append((one, wheel[2]))
        return found


def _is_linux(tag: Tag, platform: str) -> bool:
    return "linux" in tag.platform and tag.platform.endswith(f"_{platform}")


# --- releases ---------------------------------------------------------------------------------------------------------


def read_release(registry: Registry, version: Version) -> dict[str, Any]:
    """The fields of releases.toml for TorchVision `version`, as its published wheels and its torch's say."""
    wheels = registry.wheels("torchvision", version, "x86_64")
    newest = max(wheels, key=lambda one: one[0].name)[0]
    text = registry.members(newest, r"[^/]+\.dist-info/METADATA|torchvision/[^/]+\.so")
    metadata = next(body for name, body in text.items() if name.endswith("METADATA"))
    requirement = _torch_requirement(metadata)
    extensions = sorted(name.partition("/")[2].removesuffix(".so") for name in text if name.endswith(".so"))
    torch = _partner(registry, requirement, version)
    tags = {tag for _, found in wheels for tag in found}
    any_python = any(tag.interpreter.startswith("py3") for tag in tags)
    if any_python:
        tags = {tag for _, found in registry.wheels("torch", torch, "x86_64") for tag in found}
    row: dict[str, Any] = {"torch": str(torch), "torch_requirement": requirement}
    for name, platform in (("cuda", "x86_64"), ("cuda_aarch64", "aarch64")):
        if cuda := torch_cuda(registry, torch, platform):
            row[name] = cuda
    row["pythons"] = pythons_of(tags)
    if any_python:
        row["any_python"] = True
    row["extensions"] = extensions
    if extensions and all(name.endswith("_stable") for name in extensions):
        row["stable_abi"] = True
    row["cxx_standard"] = 20 if torch >= Version("2.12") else 17
    return row


def _torch_requirement(metadata: str) -> str:
    """ "==2.6.0" of METADATA's `Requires-Dist: torch==2.6.0`."""
    for line in re.findall(r"^Requires-Dist: (.*)$", metadata, re.MULTILINE):
        requirement = Requirement(line)
        if requirement.name == "torch" and requirement.marker is None:
            return str(requirement.specifier)
    raise ValueError("METADATA requires no torch")


def _partner(registry: Registry, requirement: str, version: Version) -> Version:
    """The torch that was published with a release: the one it requires, or the newest of its line of minor versions.

    TorchVision 0.N goes with torch 2.N-15; a later patch of it may have been built beside the next one, which its
    version.py's CUDA tells.
    """
    least = Version(re.sub(r"^[=>~]+", "", requirement))
    if requirement.startswith("=="):
        return least
    wheel = registry.wheels("torchvision", version, "x86_64")[0][0]
    text = "".join(registry.members(wheel, r"torchvision/version\.py").values())
    built = re.search(r"\+cu(\d\d)(\d+)", text)
    cuda = f"{built[1]}.{built[2]}" if built else None
    fitting = [torch for torch in registry.versions("torch") if torch >= least]
    return next((torch for torch in fitting if torch_cuda(registry, torch, "x86_64") == cuda), least)


@cache
def _torch_cuda(registry_id: int, torch: Version, platform: str) -> str | None:
    registry = _REGISTRIES[registry_id]
    wheels = registry.wheels("torch", torch, platform)
    if not wheels:
        return None
    newest = max(wheels, key=lambda one: one[0].name)[0]
    text = "".join(registry.members(newest, r"torch/version\.py").values())
    found = re.search(r"^cuda(?::[^=]*)? = ['\"]([\d.]+)['\"]", text, re.MULTILINE)
    return found[1] if found else None


_REGISTRIES: dict[int, Registry] = {}


def torch_cuda(registry: Registry, torch: Version, platform: str) -> str | None:
    """The CUDA version of torch's published wheel for `platform`; None for a CPU-only one."""
    _REGISTRIES[id(registry)] = registry
    return _torch_cuda(id(registry), torch, platform)


def pythons_of(tags: set[Tag]) -> list[str]:
    """ "310", "313t": the CPython versions of `tags` that this project builds for."""
    found = {tag.abi.removeprefix("cp") for tag in tags if re.fullmatch(r"cp3\d+t?", tag.abi)}
    return sorted(python for python in found if int(python.removesuffix("t")[1:]) >= OLDEST_PYTHON[1])


def known_fields(row: Release) -> dict[str, Any]:
    """What the table says of a release, in the shape of `read_release`."""
    found: dict[str, Any] = {"torch": row.torch, "torch_requirement": row.torch_requirement, "cuda": row.cuda}
    if row.cuda_aarch64:
        found["cuda_aarch64"] = row.cuda_aarch64
    found["pythons"] = list(row.pythons)
    if row.any_python:
        found["any_python"] = True
    found["extensions"] = sorted(row.extensions)
    if row.stable_abi:
        found["stable_abi"] = True
    found["cxx_standard"] = row.cxx_standard
    return found


def as_toml(version: str, fields: Mapping[str, Any]) -> str:
    """A row of releases.toml."""
    lines = [f'["{version}"]']
    lines += [f"{name} = {json.dumps(value)}" for name, value in fields.items()]
    lines.append('source = "METADATA and file list of the published wheels"')
    return "\n".join(lines) + "\n"


# --- what has changed -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """One difference between the tables and the world: `write` brings the table up to date, where that can be done."""

    text: str
    write: Callable[[], None] | None = None


def release_changes(registry: Registry, tables: Path) -> Iterator[Change]:
    """New TorchVision releases, rows that no longer say what the registry does, and torches newer than the table."""
    known = releases()
    for version in registry.versions("torchvision"):
        name = str(version)
        if version < Version(FIRST):
            continue
        found = read_release(registry, version)
        if name not in known:
            yield Change(
                f"TorchVision {name} is new: torch {found['torch_requirement']}, CUDA {found.get('cuda')}, Pythons "
                f"{' '.join(found['pythons'])}, extensions {' '.join(found['extensions'])}. Its sha256 has to be added "
                "by hand.",
                partial(_append, tables / "releases.toml", as_toml(name, found)),
            )
            continue
        said = known_fields(known[name])
        for key in sorted(said.keys() | found.keys()):
            if said.get(key) != found.get(key):
                yield Change(
                    f"releases.toml [{name}]: {key} is {said.get(key)!r}, the registry says {found.get(key)!r}."
                )
    newest = max((row.torch for row in known.values()), key=version_key)
    for torch in registry.versions("torch"):
        if torch > Version(newest):
            cuda = torch_cuda(registry, torch, "x86_64")
            yield Change(f"torch {torch} is new, built with CUDA {cuda}; the newest in the table is {newest}.")
            if cuda and not any(kit.version == cuda for kit in toolkits().values()):
                yield Change(
                    f"CUDA {cuda}, of torch {torch}, is no track: it needs rows in toolkits.toml and cuda_wheels.toml."
                )


def _append(path: Path, row: str) -> None:
    text = path.read_text(encoding="utf-8")
    path.write_text(f"{text.rstrip()}\n\n{row}", encoding="utf-8")


def toolkit_changes(registry: Registry, tables: Path) -> Iterator[Change]:
    """Newer versions of the wheels of each toolkit, by the cuda-toolkit package of its version."""
    published = registry.versions("cuda-toolkit")
    for track, kit in toolkits().items():
        fitting = [version for version in published if f"{version.major}.{version.minor}" == kit.version]
        pins = cuda_wheels().get(track, ())
        if not pins or not fitting:
            yield Change(
                f"toolkit {kit.version}: no pins in cuda_wheels.toml, or no cuda-toolkit {kit.version} published."
            )
            continue
        wanted = toolkit_pins(registry, fitting[-1])
        for pin in pins:
            version = wanted.get(pin.package)
            if version is None or version == pin.version or pin.hold:
                continue
            yield Change(
                f"{track}: {pin.package} {pin.version} is pinned, cuda-toolkit {fitting[-1]} has {version}.",
                partial(_pin, registry, tables, track, pin, version),
            )


def toolkit_pins(registry: Registry, version: Version) -> dict[str, str]:
    """Package -> version, as the extras of cuda-toolkit `version` require them on Linux."""
    (file, _), *_ = registry.wheels("cuda-toolkit", version)
    metadata = "".join(registry.members(file, r"[^/]+\.dist-info/METADATA").values())
    found = {}
    for line in re.findall(r"^Requires-Dist: (.*)$", metadata, re.MULTILINE):
        requirement = Requirement(line)
        exact = re.fullmatch(r"==([\d.]+?)(\.\*)?", str(requirement.specifier))
        if exact:
            found[requirement.name] = exact[1]
    return found


def _pin(registry: Registry, tables: Path, track: str, pin: CudaWheel, version: str) -> None:
    """Write `version` and the digests of its RECORDs into the row of `pin`."""
    path = tables / "cuda_wheels.toml"
    text = path.read_text(encoding="utf-8")
    block = re.search(
        rf'(\[\[{track}\.wheels\]\]\npackage = "{re.escape(pin.package)}"\n)(.*?)(?=\n\n|\n\[\[|\Z)', text, re.DOTALL
    )
    assert block is not None, f"{track} {pin.package} is a row of the table"
    row = re.sub(r'^version = ".*?"', f'version = "{version}"', block[2], flags=re.MULTILINE)
    for platform in PLATFORMS:
        digest = registry.record_sha256(f"{pin.package}=={version}", platform)
        row = re.sub(rf'^records\.{platform} = ".*?"', f'records.{platform} = "{digest}"', row, flags=re.MULTILINE)
    path.write_text(text[: block.start()] + block[1] + row + text[block.end() :], encoding="utf-8")


def digest_changes(registry: Registry) -> Iterator[Change]:
    """Pins whose RECORD, as the registry serves it today, has another digest: a wheel was replaced."""
    for track, pins in cuda_wheels().items():
        for pin in pins:
            for platform, digest in pin.records.items():
                found = registry.record_sha256(f"{pin.package}=={pin.version}", platform)
                if found != digest:
                    yield Change(
                        f"{track}: RECORD of {pin.package} {pin.version} ({platform}) is {found}, pinned {digest}."
                    )


def compiler_changes(registry: Registry, pyproject: Path) -> Iterator[Change]:
    """Newer ziglang and clang-tidy than pyproject.toml pins. The two must agree in clang's version."""
    text = pyproject.read_text(encoding="utf-8")
    pinned = {name: Version(version) for name, version in re.findall(r'"(ziglang|clang-tidy)==([\d.]+)', text)}
    newest = {name: registry.versions(name)[-1] for name in pinned}
    if newest["ziglang"] > pinned["ziglang"]:
        yield Change(
            f"ziglang {newest['ziglang']} is newer than {pinned['ziglang']}: pin it with the clang-tidy of its clang "
            "(`python -m ziglang clang --version`)."
        )
    own = [
        version
        for version in registry.versions("clang-tidy")
        if version.release[:1] == pinned["clang-tidy"].release[:1]
    ]
    if own[-1] > pinned["clang-tidy"]:
        yield Change(
            f"clang-tidy {own[-1]} is newer than {pinned['clang-tidy']} and of the same clang: it may be the pair."
        )


def vulnerability_changes(ask: Callable[[str, str], list[str]], notes: list[str]) -> Iterator[Change]:
    """Published vulnerabilities of the image libraries that their rows do not list. `ask`: (purl, version) -> IDs.

    What was asked about, and what could not be, is added to `notes`: an unreachable database is no clean record.
    """
    asked, unasked, why = list[str](), list[str](), ""
    for library in codec_libraries().values():
        listed = {text.partition(":")[0] for text in library.advisories}
        try:
            found = [] if why else ask(library.purl.partition("@")[0], library.version)
        except (httpx.HTTPError, ValueError, KeyError) as error:
            found, why = [], f"{type(error).__name__}: {error}"
        (unasked if why else asked).append(f"{library.name} {library.version}")
        for identity in found:
            if identity not in listed:
                yield Change(f"codecs.toml [{library.name}]: {identity} is published for version {library.version}.")
    if asked:
        notes.append(f"Vulnerabilities: the database was asked about {', '.join(asked)}.")
    if unasked:
        notes.append(f"Vulnerabilities: NOT CHECKED for {', '.join(unasked)}: the database could not be asked ({why}).")


def ask_osv(purl: str, version: str) -> list[str]:
    """The IDs that OSV.dev has for a package's version (https://google.github.io/osv.dev/post-v1-query/)."""
    repository = re.fullmatch(r"pkg:github/([^/]+/[^/@]+)", purl)
    package = {"name": f"https://github.com/{repository[1]}.git", "ecosystem": "GIT"} if repository else {"purl": purl}
    query: dict[str, Any] = {"package": package, "version": version}
    found = list[str]()
    while True:
        answer = httpx.post(OSV, json=query, timeout=SECONDS)
        answer.raise_for_status()
        page = answer.json()
        found += osv_ids(page)
        if not page.get("next_page_token"):
            return found
        query["page_token"] = page["next_page_token"]


def osv_ids(answer: Mapping[str, Any]) -> list[str]:
    """The IDs of an answer of OSV.dev, the CVE's where there is one."""
    found = []
    for row in answer.get("vulns", []):
        names = [*row.get("aliases", []), row["id"]]
        found.append(next((name for name in names if name.startswith("CVE-")), row["id"]))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print each change; write what can be written unless --check. 0: nothing to do, 1: changes, 5: no registry."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="report only")
    parser.add_argument(
        "--digests", action="store_true", help="also hold every pinned RECORD to the registry's, minutes"
    )
    parser.add_argument("--index-url", help="the package index; default: pip's")
    options = parser.parse_args(arguments)
    registry, notes = Registry(options.index_url or default_index()), list[str]()
    try:
        changes = [
            *release_changes(registry, TABLES),
            *toolkit_changes(registry, TABLES),
            *compiler_changes(registry, ROOT / "pyproject.toml"),
            *(digest_changes(registry) if options.digests else ()),
            *vulnerability_changes(ask_osv, notes),
        ]
        for change in changes:
            print(change.text)
            if change.write is not None and not options.check:
                change.write()
    except (httpx.HTTPError, NotInParts, BuildTorchvisionError) as error:
        print(f"The registry could not be read: {error}", file=sys.stderr)
        return 5
    for note in notes:
        print(note)
    if not changes:
        print("The tables agree with the registry.")
    elif options.check and (writable := sum(change.write is not None for change in changes)):
        print(f"{writable} of {len(changes)} can be written: python tools/update_facts.py")
    return 1 if changes and options.check else 0


if __name__ == "__main__":
    sys.exit(main())

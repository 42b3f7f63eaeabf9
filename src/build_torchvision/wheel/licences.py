"""Put the licences of the libraries in a wheel into it: from their source, or the distribution that they came from."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from build_torchvision.errors import MissingInput
from build_torchvision.inputs.codec_sources import CodecSource
from build_torchvision.process import run

log = logging.getLogger(__name__)
HASHED = re.compile(r"-[0-9a-f]{8}(?=\.so)")  # auditwheel puts a hash before ".so"
DOCUMENTS = "usr/share/doc"
NOTHING: Mapping[str, Path] = MappingProxyType({})


def bundle_licences(
    tree: Path,
    dist_info: Path,
    sources: Sequence[CodecSource] = (),
    root: Path = Path("/"),
    toolkit: Mapping[str, Path] = NOTHING,
) -> list[str]:
    """Copy each library's licence into `dist_info`/licenses, name it in METADATA, and return what has none.

    `sources` are linked in: their own licence files are taken. `toolkit` has the CUDA toolkit's libraries, each as
    "libnvjpeg", with its licence. Of another library in torchvision.libs dpkg is asked which package below `root`
    brought it (Debian policy 12.5: its copyright file holds the licence). One that no package brought, or whose
    copyright file was stripped from the system, has none: that is logged as a warning, since whoever passes the wheel
    on must add it.
    """
    added, without = list[str](), list[str]()
    for source in sources:
        for file in source.licences:
            name = f"{source.library.name}/{file.name}"
            (dist_info / "licenses" / source.library.name).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, dist_info / "licenses" / name)
            added.append(name)
    for library in sorted(tree.glob("torchvision.libs/*.so*")):
        own_name = HASHED.sub("", library.name)
        licence, name = toolkit.get(own_name.partition(".so")[0]), "nvidia-cuda-toolkit/License.txt"
        if licence is None and (package := _package_of(own_name, root)):
            licence, name = root / DOCUMENTS / package / "copyright", f"{package}.copyright"
        if licence is None or not licence.is_file():
            without.append(library.name)
        elif name not in added:
            (dist_info / "licenses" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(licence, dist_info / "licenses" / name)
            added.append(name)
    metadata = dist_info / "METADATA"
    lines = "".join(f"License-File: {name}\n" for name in added)
    text = metadata.read_text(encoding="utf-8")
    metadata.write_text(text.replace("License-File: LICENSE\n", f"License-File: LICENSE\n{lines}", 1), encoding="utf-8")
    if without:
        log.warning("no licence text is on this machine for %s: the wheel holds none", ", ".join(without))
    return without


def _package_of(library: str, root: Path) -> str | None:
    try:
        action = f"finding the package of {library}"
        done = run(
            ["dpkg-query", f"--admindir={root}/var/lib/dpkg", "--search", f"*/{library}"], action=action, check=False
        )
    except MissingInput:
        return None
    owner = done.stdout.partition(":")[0].strip()
    return owner if done.returncode == 0 and owner else None

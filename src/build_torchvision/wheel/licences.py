"""Find the licences of the libraries in a wheel: in their source, or the distribution that they came from."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType

from build_torchvision.errors import MissingInput
from build_torchvision.inputs.codec_sources import CodecSource
from build_torchvision.process import run

log = logging.getLogger(__name__)
HASHED = re.compile(r"-[0-9a-f]{8}(?=\.so)")  # auditwheel puts a hash before ".so"
DOCUMENTS = "usr/share/doc"
NOTHING: Mapping[str, Path] = MappingProxyType({})


def find_licences(
    bundled: Sequence[str],
    sources: Sequence[CodecSource] = (),
    root: Path = Path("/"),
    toolkit: Mapping[str, Path] = NOTHING,
) -> dict[str, Path]:
    """The licence files of the libraries in a wheel: path below dist-info/licenses -> where it is on this machine.

    `sources` are linked in: their own licence files are taken. `bundled` are file names in torchvision.libs. `toolkit`
    has the CUDA toolkit's libraries, each as "libnvjpeg", with its licence. Of any other, dpkg is asked which package
    below `root` brought it (Debian policy 12.5: its copyright file holds the licence). One that no package brought, or
    whose copyright file was stripped from the system, has none: that is logged as a warning, since whoever passes the
    wheel on must add it.
    """
    found = {f"{source.library.name}/{file.name}": file for source in sources for file in source.licences}
    without = []
    for name in sorted(bundled):
        own_name = HASHED.sub("", name)
        licence, place = toolkit.get(own_name.partition(".so")[0]), "nvidia-cuda-toolkit/License.txt"
        if licence is None and (package := _package_of(own_name, root)):
            licence, place = root / DOCUMENTS / package / "copyright", f"{package}.copyright"
        if licence is None or not licence.is_file():
            without.append(name)
        else:
            found.setdefault(place, licence)
    if without:
        log.warning("no licence text is on this machine for %s: the wheel holds none", ", ".join(without))
    return found


@cache
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

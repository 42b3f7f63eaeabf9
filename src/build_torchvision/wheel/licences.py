"""The licences of the libraries that a wheel bundles, from the distribution that they came from."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from build_torchvision.errors import MissingInput
from build_torchvision.process import run

HASHED = re.compile(r"-[0-9a-f]{8}(?=\.so)")  # auditwheel puts a hash before ".so"
DOCUMENTS = "usr/share/doc"


def bundle_licences(tree: Path, dist_info: Path, root: Path = Path("/")) -> None:
    """Copy each bundled library's copyright file into `dist_info`/licenses and name it in METADATA.

    Asks dpkg which package below `root` brought the library (Debian policy 12.5: its copyright file holds the
    licence). A library that no package brought, or whose copyright file was stripped from the system, gets none.
    """
    added = []
    for library in sorted(tree.glob("torchvision.libs/*.so*")):
        package = _package_of(HASHED.sub("", library.name), root)
        text = root / DOCUMENTS / package / "copyright" if package else None
        name = f"{package}.copyright"
        if text is not None and text.is_file() and name not in added:
            shutil.copyfile(text, dist_info / "licenses" / name)
            added.append(name)
    metadata = dist_info / "METADATA"
    lines = "".join(f"License-File: {name}\n" for name in added)
    metadata.write_text(metadata.read_text().replace("License-File: LICENSE\n", f"License-File: LICENSE\n{lines}", 1))


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

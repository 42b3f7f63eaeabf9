"""Many wheels made from one: the same files under other versions, each with its own metadata, RECORD and report."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from _wheels import record_of

from build_torchvision.wheel import archive
from build_torchvision.wheel.descriptor import DESCRIPTOR, PROOF, RECORD_DIGEST


def clone(base: Path, folder: Path, release: str) -> Path:
    """The wheel `base` as that of another `release`, in `folder`: what `build` would leave for it, but for the code.

    No table knows the release, so that its torch is not its pair.
    """
    _, version, *tags = base.stem.split("-")
    old, new = f"torchvision-{version}", f"torchvision-{release}+{version.partition('+')[2]}.unpaired"
    with zipfile.ZipFile(base) as source:
        files = {name.replace(f"{old}.dist-info", f"{new}.dist-info"): source.read(name) for name in source.namelist()}
    info = f"{new}.dist-info"
    del files[f"{info}/RECORD"]
    proof = json.loads(files.pop(f"{info}/{PROOF}"))
    for name in ("METADATA", DESCRIPTOR):
        text = files[f"{info}/{name}"].decode()
        text = text.replace(f"Version: {version}", f"Version: {new.removeprefix('torchvision-')}")
        old_release = version.partition("+")[0]
        text = text.replace(f'"{old_release}"', f'"{release}"').replace('"paired": true', '"paired": false')
        files[f"{info}/{name}"] = text.encode()
    record = record_of(files, new)
    proof[RECORD_DIGEST] = archive.digest_without(record, f"{info}/{PROOF}")
    files[f"{info}/{PROOF}"] = (json.dumps(proof, indent=1) + "\n").encode()
    path = folder / f"{new}-{'-'.join(tags)}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in files.items():
            made.writestr(name, data)
        made.writestr(f"{info}/RECORD", record_of(files, new))
    return path

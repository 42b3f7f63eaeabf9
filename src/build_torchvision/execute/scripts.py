"""The commands of this package's own scripts that a graph's actions run: the interpreter, isolated, and the file."""

from __future__ import annotations

import sys
from pathlib import Path


def _script(name: str) -> tuple[str, ...]:
    """A script that imports the standard library alone, started without site-packages: it runs once per action."""
    return (sys.executable, "-I", "-S", str(Path(__file__).with_name(f"{name}.py")))


TRANSFORM_IR = _script("transform_ir")
ONE_DEVICE_IR = _script("one_device_ir")
PATCH_FATBIN = _script("patch_fatbin")
PATCH_FATBIN_OBJECT = (sys.executable, "-m", "build_torchvision.execute.patch_fatbin_object")

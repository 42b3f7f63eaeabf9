"""Start the probe by path.

    python -I .../verify/probe RESULTS.jsonl '{"codecs": ["jpeg"], "expected": null, "device": null}'

"codecs" are those that the package should have, "expected" the operators that its release registers (null: unknown).
With "device", {"capability": "9.0", "nvjpeg": true, "refused": false}, operators are called on the GPU, and the
references stay on the CPU; at the end the row "kernels" lists what the GPU ran. With "refused", every call must fail
for want of code.

Before a check, {"start": name} is written to RESULTS.jsonl, and after it {"name", "ok", "detail", "digest"}, the last
of every bit that the operators returned; "error" is the largest relative error where one was measured, and the row
"kernels" has the names of what the GPU ran in a field of that name. A process that dies of an illegal instruction
leaves the name of what it was doing.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

NAME = "build_torchvision_probe"  # the package's name here: neither its folder nor its parent goes on sys.path


def load() -> ModuleType:
    """Import this folder as the package NAME; returns its module `run`."""
    folder = Path(__file__).resolve().parent
    spec = importlib.util.spec_from_file_location(
        NAME, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = package
    spec.loader.exec_module(package)
    return importlib.import_module(f"{NAME}.run")


if __name__ == "__main__":
    sys.exit(load().main(Path(sys.argv[1]), json.loads(sys.argv[2])))

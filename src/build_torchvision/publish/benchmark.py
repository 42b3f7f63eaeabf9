"""Read what `bench --out DIST` measured, DIST/bench.json, for the wheels beside it that were measured.

Of its documented shape this reads `about` (torchvision, machine), `means` (local version -> threads -> "all" -> ratio
with its interval, stock's time over the wheel's) and `sha256` (local version -> digest of the wheel).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from build_torchvision.errors import BadInput
from build_torchvision.verify.package import FileName

NAME = "bench.json"


def read_benchmark(wheel: Path, name: FileName, digest: str) -> Mapping[str, Any] | None:
    """{"against", "machine", "geomean", "low", "high"} of one thread, None where this very wheel was not measured.

    `digest` is the wheel's sha256. `geomean` is how many times faster than the stock wheel the operators are; below 1
    it is slower, and shown as well.
    A benchmark of another release or file (another Python's wheel, an older build) is not this wheel's, nor is one made
    on a GPU alone.
    Raises BadInput for a file that is no benchmark.
    """
    path = wheel.with_name(NAME)
    if not path.is_file():
        return None
    release, _, local = name.version.partition("+")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        about, digests = found["about"], found["sha256"]
        if about["torchvision"] != release or digests.get(local) != digest:
            return None
        means = found["means"][local]
        if "1" not in means:
            return None
        ratio = {key: float(means["1"]["all"][mean]) for key, mean in _RATIO.items()}
        return {"against": f"the stock wheel of {release}", "machine": str(about["machine"]), **ratio}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput(
            f"Index {wheel.name}",
            f"{path} is not what `bench --out` writes ({error!r}).",
            f"Remove it, or type `build-torchvision bench {wheel} --out {wheel.parent}`.",
        ) from error


_RATIO = {"geomean": "value", "low": "low", "high": "high"}

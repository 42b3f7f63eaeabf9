"""A benchmark kept beside the wheel that was measured, WHEEL.bench.json, for the index to show.

    {"sha256": the wheel's, "against": "torchvision 0.21.0", "geomean": 1.42, "machine": "AMD EPYC, 2 cores"}

`geomean` is how many times faster than `against` the operators are, their geometric mean; what else is there is kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from build_torchvision.errors import ProofFailed

SUFFIX = ".bench.json"


def read_benchmark(wheel: Path, sha256: str) -> Mapping[str, Any] | None:
    """What lies beside `wheel`, None without one. Raises ProofFailed for one that is of other bytes or says no number.

    A slower wheel's number is shown as well as a faster one's.
    """
    path = wheel.with_name(wheel.name + SUFFIX)
    if not path.is_file():
        return None
    asked, again = f"Index {wheel.name}", f"Measure this wheel again, or remove {path.name}."
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        of, against, machine, geomean = (found[key] for key in ("sha256", "against", "machine", "geomean"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ProofFailed(asked, f"{path.name} cannot be read ({error!r}).", again) from error
    if of != sha256:
        raise ProofFailed(asked, f"{path.name} is the benchmark of another wheel than this one.", again)
    if (
        not isinstance(geomean, int | float)
        or isinstance(geomean, bool)
        or not geomean > 0
        or not against
        or not machine
    ):
        raise ProofFailed(asked, f"{path.name} does not say how fast, against what and where.", again)
    return {key: found[key] for key in ("against", "machine", "geomean")}

"""Whether a processor runs what a package holds, from what archspec knows of it: nothing is executed."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace

from archspec.cpu import TARGETS

from build_torchvision.binary.instructions import Scan, needing
from build_torchvision.errors import BadInput
from build_torchvision.facts import isas
from build_torchvision.facts.processors import processors
from build_torchvision.variants import Variant
from build_torchvision.verify.checks import Check


def features_of(name: str) -> frozenset[str]:
    """What processor `name` ("graviton3", or archspec's "neoverse_v1") can do. Raises BadInput for an unknown one."""
    known = processors().get(name.lower(), name)
    if known not in TARGETS:
        names = [*processors(), *TARGETS]
        near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.3) or list(processors())
        raise BadInput(
            f"Verify a package for the processor {name}",
            "It is neither a name of archspec's nor one of this project's.",
            f"Did you mean {' or '.join(near)}?",
        )
    target = TARGETS[known]
    return frozenset(target.features).union(*(each.features for each in target.ancestors))


def check_processor(variant: Variant, name: str, scans: Sequence[Scan]) -> Check:
    """Whether processor `name` has every feature that code of the variant's CPU ISA may use. Raises BadInput.

    `scans` are of the package's own code, and tell what of it would stop there.
    """
    features = features_of(name)
    known = processors().get(name.lower(), name)
    called, isa = name if known == name else f"{name} ({known})", variant.isa_facts
    family = TARGETS[known].family.name
    if family != variant.platform:
        return Check(name="processor", ok=False, detail=f"{called} is {family}, {isa.name} is {isa.platform}")
    lacking = [feature for feature in isa.features if feature not in features]
    if not lacking:
        return Check(name="processor", ok=True, detail=f"{called} has all {len(isa.features)} features of it")
    fitting = [each for each in isas().values() if each.platform == family and set(each.features) <= features]
    instead = (
        f"Its variant is {(better := replace(variant, isa=fitting[-1].name))}: `build-torchvision build {better}`."
        if fitting
        else "No variant of the matrix is for it: `pip install torchvision`."
    )
    uses = {feature: said for feature in lacking if (said := _use(scans, feature))}
    rest = [feature for feature in lacking if feature not in uses]
    found = [f"{feature} ({said})" for feature, said in uses.items()] + rest
    detail = (
        f"{called} lacks {', '.join(found)}, and {variant.isa} code may use all of it: the first such instruction "
        f"stops a program with SIGILL. {instead}"
    )
    return Check(name="processor", ok=False, detail=detail)


def _use(scans: Sequence[Scan], feature: str) -> str | None:
    counts = [(count, first) for found in scans for count, first in needing(found, feature)]
    total = sum(count for count, _ in counts)
    return f"{total} instructions here, such as {counts[0][1]}" if total else None

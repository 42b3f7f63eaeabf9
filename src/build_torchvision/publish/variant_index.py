"""Write `NAME-VERSION-variants.json`, from which a variant-aware installer chooses among the wheels of one version.

variantlib merges each wheel's variant.json. Only wheels whose file names carry their label take part
(`build --variant-label`), and those share a version; to such an installer the others are plain wheels.
"""

from __future__ import annotations

from collections.abc import Sequence

from variantlib.errors import ValidationError
from variantlib.variant_dist_info import VariantDistInfo

from build_torchvision.errors import BadInput
from build_torchvision.publish.admission import Wheel
from build_torchvision.wheel.descriptor import with_schema


def variants_files(wheels: Sequence[Wheel]) -> dict[str, str]:
    """File name -> text, one a version that has labelled wheels. Raises BadInput where variantlib finds a fault."""
    merged: dict[str, VariantDistInfo] = {}
    for wheel in wheels:
        label = wheel.file_name.label
        if label is None:
            continue
        key = f"{wheel.file_name.name}-{wheel.version}"
        try:
            info = VariantDistInfo(wheel.variant_json, label)
            if key in merged:
                merged[key].merge(info)
            else:
                merged[key] = info
        except (ValidationError, ValueError) as error:
            raise BadInput(
                f"Index {wheel.name}",
                f"variantlib cannot use its variant.json as {label}: {error}",
                f"Build it again: `build-torchvision build {wheel.variant} --variant-label`.",
            ) from error
    return {f"{key}-variants.json": with_schema(info.to_str()) for key, info in merged.items()}


def can_be_chosen(wheel: Wheel) -> bool:
    """Whether an installer may choose among this wheel and others by the machine: False for a label of an ISA that no
    installer tells from the one below it, such as avx512vnni. Such a wheel is for a user who asks for it.
    """
    return wheel.file_name.label is None or wheel.variant.isa_facts.told_apart

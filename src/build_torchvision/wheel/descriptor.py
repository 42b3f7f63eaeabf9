"""Name the files that a wheel says of itself with, and write variant.json for variant-aware installers."""

from __future__ import annotations

import json

from variantlib.api import VariantDescription, VariantInfo, VariantProperty, make_variant_dist_info
from variantlib.models.variant_info import ProviderInfo

from build_torchvision.errors import BadInput
from build_torchvision.flags import cuda_codegen
from build_torchvision.spec import variant_label
from build_torchvision.variants import Variant, parse
from build_torchvision.wheel.names import DESCRIPTOR, PROOF, RECORD_DIGEST, VARIANT_JSON

__all__ = ["DESCRIPTOR", "PROOF", "RECORD_DIGEST", "VARIANT_JSON", "claimed_by", "variant_json"]

VARIANT_SCHEMA = "https://variants-schema.wheelnext.dev/peps/850/v0.2.0.json"  # PEP 825's, with PEP 850's providers
PROVIDERS = {
    "nvidia": ProviderInfo(
        requires=["nvidia-variant-provider>=0.0.1,<1"], plugin_api="nvidia_variant_provider.plugin:NvidiaVariantPlugin"
    ),
    "x86_64": ProviderInfo(requires=["x86-64-variant-provider"]),
    "aarch64": ProviderInfo(requires=["aarch64-variant-provider"]),
}
"""Who tells an installer which of these properties a machine has, by namespace, in the order of preference.

These are the names under which uv 0.13.9 has them built in; it runs no plugin, and takes neither the CPU providers'
names in the registry nor an entry point for them.
"""


def variant_json(variant: Variant, *, ptx: bool = False) -> str:
    """The text of variant.json, made with variantlib (PEP 825); `ptx`: PTX was added to the cubins."""
    properties = [*variant.isa_facts.properties]
    codegen = cuda_codegen(variant, ptx=ptx)
    if codegen is not None:
        properties += [f"nvidia :: sm_arch :: {arch.lower()}" for arch in _sm_arch(codegen.gencode)]
    description = VariantDescription(
        properties=[VariantProperty.from_str(text) for text in properties], label=variant_label(variant, ptx=ptx)
    )
    used = {prop.namespace for prop in description.properties}
    namespaces = [name for name in PROVIDERS if name in used]
    info = VariantInfo(namespace_priorities=namespaces, providers={name: PROVIDERS[name] for name in namespaces})
    made = make_variant_dist_info(description, variant_info=info, expand_aot_plugin_properties=False)
    return with_schema(str(made))


def with_schema(text: str) -> str:
    """variantlib's JSON under the schema of the PEPs, whose fields are the same: uv knows no other."""
    return json.dumps({**json.loads(text), "$schema": VARIANT_SCHEMA}, indent=1, sort_keys=True) + "\n"


def claimed_by(name: Variant | None, described: str | None, *, action: str, problem: str, hint: str) -> Variant:
    """The variant that a package claims to be: by its name, else by its descriptor. Raises BadInput without either."""
    if name is not None:
        return name
    try:
        return parse(described or "")
    except BadInput as error:
        raise BadInput(action, problem, hint) from error


def _sm_arch(gencode: tuple[str, ...]) -> list[str]:
    """("arch=compute_120,code=sm_120",) -> ["120_real"]; PTX becomes "100_virtual"."""
    codes = [code.rpartition("code=")[2] for code in gencode]
    return [
        code.replace("sm_", "") + "_real" if "sm_" in code else code.replace("compute_", "") + "_virtual"
        for code in codes
    ]

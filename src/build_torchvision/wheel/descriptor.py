"""What a wheel says of itself: local version, file label, variant.json for variant-aware installers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from variantlib.api import VariantDescription, VariantInfo, VariantProperty, make_variant_dist_info
from variantlib.models.variant_info import ProviderInfo

from build_torchvision.errors import BadInput
from build_torchvision.flags import cuda_codegen
from build_torchvision.variants import Variant, parse

DESCRIPTOR = "build_torchvision.json"  # in dist-info: the variant, its inputs and its compiler
PROOF = "build_torchvision.proof.json"  # in dist-info: the static proof
RECORD_DIGEST = "record_sha256"  # in the proof: the sha256 of RECORD without the proof's own line
VARIANT_JSON = "variant.json"
# Who tells an installer which of these properties a machine has: namespace -> (requirement, entry point).
PROVIDERS = {
    "nvidia": ("nvidia-variant-provider>=0.0.1,<1", "nvidia_variant_provider.plugin:NvidiaVariantPlugin"),
    "x86_64": ("provider-variant-x86-64>=0.0.1,<1", "provider_variant_x86_64.plugin:X8664Plugin"),
    "aarch64": ("provider-variant-aarch64>=0.0.1,<1", "provider_variant_aarch64.plugin:AArch64Plugin"),
}


def label(variant: Variant, *, ptx: bool = False) -> str:
    """The short name of a variant among the wheels of one version: `avx512bf16`, `cu128_sm120_avx512`."""
    return "_".join([*_cuda_parts(variant), variant.isa, *(["ptx"] if ptx else [])])


def local_version(variant: Variant, *, paired: bool, ptx: bool = False, with_variant_label: bool = False) -> str:
    """The local part of the version: `cpu.avx512`, `cu128.sm120.avx512`; `.ptx` where PTX was added to the cubins,

    `.unpaired` where torch is another release's, or has no code for the variant's SM. With `with_variant_label` only
    this last remains, since an installer that chooses by hardware chooses among the wheels of one version.
    """
    if with_variant_label:
        return "" if paired else "unpaired"
    parts = _cuda_parts(variant) or ["cpu"]
    isa = variant.isa.replace("_", "")  # PEP 440 reads _ as a separator: armv8_2 would become armv8.2
    return ".".join([*parts, isa, *(["ptx"] if ptx else []), *([] if paired else ["unpaired"])])


def variant_json(variant: Variant, *, ptx: bool = False) -> str:
    """The text of variant.json, made with variantlib (schema v0.2); `ptx`: PTX was added to the cubins."""
    properties = [*variant.isa_facts.properties]
    codegen = cuda_codegen(variant, ptx=ptx)
    if codegen is not None:
        properties += [f"nvidia :: sm_arch :: {arch.lower()}" for arch in _sm_arch(codegen.gencode)]
    description = VariantDescription(
        properties=[VariantProperty.from_str(text) for text in properties], label=label(variant, ptx=ptx)
    )
    used = {prop.namespace for prop in description.properties}
    namespaces = [name for name in PROVIDERS if name in used]
    providers = {
        name: ProviderInfo(requires=[PROVIDERS[name][0]], plugin_api=PROVIDERS[name][1]) for name in namespaces
    }
    info = VariantInfo(namespace_priorities=namespaces, providers=providers)
    return str(make_variant_dist_info(description, variant_info=info, expand_aot_plugin_properties=False)) + "\n"


def claimed_by(name: Variant | None, descriptor: Mapping[str, Any], *, action: str, problem: str, hint: str) -> Variant:
    """The variant that a package claims to be: by its name, else by its descriptor. Raises BadInput without either."""
    if name is not None:
        return name
    try:
        return parse(str(descriptor["variant"]))
    except (KeyError, BadInput) as error:
        raise BadInput(action, problem, hint) from error


def _cuda_parts(variant: Variant) -> list[str]:
    return [f"cu{variant.cuda.replace('.', '')}", variant.sm] if variant.cuda and variant.sm else []


def _sm_arch(gencode: tuple[str, ...]) -> list[str]:
    """("arch=compute_120,code=sm_120",) -> ["120_real"]; PTX becomes "100_virtual"."""
    codes = [code.rpartition("code=")[2] for code in gencode]
    return [
        code.replace("sm_", "") + "_real" if "sm_" in code else code.replace("compute_", "") + "_virtual"
        for code in codes
    ]

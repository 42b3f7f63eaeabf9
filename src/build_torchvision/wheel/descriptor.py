"""What a wheel says of itself: local version, file label, variant.json for variant-aware installers."""

from __future__ import annotations

import warnings

from variantlib.api import VariantDescription, VariantInfo, VariantProperty, make_variant_dist_info

from build_torchvision.codegen import cuda_codegen
from build_torchvision.variants import Variant

DESCRIPTOR = "build_torchvision.json"  # in dist-info: the variant, its inputs and its compiler
PROOF = "build_torchvision.proof.json"  # in dist-info: the static proof
VARIANT_JSON = "variant.json"
ISA_PROPERTIES = {
    "avx2": ("x86_64 :: level :: v3",),
    "avx512": ("x86_64 :: level :: v4",),
    "avx512vnni": ("x86_64 :: level :: v4", "x86_64 :: avx512_vnni :: on"),
    "avx512bf16": ("x86_64 :: level :: v4", "x86_64 :: avx512_vnni :: on", "x86_64 :: avx512_bf16 :: on"),
    "armv8_2": ("aarch64 :: version :: 8.2a",),
    "armv9": ("aarch64 :: version :: 9.0a",),
}


def label(variant: Variant) -> str:
    """The short name of a variant among the wheels of one version: `avx512bf16`, `cu128_sm120_avx512`."""
    return "_".join([*_cuda_parts(variant), variant.isa])


def local_version(variant: Variant, *, paired: bool) -> str:
    """The local part of the version: `cpu.avx512`, `cu128.sm120.avx512`; `.unpaired` beside another release's torch."""
    parts = _cuda_parts(variant) or ["cpu"]
    isa = variant.isa.replace("_", "")  # PEP 440 reads _ as a separator: armv8_2 would become armv8.2
    return ".".join([*parts, isa, *([] if paired else ["unpaired"])])


def variant_json(variant: Variant) -> str:
    """The text of variant.json, made with variantlib (schema v0.2)."""
    properties = [*ISA_PROPERTIES[variant.isa]]
    codegen = cuda_codegen(variant)
    if codegen is not None:
        properties += [f"nvidia :: sm_arch :: {arch.lower()}" for arch in _sm_arch(codegen.gencode)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        description = VariantDescription(
            properties=[VariantProperty.from_str(text) for text in properties], label=label(variant)
        )
        namespaces = sorted({prop.namespace for prop in description.properties}, reverse=True)
        return str(
            make_variant_dist_info(
                description,
                variant_info=VariantInfo(namespace_priorities=namespaces),
                expand_aot_plugin_properties=False,
            )
        )


def _cuda_parts(variant: Variant) -> list[str]:
    return [f"cu{variant.cuda.replace('.', '')}", variant.sm] if variant.cuda and variant.sm else []


def _sm_arch(gencode: tuple[str, ...]) -> list[str]:
    """("arch=compute_120,code=sm_120",) -> ["120_real"]; PTX becomes "100_virtual"."""
    codes = [code.rpartition("code=")[2] for code in gencode]
    return [
        code.replace("sm_", "") + "_real" if "sm_" in code else code.replace("compute_", "") + "_virtual"
        for code in codes
    ]

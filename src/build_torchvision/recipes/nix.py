"""nix/matrix.json: the tables of facts in the form that the Nix side reads, so that no fact is written twice."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from build_torchvision.facts import Isa, gpus, isas, releases, toolkits, version_key
from build_torchvision.facts.nixpkgs import build_pytorch, cuda_legacy, nixpkgs_bounds
from build_torchvision.flags import cuda_codegen
from build_torchvision.inputs.source import GITHUB_ARCHIVE
from build_torchvision.recipes.text import MARK
from build_torchvision.variants import CPU, Variant, enumerate_variants
from build_torchvision.variants import PYTHONS as ALL_PYTHONS

PYTHONS = tuple(python for python in ALL_PYTHONS if not python.endswith("t"))
"""Pythons of the recipes: nixpkgs has no set of packages for the free-threaded ones, "313t"."""
SYSTEMS = {"x86_64": "x86_64-linux", "aarch64": "aarch64-linux"}


def files() -> dict[str, str]:
    """The data file."""
    return {"nix/matrix.json": json.dumps(matrix(), indent=1) + "\n"}


def matrix() -> dict[str, Any]:
    """What nix/variant.nix and nix/match.nix read."""
    pin, legacy = build_pytorch(), cuda_legacy()
    return {
        "//": f"{MARK} from src/build_torchvision/facts",
        "default": [str(variant) for variant in enumerate_variants()],
        "pythons": {python: f"{python[0]}.{python[1:]}" for python in PYTHONS},
        "isas": {
            isa.name: {
                "system": SYSTEMS[isa.platform],
                "flags": isa.flags,
                "features": system_features(isa),
                "firstCpus": isa.first_cpus,
            }
            for isa in isas().values()
        },
        "gpus": {
            gpu.sm: {
                "capability": gpu.capability,
                "name": f"{gpu.architecture}: {', '.join(gpu.products)}",
                "nixpkgs": asdict(bounds) if (bounds := nixpkgs_bounds().get(gpu.sm)) else None,
            }
            for gpu in gpus().values()
        },
        "tracks": {
            CPU: {"cuda": None, "cudaPackages": None, "cudaMajorPackages": None, "sms": {}},
            **{track: _track(track) for track in toolkits()},
        },
        "releases": {
            known.torchvision: {
                "torch": known.torch,
                "stableAbi": known.stable_abi,
                "url": GITHUB_ARCHIVE.format(version=known.torchvision),
                "sha256": known.sha256,
            }
            for known in releases().values()
        },
        "buildPytorch": {"rev": pin.rev, "url": pin.url, "sha256": pin.sha256},
        "cudaLegacy": {"url": legacy.url, "overlay": legacy.overlay},
    }


def _track(track: str) -> dict[str, Any]:
    toolkit = toolkits()[track]
    sms: dict[str, Any] = {}
    for variant in enumerate_variants(tracks=[track], sms=None):
        codegen = cuda_codegen(variant)
        assert codegen is not None
        assert variant.sm is not None
        row = sms.setdefault(
            variant.sm,
            {
                "kind": codegen.kind,
                "capability": gpus()[codegen.base].capability,
                "archList": codegen.arch_list,
                "gencode": codegen.gencode,
                "broken": {},
            },
        )
        reason = why_broken(variant)
        if reason:
            row["broken"][SYSTEMS[variant.platform]] = reason
    packages = f"cudaPackages_{track.removeprefix('cuda')}"
    return {
        "cuda": toolkit.version,
        "cudaPackages": packages,
        "cudaMajorPackages": packages.rpartition("_")[0],
        "sms": sms,
    }


def system_features(isa: Isa) -> list[str]:
    """The system features that a builder must have to run code of `isa`, as nix.conf's `system-features` names them.

    nixpkgs' own convention says gccarch-ARCH for -march=ARCH. What a flag adds beyond it, which no such name says of
    CPUs of every vendor, is a feature under the flag's own word: a Skylake-X has gccarch-x86-64-v4 and no avx512vnni.
    """
    found: list[str] = []
    for flag in isa.flags:
        name, _, value = flag.removeprefix("-m").partition("=")
        arch, *extensions = value.split("+") if value else [name]
        found += [f"gccarch-{arch}" if value else arch, *extensions]
    return found


def why_broken(variant: Variant) -> str | None:
    """Why nixpkgs cannot evaluate the variant's package set, or None where it can (nixpkgs.toml)."""
    codegen, cuda = cuda_codegen(variant), variant.cuda
    if codegen is None or cuda is None:
        return None
    sm = codegen.base
    bounds, capability = nixpkgs_bounds().get(sm), gpus()[sm].capability
    if bounds is None:
        return f"nixpkgs is not known to accept the capability {capability}: nixpkgs.toml has no row for {sm}."
    if version_key(cuda) < version_key(bounds.first):
        return f"nixpkgs accepts the capability {capability} from CUDA {bounds.first} on, and this track is {cuda}."
    if bounds.last and version_key(bounds.last) < version_key(cuda):
        return f"nixpkgs accepts the capability {capability} up to CUDA {bounds.last}, and this track is {cuda}."
    if bounds.jetson and variant.platform != "aarch64":
        return (
            f"nixpkgs evaluates the Jetson capability {capability} on aarch64-linux only, and no computer with such a "
            f"GPU has an {variant.platform} CPU."
        )
    return None

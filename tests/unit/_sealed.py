"""Proved, sealed wheels made from bytes: what `build` leaves in its folder, without a compiler."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from _elf import Object
from test_audit import OLD_STRING, TORCH, Wheel

from build_torchvision.spec import variant_label
from build_torchvision.variants import parse
from build_torchvision.verify.checks import Report
from build_torchvision.verify.static import TorchFacts, audit_wheel
from build_torchvision.wheel import archive
from build_torchvision.wheel.assemble import embed_report
from build_torchvision.wheel.descriptor import VARIANT_JSON, variant_json


def torch_beside(folder: Path) -> TorchFacts:
    folder.mkdir(exist_ok=True)
    for name in TORCH:
        (folder / name).write_bytes(Object(soname=name, defined=[OLD_STRING] if name == "libc10.so" else []).build())
    return TorchFacts(version="2.6.0", cuda=None, cxx11_abi=False, lib_dir=folder)


def sealed(
    folder: Path,
    variant: str = "torchvision-python313-cpu-avx512",
    *,
    with_variant_label: bool = False,
    any_python: bool = False,
) -> Path:
    """A wheel of `variant` in `folder`, with its descriptor, variant.json and a proof that was really made."""
    folder.mkdir(exist_ok=True)
    parsed = parse(variant)
    python = f"cp{parsed.python}"
    tag = "py3-none" if any_python else f"{python}-{python}"
    wheel = replace(Wheel(variant), tag=f"{tag}-manylinux_2_28_x86_64")
    if with_variant_label:
        wheel.version = "0.21.0"
        wheel.file_name = f"torchvision-{wheel.version}-{wheel.tag}-{variant_label(parsed)}.whl"
    info = f"torchvision-{wheel.version}.dist-info"

    def add(files: dict[str, bytes]) -> None:
        files[f"{info}/{VARIANT_JSON}"] = variant_json(parsed).encode()
        files[f"{info}/METADATA"] = files[f"{info}/METADATA"].replace(b"Name:", b"Requires-Python: >=3.9\nName:", 1)

    wheel.tamper = add
    plain = wheel.write(folder)
    path = embed_report(archive.read(plain), Report(variant=variant, checks=()).dumps(), plain)  # now RECORD is right
    return embed_report(
        archive.read(path), audit_wheel(path, torch=torch_beside(folder.parent / "torch")).dumps(), path
    )

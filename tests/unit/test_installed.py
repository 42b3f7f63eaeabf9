"""The proof of an installed tree catches planted faults. The store here is a folder of files made from bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from _elf import Object
from test_audit import (
    ADD_SSE,
    ADD_ZMM,
    FMA_YMM,
    MEMCPY,
    NEW_STRING,
    OLD_STRING,
    RET,
    TORCH,
    failing,
    schemas,
)

from build_torchvision.errors import BadInput, MissingInput
from build_torchvision.verify.installed import InstalledTree, claimed
from build_torchvision.verify.runtime import probe_installed
from build_torchvision.verify.session import VerifyOptions, verify_wheel

HASH = "0123456789abcdfghijklmnpqrsvwxyz"
SITE = "lib/python3.13/site-packages"


@dataclass
class Tree:
    """A store with a torchvision, its torch and its libjpeg that are what they say, until a test changes something."""

    root: Path
    name: str = "torchvision-python313-cpu-avx512-0.21.0"
    site: str = SITE
    torch_version: str = "2.6.0"
    main: Object = field(default_factory=Object)
    image: Object = field(default_factory=Object)
    descriptor: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.torch = self.root / f"{HASH}-torch-2.6.0"
        self.jpeg = self.root / f"{HASH}-libjpeg-3" / "lib"
        needed = [*TORCH, "libstdc++.so.6", "libc.so.6"]
        undefined = {OLD_STRING: None, "memcpy": MEMCPY, "PyErr_Clear": None}
        run_path = f"{self.torch / SITE}/torch/lib:{self.jpeg}"
        self.main = Object(
            code=FMA_YMM + ADD_ZMM + RET,
            rodata=schemas("torchvision"),
            needed=needed,
            undefined=dict(undefined),
            runpath=run_path,
        )
        self.image = Object(
            rodata=schemas("image"),
            needed=["libjpeg.so.62", *needed],
            undefined={**undefined, "jpeg_start": None},
            runpath=run_path,
        )
        self.descriptor = {"variant": "torchvision-python313-cpu-avx512"}

    def write(self) -> Path:
        lib, path = self.torch / SITE / "torch", self.root / f"{HASH}-{self.name}"
        texts = {
            path / self.site / "torchvision-0.21.0.dist-info" / "METADATA": "Name: torchvision\nVersion: 0.21.0\n",
            path / self.site / "torchvision-0.21.0.dist-info" / "build_torchvision.json": json.dumps(self.descriptor),
            path / "nix-support" / "propagated-build-inputs": f"{self.torch}\n",
            lib / "version.py": f"__version__ = '{self.torch_version}'\ncuda = None\n",
            lib / "include" / "torch.h": "",
        }
        objects = {path / self.site / "torchvision" / "_C.so": self.main, self.jpeg / "libjpeg.so.62": None}
        objects |= {path / self.site / "torchvision" / "image.so": self.image}
        objects |= {lib / "lib" / name: None for name in TORCH}
        for file, text in texts.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        for file, made in objects.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            defined = {"libc10.so": [OLD_STRING, NEW_STRING], "libjpeg.so.62": ["jpeg_start"]}.get(file.name, [])
            file.write_bytes((made or Object(soname=file.name, defined=defined)).build())
        link = self.root / "result"
        link.symlink_to(path)
        return link


def failed(tree: Tree) -> dict[str, str]:
    return failing(verify_wheel(tree.write(), options=VerifyOptions(static_only=True)))


def test_a_store_path_that_is_what_its_name_says_is_proved(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    proof = verify_wheel(tree.write(), options=VerifyOptions(static_only=True))
    assert failing(proof) == {}
    assert proof.variant == "torchvision-python313-cpu-avx512"
    said = {check.name: check.detail for check in proof.checks}
    assert said["codecs"] == "linked: jpeg"
    assert str(tmp_path) in said["run paths"]
    assert "manylinux" in said["notes"]
    assert "2.6.0" in said["companion"]


SYMBOL = "_ZN2at9somethingEv"
FAULTS: dict[str, tuple[Callable[[Tree], object], str, str]] = {
    "a generic build": (lambda t: setattr(t.main, "code", ADD_SSE * 50 + RET), "ISA in use", "trap 1"),
    "instructions beyond the name": (
        lambda t: (setattr(t, "name", t.name.replace("avx512", "avx2")), t.descriptor.clear()),
        "instructions",
        "AVX512F",
    ),
    "another variant in the descriptor": (
        lambda t: t.descriptor.update(variant="torchvision-python313-cpu-avx2"),
        "identity",
        "the descriptor says torchvision-python313-cpu-avx2",
    ),
    "another Python's folder": (
        lambda t: setattr(t, "site", SITE.replace("3.13", "3.12")), "identity", "installed for Python 312"
    ),
    "another version's store path": (
        lambda t: setattr(t, "name", "torchvision-python313-cpu-avx512-0.22.1"), "identity", "METADATA 0.21.0"
    ),
    "another release's torch": (lambda t: setattr(t, "torch_version", "2.7.1"), "companion", "trap 6"),
    "a run path outside the store": (
        lambda t: setattr(t.main, "runpath", f"{t.main.runpath}:/build/source/lib"), "run paths", "trap 8"
    ),
    "a run path that leaves the store": (
        lambda t: setattr(t.main, "runpath", f"{t.main.runpath}:{t.root}/../lib"), "run paths", "trap 8"
    ),
    "an empty run path entry, which is the working directory": (
        lambda t: setattr(t.main, "runpath", f"{t.main.runpath}:"), "run paths", "''"
    ),
    "a library that no run path leads to": (
        lambda t: setattr(t.image, "needed", [*t.image.needed, "libwebp.so.7"]), "libraries", "libwebp.so.7"
    ),
    "a symbol that nothing brings": (
        lambda t: t.main.undefined.update({SYMBOL: None}), "symbols", SYMBOL
    ),
    "the other C++ ABI": (lambda t: t.main.undefined.update({NEW_STRING: None}), "C++ ABI", "trap 7"),
    "a stripped operator": (
        lambda t: setattr(t.main, "rodata", t.main.rodata.replace(b"::roi_align(", b"::roi_xxxxx(")),
        "operators",
        "torchvision::roi_align",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_a_store_path_is_caught_by_name(fault: str, tmp_path: Path) -> None:
    change, check, said = FAULTS[fault]
    tree = Tree(tmp_path)
    change(tree)
    assert said in failed(tree)[check]


def test_a_torch_is_found_by_run_path_where_nothing_is_propagated(tmp_path: Path) -> None:
    link = Tree(tmp_path).write()
    (link / "nix-support" / "propagated-build-inputs").unlink()
    assert verify_wheel(link, options=VerifyOptions(static_only=True)).ok


def test_what_is_no_installed_tree_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not one"):
        InstalledTree(tmp_path)


def test_a_folder_that_names_no_variant_is_asked_which_it_is(tmp_path: Path) -> None:
    tree = Tree(tmp_path, name="something")
    tree.descriptor = {}
    with pytest.raises(BadInput, match="--variant"):
        claimed(InstalledTree(tree.write()))


def test_without_a_python_nothing_is_run_and_the_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match="--static"):
        probe_installed(InstalledTree(Tree(tmp_path).write()))

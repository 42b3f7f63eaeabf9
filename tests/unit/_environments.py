"""Small environments made of real file formats: METADATA, ELF files with symbols, fat binaries."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from _elf import Object, fatbin

from build_torchvision.wheel.descriptor import DESCRIPTOR

ADD_ZMM = bytes.fromhex("62f1744858c2")  # vaddps zmm0, zmm1, zmm2
RET = b"\xc3"
RET_ARM = b"\xc0\x03\x5f\xd6"
TORCH = ("libc10.so", "libtorch.so", "libtorch_cpu.so")
OLD = "_ZN3c105ErrorC2ENS_14SourceLocationESs"
NEW = "_ZN3c105ErrorC2ENS_14SourceLocationENSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
OP = "_ZN2at4_ops8index_op4callERKNS_6TensorE"
INDEX = "https://download.pytorch.org/whl"
JPEG = "libjpeg-1a2b3c4d.so.62"
CUDA = ("libcudart.so.12", "libc10_cuda.so", "libtorch_cuda.so")


@dataclass
class Site:
    """An environment that is healthy until a test changes something."""

    python: str = "3.12"
    torch: str = "2.8.0+cpu"
    torch_cuda: str | None = None
    torch_constants: dict[str, str | None] = field(default_factory=dict)
    """What else torch/version.py assigns, such as hip."""
    torch_metadata: str = ""
    torch_libraries: dict[str, Object] = field(default_factory=dict)
    torchvision: str = "0.23.0"
    requirement: str = "torch==2.8.0"
    main: Object = field(default_factory=Object)
    image: Object = field(default_factory=Object)
    bundled: list[str] = field(default_factory=lambda: [JPEG])
    descriptor: dict[str, object] = field(default_factory=dict)
    requires: tuple[str, ...] = ()
    """What TorchVision's metadata requires beside torch."""
    installer: str = "pip"
    tamper: Callable[[Path], object] = lambda site: None

    def __post_init__(self) -> None:
        self.main = Object(code=RET, needed=[*TORCH, "libc.so.6"], undefined={NEW: None, OP: None})
        self.image = Object(code=RET, needed=[JPEG, *TORCH, "libc.so.6"], undefined={NEW: None, "jpeg_start": None})
        self.torch_libraries = {name: Object(soname=name) for name in TORCH}
        self.torch_libraries["libc10.so"] = Object(defined=[NEW])
        self.torch_libraries["libtorch_cpu.so"] = Object(defined=[OP])

    def for_arm(self) -> Site:
        """The same, compiled for AArch64."""
        for name in ("main", "image"):
            setattr(self, name, replace(getattr(self, name), machine=183, code=RET_ARM))
        self.torch_libraries = {
            name: replace(library, machine=183, code=RET_ARM) for name, library in self.torch_libraries.items()
        }
        return self

    def with_torch_cuda(self, torch: str, cuda: str, *images: str) -> Site:
        """The same torch with CUDA, and TorchVision without GPU code."""
        self.torch, self.torch_cuda = torch, cuda
        names = [name.replace("so.12", f"so.{cuda.partition('.')[0]}") for name in CUDA]
        self.torch_libraries |= {name: Object(soname=name, fatbin=fatbin(*images)) for name in names}
        return self

    def with_cuda(self, torch: str, cuda: str, *images: str, torch_images: tuple[str, ...] = ()) -> Site:
        """The same with CUDA: GPU code in both."""
        self.torch, self.torch_cuda = torch, cuda
        self.main = replace(self.main, needed=[*self.main.needed, *CUDA], fatbin=fatbin(*images))
        code = fatbin(*(torch_images or images))
        self.torch_libraries |= {name: Object(soname=name, fatbin=code) for name in CUDA}
        return self

    def write(self, root: Path) -> Path:
        site = root / "lib" / f"python{self.python}" / "site-packages"
        uv = self.installer == "uv"
        if not uv:
            (site / "pip").mkdir(parents=True)
            (site / "pip" / "__init__.py").write_text("", encoding="utf-8")
        (root / "bin").mkdir(parents=True, exist_ok=True)
        (root / "bin" / "python").write_text("", encoding="utf-8")
        said = f"uv = 0.9.9\nversion_info = {self.python}.1\n" if uv else f"version = {self.python}.1\n"
        (root / "pyvenv.cfg").write_text(f"home = /usr/bin\n{said}", encoding="utf-8")
        self.fill(site)
        return root

    def fill(self, site: Path) -> None:
        """Put both packages into the folder `site`."""
        self.fill_torch(site)
        self.fill_torchvision(site)
        self.tamper(site)

    def fill_torch(self, site: Path) -> None:
        lib = site / "torch" / "lib"
        lib.mkdir(parents=True)
        (site / "torch" / "include").mkdir()
        (site / "torch" / "__init__.py").write_text("raise SystemExit('doctor imports nothing')", encoding="utf-8")
        stated = {"cuda": self.torch_cuda, **self.torch_constants}
        text = "".join(f"{key} = {value!r}\n" for key, value in stated.items())
        (site / "torch" / "version.py").write_text(f"__version__ = '{self.torch}'\n{text}", encoding="utf-8")
        metadata(site, "torch", self.torch, self.torch_metadata)
        for name, library in self.torch_libraries.items():
            (lib / name).write_bytes(library.build())

    def fill_torchvision(self, site: Path) -> None:
        package = site / "torchvision"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("raise SystemExit('doctor imports nothing')", encoding="utf-8")
        (package / "_C.so").write_bytes(self.main.build())
        (package / "image.so").write_bytes(self.image.build())
        (site / "torchvision.libs").mkdir()
        for name in self.bundled:
            (site / "torchvision.libs" / name).write_bytes(Object(soname=name, defined=["jpeg_start"]).build())
        asked = [self.requirement, *self.requires] if self.requirement else list(self.requires)
        more = "".join(f"Requires-Dist: {text}\n" for text in asked)
        info = metadata(site, "torchvision", self.torchvision, more)
        files = ["torchvision/_C.so", "torchvision/image.so", *(f"torchvision.libs/{name}" for name in self.bundled)]
        (info / "RECORD").write_text("".join(f"{name},,\n" for name in files), encoding="utf-8")
        if self.descriptor:
            (info / DESCRIPTOR).write_text(json.dumps(self.descriptor), encoding="utf-8")


def metadata(site: Path, name: str, version: str, more: str = "") -> Path:
    info = site / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{more}", encoding="utf-8")
    return info

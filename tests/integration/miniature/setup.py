"""A release in miniature: what TorchVision's own setup.py files have done since 0.21, in a page.

`layout.txt` says which of their arrangements this is: `unstable` (_C and image), `stable` (_C_stable and image_stable),
`both` (all four side by side: a list in this file divides the sources of operators, and those of images are compiled
for each) or `no-images` (_C_stable alone).
"""

import os
import sys
from pathlib import Path

from setuptools import find_packages, setup
from torch.utils.cpp_extension import CUDA_HOME, BuildExtension, CppExtension, CUDAExtension

ROOT = Path(__file__).absolute().parent
CSRC = ROOT / "torchvision" / "csrc"
LAYOUT = (ROOT / "layout.txt").read_text().strip()
CUDA = os.getenv("FORCE_CUDA", "0") == "1"
USE_PNG = os.getenv("TORCHVISION_USE_PNG", "1") == "1"

TORCH_TARGET_VERSION = "0x020b000000000000"
STABLE_SOURCES = {
    CSRC / "vision_stable.cpp",
    CSRC / "ops/scale.cpp",
    CSRC / "ops/cpu/scale_kernel.cpp",
    CSRC / "ops/cuda/scale_kernel.cu",
}


def sources(stable, *patterns):
    found = [path for pattern in patterns for path in CSRC.glob(pattern)]
    return sorted(str(path) for path in found if (path in STABLE_SOURCES) == stable)


def macros_and_flags(stable):
    define_macros = []
    extra_compile_args = {"cxx": ["-g0"]}
    if CUDA:
        define_macros.append(("WITH_CUDA", None))
        extra_compile_args["nvcc"] = []
    if sys.platform == "win32":
        extra_compile_args["cxx"].append("/MP")
    if stable:
        target = f"-DTORCH_TARGET_VERSION={TORCH_TARGET_VERSION}"
        extra_compile_args["cxx"].append(target)
        if CUDA:
            extra_compile_args["nvcc"] += [target, "-DUSE_CUDA"]
            extra_compile_args["cxx"].append("-DUSE_CUDA")
    return define_macros, extra_compile_args


def operators(name, stable):
    patterns = ["*.cpp", "ops/*.cpp", "ops/cpu/*.cpp"] + ["ops/cuda/*.cu"] * CUDA
    define_macros, extra_compile_args = macros_and_flags(stable)
    return (CUDAExtension if CUDA else CppExtension)(
        name=f"torchvision.{name}",
        sources=sources(stable, *patterns),
        include_dirs=[CSRC],
        define_macros=define_macros,
        extra_compile_args=extra_compile_args,
    )


def images(name, stable):
    define_macros, extra_compile_args = macros_and_flags(stable)
    libraries = []
    if USE_PNG:
        define_macros += [("PNG_FOUND", 1)]
        libraries.append("png")
    return CppExtension(
        name=f"torchvision.{name}",
        sources=[*sorted(map(str, CSRC.glob("io/image/*.cpp"))), str(CSRC / "io/image/cpu/version.c")],
        define_macros=define_macros,
        libraries=libraries,
        extra_compile_args=extra_compile_args,
    )


EXTENSIONS = {
    "unstable": lambda: [operators("_C", False), images("image", False)],
    "stable": lambda: [operators("_C_stable", True), images("image_stable", True)],
    "both": lambda: [
        operators("_C", False),
        images("image", False),
        operators("_C_stable", True),
        images("image_stable", True),
    ],
    "no-images": lambda: [operators("_C_stable", True)],
}

if __name__ == "__main__":
    with open(ROOT / "torchvision" / "version.py", "w", encoding="utf-8") as file:  # noqa: PTH123 (as upstream does)
        file.write(f"__version__ = '{os.getenv('BUILD_VERSION')}'\ncuda = {CUDA_HOME is not None}\n")
    setup(
        name="torchvision",
        version=os.getenv("BUILD_VERSION"),
        packages=find_packages(),
        package_data={"torchvision": ["*.so"]},
        install_requires=["numpy", "torch"],
        ext_modules=EXTENSIONS[LAYOUT](),
        cmdclass={"build_ext": BuildExtension.with_options(no_python_abi_suffix=True)},
    )

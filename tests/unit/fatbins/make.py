"""Make the fat binaries beside this file anew: python tests/unit/fatbins/make.py (fetches CUDA 13.0's tools)."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from build_torchvision.inputs.compiler import find_compiler
from build_torchvision.inputs.cuda_sdk import cuda_sdk

HERE = Path(__file__).parent
SETS = {
    "sm80": ["cubin80"],
    "sm90": ["cubin90"],
    "sm90a": ["cubin90a"],
    "sm80-sm90": ["cubin80", "cubin90"],
    "sm80-ptx80": ["cubin80", "ptx80"],
    "ptx80": ["ptx80"],
}


def main() -> None:
    sdk, clang = cuda_sdk("cuda13_0"), find_compiler("clang", "x86_64")
    with tempfile.TemporaryDirectory() as name:
        options = {}
        for sm in ("80", "90", "90a"):
            ptx, cubin = Path(name, f"{sm}.ptx"), Path(name, f"{sm}.cubin")
            flags = ("-x", "cuda", "--cuda-device-only", "-nocudainc", "-nocudalib", f"--cuda-gpu-arch=sm_{sm}", "-O1")
            source = HERE / "tiny.cu"
            subprocess.run([*clang.command, *flags, "-fno-unroll-loops", "-S", source, "-o", ptx], check=True)
            subprocess.run([sdk.ptxas, f"-arch=sm_{sm}", ptx, "-o", cubin], check=True)
            options[f"ptx{sm}"] = f"--image3=kind=ptx,sm={sm},file={ptx}"
            options[f"cubin{sm}"] = f"--image3=kind=elf,sm={sm},file={cubin}"
        for title, kinds in SETS.items():
            out = f"--create={HERE / title}.fatbin"
            compress = ("--compress-all", "--compress-mode=speed")
            subprocess.run([sdk.fatbinary, "-64", *compress, out, *(options[kind] for kind in kinds)], check=True)


if __name__ == "__main__":
    main()

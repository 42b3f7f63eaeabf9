"""Ask a TorchVision release's own setup.py what it builds: modules, sources, macros, compile arguments, metadata."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path

from build_torchvision.errors import BadInput
from build_torchvision.process import run

# The header by which setup.py decides that a codec is there, and the switch that keeps it from looking.
CODEC_HEADERS = {"jpeg": "jpeglib.h", "png": "png.h", "webp": "webp/decode.h"}
KEPT = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR")  # of the environment: what a Python needs to run
TARGET_MACRO = "TORCH_TARGET_VERSION"
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(<[^>\n]+>|"[^"\n]+")', re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Extension:
    """One extension module: sources and include folders relative to the release's root, macros as compiler flags.

    `cxx_flags` and `nvcc_flags` are setup.py's own arguments (`extra_compile_args`) for C++ and for CUDA sources.
    """

    name: str
    sources: tuple[str, ...]
    macros: tuple[str, ...]
    libraries: tuple[str, ...]
    include_dirs: tuple[str, ...]
    cxx_flags: tuple[str, ...] = ()
    nvcc_flags: tuple[str, ...] = ()
    link_flags: tuple[str, ...] = ()
    includes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # a source -> what it includes itself

    @property
    def module(self) -> str:
        """The file's stem: `_C`, `image`, `_C_stable`, `image_stable`."""
        return self.name.rpartition(".")[2]

    @property
    def torch_target(self) -> str | None:
        """The oldest torch that a module of the stable ABI runs with, as TORCH_TARGET_VERSION gives it; else None.

        torch's headers for everything else stop with #error where this macro is defined.
        """
        prefix = f"-D{TARGET_MACRO}="
        return next((flag[len(prefix) :] for flag in (*self.macros, *self.cxx_flags) if flag.startswith(prefix)), None)


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """setup.py's answer: extensions, metadata for the wheel, and the text of the files that it would write."""

    extensions: tuple[Extension, ...]
    metadata: Mapping[str, str]
    long_description: str
    requires: tuple[str, ...]
    extras: Mapping[str, tuple[str, ...]]
    packages: tuple[str, ...]
    package_data: Mapping[str, tuple[str, ...]]
    written: Mapping[str, str] = field(default_factory=dict)


def ask_upstream(
    root: Path, *, version: str, torch: str, cuda: str | None, codecs: Set[str], nvjpeg: bool = True
) -> Upstream:
    """Run `root`/setup.py against a stand-in torch. `version` goes into the metadata.

    `cuda` is torch's CUDA version, or None for a CPU build; `nvjpeg` whether that toolkit has nvJPEG. The host's own
    headers have no say: setup.py sees exactly `codecs` (of jpeg, png, webp).
    Raises BadInput when the script cannot be asked.
    """
    with tempfile.TemporaryDirectory(prefix="ask-setup-") as scratch:
        headers, tools = Path(scratch, "include"), Path(scratch, "bin")
        for codec in codecs:
            header = headers / CODEC_HEADERS[codec]
            header.parent.mkdir(parents=True, exist_ok=True)
            header.touch()
        tools.mkdir()
        config = tools / "libpng-config"
        config.write_text(
            "#!/bin/sh\ncase $1 in --version) echo 1.6.40;; --I_opts) echo -I/png;; *) echo /png;; esac\n",
            encoding="utf-8",
        )
        config.chmod(0o755)
        cuda_home = None
        if cuda:
            cuda_home = str(Path(scratch, "cuda"))
            Path(cuda_home, "include").mkdir(parents=True)
            if nvjpeg:
                Path(cuda_home, "include", "nvjpeg.h").touch()
        # Whatever else is set (DEBUG, NVCC_FLAGS, CONDA_PREFIX, ...) would have a say in what setup.py builds.
        env = {key: os.environ[key] for key in KEPT if key in os.environ}
        env |= {
            "PATH": f"{tools}:{os.environ.get('PATH', '')}",
            "BUILD_VERSION": version,
            "FORCE_CUDA": "1" if cuda else "0",
            "TORCHVISION_INCLUDE": str(headers),
            "TORCHVISION_USE_FFMPEG": "0",
            "TORCHVISION_USE_VIDEO_CODEC": "0",
            "GIT_DIR": os.devnull,  # the source may lie inside somebody else's repository
        }
        env |= {f"TORCHVISION_USE_{codec.upper()}": str(int(codec in codecs)) for codec in CODEC_HEADERS}
        request = {"torch": torch, "cuda": cuda, "cuda_home": cuda_home}
        script = Path(__file__).with_name("_ask_setup.py")
        done = run(
            [sys.executable, script, json.dumps(request)],
            action=f"asking {root}/setup.py what it builds",
            hint="Check that --source holds a TorchVision release.",
            cwd=root,
            env=env,
        )
    answer = json.loads(done.stdout)
    if not answer["extensions"]:
        raise BadInput(f"asking {root}/setup.py what it builds", "it names no extension.", "Check --source.")
    extensions = tuple(
        Extension(
            name=row["name"],
            sources=tuple(row["sources"]),
            macros=(
                *(f"-D{name}" if value is None else f"-D{name}={value}" for name, value in row["macros"]),
                *(f"-U{name}" for name in row["undefined"]),
            ),
            libraries=tuple(row["libraries"]),
            cxx_flags=tuple(row["cxx_flags"]),
            nvcc_flags=tuple(row["nvcc_flags"]),
            link_flags=tuple(row["link_flags"]),
            include_dirs=tuple(row["include_dirs"]),
            includes={source: _includes(root, source) for source in row["sources"]},
        )
        for row in answer["extensions"]
    )
    return Upstream(
        extensions=extensions,
        metadata=answer["metadata"],
        long_description=answer["long_description"],
        requires=tuple(answer["requires"]),
        extras={key: tuple(value) for key, value in answer["extras"].items()},
        packages=tuple(answer["packages"]),
        package_data={key: tuple(value) for key, value in answer["package_data"].items()},
        written=answer["written"],
    )


def _includes(root: Path, source: str) -> tuple[str, ...]:
    """What `source` includes, in its order: `<ATen/ATen.h>`, or `"torchvision/csrc/…/x.h"` for a file beside it."""
    path = root / source
    found = INCLUDE.findall(path.read_text(encoding="utf-8", errors="replace"))
    beside = Path(source).parent
    return tuple(
        f'"{beside / name[1:-1]}"' if name[0] == '"' and (path.parent / name[1:-1]).is_file() else name
        for name in found
    )

"""Assemble the pinned toolchain: glibc's and libstdc++'s headers, what a wheel links against, the linker and nasm.

With it a build needs nothing of the distribution it runs on, and the same inputs give the same bytes on each. The C++
compiler's package brings headers and symbol lists of every glibc; pinned Debian packages bring the rest.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import platform as host
import re
import shlex
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import quote

from build_torchvision.errors import BadInput
from build_torchvision.facts import version_key
from build_torchvision.facts.toolchain import ARCHITECTURES, ToolchainPackage, toolchain_packages
from build_torchvision.inputs.cache import cache_dir, inventory_fault, publish, sha256_of, write_inventory
from build_torchvision.inputs.origins import from_mirror, from_url, pinned_file
from build_torchvision.process import run

# What auditwheel and the stock wheels call manylinux_2_28, and the next level in use; host is this machine's own.
GlibcChoice = Literal["2.28", "2.34", "host"]
GLIBCS = tuple(level for level in get_args(GlibcChoice) if level != "host")
DEFAULT_GLIBC = GLIBCS[0]
MIRROR = "BUILD_TORCHVISION_DEBIAN_MIRROR"  # the address of a Debian archive, for machines whose apt has none
# Linked in this order, after TorchVision's own objects and torch.
RUNTIME_LIBRARIES = ("stdc++", "m", "gcc_s", "pthread", "dl", "c", "ld")
# From this glibc on (its NEWS) libc itself holds these, and zig makes no library of their names to link with.
MERGED_FROM, MERGED = "2.34", frozenset({"pthread", "dl"})
# zig's folders of C headers, best first, below lib/libc/include.
C_HEADERS = {
    "x86_64": ("x86-linux-gnu", "generic-glibc", "x86-linux-any", "any-linux-any"),
    "aarch64": ("aarch64-linux-gnu", "generic-glibc", "aarch64-linux-any", "any-linux-any"),
}
FIRST_SINGLE_THREADED = "2.32"  # the first glibc with <sys/single_threaded.h>
# libstdc++ 12 includes the header wherever it finds one. runtime_support.cpp defines the variable.
SINGLE_THREADED = """#pragma once
#ifdef __cplusplus
extern "C"
#endif
extern char __libc_single_threaded __attribute__((visibility("hidden")));
"""
_AR_MAGIC, _AR_HEADER = b"!<arch>\n", 60


@dataclass(frozen=True, kw_only=True)
class Toolchain:
    """Headers, libraries and programs for one platform and glibc, below `root`. `zig` and `resources` are clang's."""

    root: Path
    platform: str
    glibc: str
    zig: Path
    resources: Path

    @property
    def c_flags(self) -> tuple[str, ...]:
        """clang's flags for C: these headers alone, after whatever the source's own flags name."""
        headers = self.zig.parent / "lib" / "libc" / "include"
        folders = [self.resources / "include", self.root / "include" / "glibc"]
        folders += [headers / name for name in C_HEADERS[self.platform]]
        return (
            "-nostdinc",
            f"--sysroot={self.root}",
            f"-D__GLIBC_MINOR__={self.glibc.partition('.')[2]}",
            f"-ffile-prefix-map={self.root}=toolchain",
            f"-ffile-prefix-map={self.zig.parent}=ziglang",
            *_after(folders),
        )

    @property
    def cxx_flags(self) -> tuple[str, ...]:
        """clang's flags for C++."""
        include = self.root / "include"
        folders = [include / "c++", include / "c++-target", include / "c++" / "backward"]
        return (*_after(folders), *self.c_flags)

    @property
    def link_flags(self) -> tuple[str, ...]:
        """clang's flags to link with the pinned linker, against nothing but `runtime` and what is named."""
        linker = self.root / "bin" / "ld.lld"
        return (f"--ld-path={linker}", f"--sysroot={self.root}", "-nostdlib", f"-L{self.root / 'lib'}")

    @property
    def runtime(self) -> tuple[str, ...]:
        """What every link ends with: the C and C++ runtime libraries, and glibc's part that is linked statically."""
        gone = MERGED if version_key(self.glibc) >= version_key(MERGED_FROM) else frozenset[str]()
        names = (name for name in RUNTIME_LIBRARIES if name not in gone)
        return (*(f"-l{name}" for name in names), str(self.root / "lib" / "libc_nonshared.a"))

    @property
    def nasm(self) -> Path:
        return self.root / "bin" / "nasm"


def fetch_toolchain(platform: str, glibc: str, zig: Path, resources: Path) -> Toolchain:
    """The toolchain for `platform` and `glibc` ("2.28"), fetched and assembled once, then from the cache.

    `zig` and `resources` are the compiler's program and its folder of headers. Raises BadInput for an unknown glibc,
    FetchFailed where a package is not to be had.
    """
    if glibc not in GLIBCS:
        raise BadInput(f"--glibc {glibc}", "No such level is supported.", f"Choose {', '.join(GLIBCS)} or host.")
    rows = toolchain_packages()
    pins = [(name, row.digest(_platform_of(row, platform))) for name, row in rows.items()]
    facts = {"platform": platform, "glibc": glibc, "host": host.machine(), "zig": str(zig), "pins": pins}
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    entry = cache_dir() / "toolchain" / f"{platform}-glibc{glibc}-{key}"

    def fill(part: Path) -> None:
        tree = part / "tree"
        for row in rows.values():
            machine = _platform_of(row, platform)
            unpack_deb(_package(row, machine), tree, row.kept(machine))
        (tree / "include" / "glibc" / "sys").mkdir(parents=True)
        if version_key(glibc) < version_key(FIRST_SINGLE_THREADED):
            header = tree / "include" / "glibc" / "sys" / "single_threaded.h"
            header.write_text(SINGLE_THREADED, encoding="utf-8")
        _add_stubs(tree / "lib", platform, glibc, zig)
        linker = tree / "bin" / "ld.lld"
        linker.write_text(f'#!/bin/sh\nexec {shlex.quote(str(zig))} ld.lld "$@"\n', encoding="utf-8")
        for program in (linker, tree / "bin" / "nasm"):
            program.chmod(0o755)
        write_inventory(part, {"glibc": glibc, "platform": platform}, sha256_of)

    publish(entry, fill, lambda found: inventory_fault(found, sha256_of))
    return Toolchain(root=entry / "tree", platform=platform, glibc=glibc, zig=zig, resources=resources)


def _platform_of(row: ToolchainPackage, platform: str) -> str:
    if row.runs_on == "target":
        return platform
    machine = host.machine()
    if machine not in ARCHITECTURES:
        raise BadInput(
            f"Use {row.package} on {machine}",
            f"It is pinned for {' and '.join(ARCHITECTURES)} alone.",
            "Build on one of these, or choose --glibc host.",
        )
    return machine


def _package(row: ToolchainPackage, platform: str) -> Path:
    digest, pool = row.digest(platform), row.pool_path(platform)
    origins = [("the apt mirror", from_mirror(pool, digest))]
    if mirror := os.environ.get(MIRROR):
        # Quoted, since an archive's server may read + as a blank.
        origins.insert(0, (f"${MIRROR}", from_url(f"{mirror.rstrip('/')}/{quote(pool)}")))
    return pinned_file(
        cache_dir() / "toolchain" / pool.rpartition("/")[2],
        digest,
        origins,
        action=f"Fetch {row.package} {row.version} for {platform}",
        hint=f"Set {MIRROR} to the address of a Debian archive, or choose --glibc host and install a g++.",
    )


def unpack_deb(deb: Path, tree: Path, keep: Mapping[str, str]) -> None:
    """Unpack from a Debian package what `keep` names (path or folder in the package -> path in `tree`).

    Raises BadInput for a file that is no such package, or lacks one of them.
    """
    action = f"Unpack {deb.name}"
    wanted = dict(keep)
    missing = set(wanted)
    with tempfile.TemporaryFile() as file:
        file.write(lzma.decompress(_member(deb, "data.tar.xz", action)))
        file.seek(0)
        with tarfile.open(fileobj=file) as archive:
            for member in archive:
                path = member.name.removeprefix("./")
                source = next((old for old in wanted if path == old or path.startswith(f"{old}/")), None)
                if source is None or ".." in path.split("/"):
                    continue
                target = tree / (wanted[source] + path[len(source) :])
                if member.isfile():
                    missing.discard(source)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    content = archive.extractfile(member)
                    assert content is not None, "a regular file has content"
                    with content, target.open("wb") as out:
                        shutil.copyfileobj(content, out)
    if missing:
        raise BadInput(action, f"It has no {', '.join(sorted(missing))}.", "Correct facts/toolchain.toml.")


def _member(deb: Path, name: str, action: str) -> bytes:
    """One member of an ar archive (deb(5))."""
    data = deb.read_bytes()
    at = len(_AR_MAGIC)
    while data.startswith(_AR_MAGIC) and at + _AR_HEADER <= len(data):
        header = data[at : at + _AR_HEADER]
        size = int(header[48:58])
        at += _AR_HEADER
        if header[:16].decode(errors="replace").strip().rstrip("/") == name:
            return data[at : at + size]
        at += size + size % 2
    raise BadInput(action, f"It is no Debian package with {name}.", "Fetch it again.")


def _add_stubs(lib: Path, platform: str, glibc: str, zig: Path) -> None:
    """Put the stub libraries of `glibc`, and its part that is linked statically, into `lib`, made by zig.

    A stub has each symbol with the versions that this glibc had, so that the linker takes no newer one.
    """
    action = f"Make glibc {glibc}'s stub libraries for {platform}"
    with tempfile.TemporaryDirectory(prefix="stubs-") as name:
        scratch = Path(name)
        env = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(scratch), "ZIG_LOCAL_CACHE_DIR": str(scratch)}
        target = ("-target", f"{platform}-linux-gnu.{glibc}")
        empty = scratch / "empty.c"
        empty.write_text("", encoding="utf-8")
        command = [str(zig), "build-lib", "-dynamic", *target, "-lc", "-fno-compiler-rt", "-fno-ubsan-rt"]
        run([*command, str(empty), f"-femit-bin={scratch / 'out.so'}"], action=action, env=env, cwd=scratch)
        stubs = list(_stubs(scratch))
        if not any(stub.name.startswith("libc.so") for stub in stubs):
            raise BadInput(
                action, "The pinned compiler left none.", "Remove its folder from the cache; it is fetched again."
            )
        lib.mkdir(parents=True, exist_ok=True)
        for stub in stubs:
            shutil.copyfile(stub, lib / re.sub(r"\.so\.\d+$", ".so", stub.name))


def _stubs(scratch: Path) -> Iterator[Path]:
    for libc in scratch.glob("o/*/libc.so.6"):
        yield from libc.parent.glob("lib*.so.*")
    yield from scratch.glob("o/*/libc_nonshared.a")


def _after(folders: Sequence[Path]) -> Iterator[str]:
    for folder in folders:
        yield from ("-idirafter", str(folder))

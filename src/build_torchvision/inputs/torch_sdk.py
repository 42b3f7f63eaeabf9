"""A torch to build against: headers and libraries unpacked from a wheel, or in place. Never imported, never run."""

from __future__ import annotations

import ast
import hashlib
import logging
import re
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import unquote

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from build_torchvision.errors import BadInput, FetchFailed
from build_torchvision.facts import Release, releases
from build_torchvision.inputs.cache import (
    ROOM,
    check_cache,
    inventory_fault,
    publish,
    read_facts,
    sha256_of,
    size_of,
    write_inventory,
)
from build_torchvision.inputs.registry import (
    WHEEL_PLATFORMS,
    RegistryFile,
    download,
    extract,
    locate,
    record_name,
)
from build_torchvision.reading import home_expanded, is_file, is_folder
from build_torchvision.releases import TorchBuild, pairs, unpaired
from build_torchvision.writing import check_room as check_free

log = logging.getLogger(__name__)
FOLDERS = ("torch/include/", "torch/share/cmake/")
EXTENSION_RULES = "torch/utils/cpp_extension.py"  # how torch compiles extensions: read, never run
CHECKING_HEADERS = ("ATen/ATen.h", "torch/csrc/api/include/torch/all.h")
CPU_LIBRARIES = ("libc10.so", "libtorch.so", "libtorch_cpu.so")
VERSION_FILE_LIMIT = 1 << 20
"""Bytes; a real version.py has a few hundred."""
FILE_LIMIT = 64 << 20
"""Bytes that are read of a header, a rule file or libc10.so."""
CUDA_LIBRARIES = ("libc10_cuda.so", "libtorch_cuda.so")
READ_PYTHON = "312"
"""The Python whose wheel of torch is read for every Python: headers and symbols are the same in all of them.

One wheel is fetched however many Pythons are built, and which of them are built along does not reach the bytes of a
wheel. Each listed release's torch has a wheel for it; where an index lacks it, the Python that is built for is taken.
"""


@dataclass(frozen=True, kw_only=True)
class TorchSdk:
    """What a build reads of a torch. `root` holds torch/; `version` is without the local part, which is `local`.

    `cuda` is the CUDA version this torch was built with ("12.4"), None for a CPU-only one; `cxx11_abi` is the value
    its users must give _GLIBCXX_USE_CXX11_ABI; `cxx_standard` is the C++ that its headers are written in ("c++20").
    `sha256` is its wheel's, None for one that is installed.
    """

    root: Path
    version: str
    local: str | None
    cuda: str | None
    cxx11_abi: bool
    cxx_standard: str
    include_dirs: tuple[Path, ...]
    lib_dir: Path
    origin: str
    sha256: str | None = None
    """Of the wheel that it was unpacked from; None for an installed one."""


def torch_sdk(
    spec: str | None,
    release: Release,
    python: str,
    platform: str,
    cuda: bool,
    *,
    allow_unpaired: bool = False,
    index: str | None = None,
    local: str | None = None,
) -> TorchSdk:
    """The torch that `spec` names: None (the release's own), a version, a .whl file, or a site-packages folder.

    `python` is "313", `platform` "x86_64" or "aarch64"; a registry is asked for READ_PYTHON first. `cuda` asks for its
    CUDA libraries too. `index` is the address of another index than pip is configured with, `local` the local version
    ("cu128") to prefer there. Raises BadInput for one that does not suit `release` or `platform`, FetchFailed when the
    registry does not serve it.
    """
    chosen = spec if spec is not None else release.torch
    path = home_expanded(chosen)
    if is_folder(path):
        sdk = read_sdk(path.resolve(), str(path.resolve()))
    elif chosen.endswith(".whl"):
        sdk = _from_wheel(path, platform, cuda)
    else:
        sdk = _from_registry(chosen, python, platform, cuda, index, local)
    _check_suits(sdk, release, cuda, allow_unpaired)
    return sdk


def _check_suits(sdk: TorchSdk, release: Release, cuda: bool, allow_unpaired: bool) -> None:
    if not pairs(release, torch_build(sdk)) and not allow_unpaired:
        raise unpaired(release, torch_build(sdk), sdk.origin)
    action = f"Build TorchVision {release.torchvision} against torch {sdk.version} ({sdk.origin})"
    names = CPU_LIBRARIES + (CUDA_LIBRARIES if cuda else ())
    absent = [name for name in names if not is_file(sdk.lib_dir / name)]
    if cuda and sdk.cuda is None:
        raise BadInput(action, "It is a CPU-only torch.", "Name a torch built with CUDA, or build a cpu variant.")
    if absent:
        raise BadInput(action, f"{sdk.lib_dir} lacks {', '.join(absent)}.", "Name a complete torch with --torch.")


def torch_build(sdk: TorchSdk) -> TorchBuild:
    """`sdk` as what a release is chosen by."""
    return TorchBuild(version=sdk.version, local=sdk.local, cuda=sdk.cuda)


def read_sdk(root: Path, origin: str, sha256: str | None = None) -> TorchSdk:
    """Read a torch's facts from the files under `root`/torch. Raises BadInput when they are not there or disagree."""
    action = f"Read the torch in {root}"
    package = root / "torch"
    version, cuda = read_version(package)
    include = package / "include"
    includes = tuple(path for path in (include, include / "torch" / "csrc" / "api" / "include") if is_folder(path))
    if not includes:
        raise BadInput(action, "It has no torch/include.", "Name a torch installed from a wheel, headers and all.")
    return TorchSdk(
        root=root,
        version=version.public,
        local=version.local,
        cuda=cuda,
        cxx11_abi=_cxx11_abi(action, package),
        cxx_standard=_cxx_standard(package),
        include_dirs=includes,
        lib_dir=package / "lib",
        origin=origin,
        sha256=sha256,
    )


def read_version(package: Path) -> tuple[Version, str | None]:
    """(version, CUDA version or None) that the version.py of torch or torchvision in folder `package` assigns.

    The file is parsed, not run. Raises BadInput when it is not there or says no version.
    """
    facts = version_constants(package)
    try:
        cuda = facts.get("cuda")
        return Version(str(facts["__version__"])), str(cuda) if cuda else None
    except (KeyError, InvalidVersion) as error:
        raise BadInput(
            f"Read {package}",
            f"It has no readable {package.name}/version.py.",
            "Name a site-packages folder that holds torch, or a wheel.",
        ) from error


def version_constants(package: Path) -> dict[str, object]:
    """The constants that the version.py in folder `package` assigns; empty where it cannot be read or parsed."""
    path = package / "version.py"
    try:
        if not is_file(path) or path.stat().st_size > VERSION_FILE_LIMIT:
            return {}
        return _assignments(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return {}


def _assignments(text: str) -> dict[str, object]:
    """The module-level `name = constant` of a Python text, by parsing alone."""
    found: dict[str, object] = {}
    for node in ast.parse(text).body:
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign):
            targets = [node.target]
        else:
            continue
        if isinstance(node.value, ast.Constant):
            found |= {target.id: node.value.value for target in targets if isinstance(target, ast.Name)}
    return found


def _first_bytes(path: Path) -> bytes:
    """The first bytes of the file `path`, empty where there is none. Raises BadInput where it cannot be read.

    They hold all that is looked for: a real libc10.so has less than two MiB, and its symbols' names lie in front.
    """
    if not is_file(path):
        return b""
    try:
        with path.open("rb") as stream:
            return stream.read(FILE_LIMIT)
    except OSError as error:
        raise BadInput(f"Read {path}", f"{error.strerror or error}.", "Install that torch again.") from error


def _text(path: Path) -> str:
    return _first_bytes(path).decode("utf-8", errors="replace")


def _cxx11_abi(action: str, package: Path) -> bool:
    """_GLIBCXX_USE_CXX11_ABI: TorchConfig.cmake names it up to 2.6, later ones are always 1; libc10 must agree."""
    config = package / "share" / "cmake" / "Torch" / "TorchConfig.cmake"
    named = re.search(r"_GLIBCXX_USE_CXX11_ABI=(\d)", _text(config))
    said = None if named is None else named[1] == "1"
    # c10::Error::Error(SourceLocation, std::string): the mangled std::string tells the two ABIs apart.
    pattern = rb"_ZN3c105ErrorC[12]ENS_14SourceLocationE(Ss|NSt7__cxx1112basic_string)"
    symbol = re.search(pattern, _first_bytes(package / "lib" / "libc10.so"))
    seen = None if symbol is None else symbol[1] != b"Ss"
    if said is not None and seen is not None and said != seen:
        raise BadInput(
            action,
            f"TorchConfig.cmake says _GLIBCXX_USE_CXX11_ABI={int(said)}, and libc10.so was built with {int(seen)}.",
            "This torch is a mix of two; install it anew.",
        )
    return next((value for value in (seen, said) if value is not None), True)


def _cxx_standard(package: Path) -> str:
    """The C++ standard for users of this torch's headers: what its cpp_extension.py compiles extensions with.

    The file is parsed, not run, and its documentation does not count: from 2.7 to 2.11 an example there names C++20,
    and the code C++17. The headers may insist on a newer one (`#if __cplusplus < 202002L`, then `#error`). C++17 where
    neither says anything.
    """
    standards = _standards(_text(package.parent / EXTENSION_RULES))
    for name in CHECKING_HEADERS:
        text = _text(package / "include" / name)
        # 202002L: the year and month of the standard, which -std= calls by its year
        standards += [int(year) for year in re.findall(r"__cplusplus < 20(\d\d)\d\dL", text)]
    return f"c++{max(standards, default=17)}"


def _standards(text: str) -> list[int]:
    """The years of the arguments `-std=c++NN` in a Python text."""
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # damaged, or written for a newer Python
        return []
    words = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [int(found[1]) for word in words if (found := re.fullmatch(r"-std=c\+\+(\d\d)", word))]


def _from_registry(
    version: str, python: str, platform: str, cuda: bool, index: str | None, local: str | None
) -> TorchSdk:
    try:
        return _of_python(version, READ_PYTHON, platform, cuda, index, local)
    except FetchFailed as error:
        if python == READ_PYTHON:
            raise
        log.info("%s", error)
    return _of_python(version, python, platform, cuda, index, local)


def _of_python(version: str, python: str, platform: str, cuda: bool, index: str | None, local: str | None) -> TorchSdk:
    action = f"Fetch torch {version} for Python {python[0]}.{python[1:]} on {platform}"
    if platform not in WHEEL_PLATFORMS:
        raise BadInput(action, "No such platform is known.", f"Use one of {', '.join(WHEEL_PLATFORMS)}.")
    try:
        wanted = Version(version)
    except InvalidVersion as error:
        raise BadInput(
            action,
            f"{version!r} is no version, no wheel and no folder.",
            "Give --torch VERSION|FILE.whl|SITE_PACKAGES.",
        ) from error
    place = f"-{hashlib.sha256(index.encode()).hexdigest()[:8]}" if index else ""
    entry = _entry(f"torch-{wanted}-cp{python}-{platform}{place}", cuda)
    target = partial(
        locate,
        platform=platform,
        python=python,
        action=action,
        index=index,
        hint="Check the network and pip's configuration, name another index with --torch-index URL, or a wheel with "
        "--torch FILE.whl.",
    )

    def fill(part: Path) -> None:
        part.mkdir()
        requirement, listed = _listed(wanted, local if index else None, target)
        with tempfile.TemporaryDirectory(prefix="wheel.", dir=part) as folder:
            check_room(Path(folder), listed, action)
            wheel = download(requirement, Path(folder), **target.keywords)
            digest = sha256_of(wheel)
            if listed.sha256 is not None and digest != listed.sha256:
                raise BadInput(
                    action,
                    f"{wheel.name} has sha256 {digest}, and the index says {listed.sha256}.",
                    "Do not use this index, or fetch it again.",
                )
            origin = f"{wheel.name} from " + (index or "the package registry")
            _extract(wheel, part, cuda, origin, digest)
        if cuda and not all((part / "tree" / "torch" / "lib" / name).is_file() for name in CUDA_LIBRARIES):
            raise _cpu_only(action, wanted, platform)  # nothing is kept: a configured index may serve another tomorrow

    return _published(entry, fill)


def _listed(wanted: Version, local: str | None, target: Callable[[str], RegistryFile]) -> tuple[str, RegistryFile]:
    """(requirement, wheel) of torch `wanted`: the build with local version `local` where an index has it."""
    plain = f"torch=={wanted}"
    if local is not None and wanted.local is None:
        try:
            return f"{plain}+{local}", target(f"{plain}+{local}")
        except FetchFailed as error:
            log.info("%s", error)
    return plain, target(plain)


def check_room(folder: Path, listed: RegistryFile, action: str) -> None:
    """Raises CannotWrite where a wheel and its unpacked copy would not fit into `folder`'s file system."""
    from build_torchvision.inputs.parts import NotInParts, remote  # httpx, which a build farm lacks

    try:
        with remote(listed.url) as (_, size):
            need = 2 * size
    except NotInParts:
        return  # the server does not tell
    check_free(folder, need, action=action, hint=ROOM)


def _cpu_only(action: str, version: Version, platform: str) -> BadInput:
    problem = f"The torch {version.public} that pip finds for {platform} is CPU-only"
    if platform != "aarch64":
        return BadInput(action, f"{problem}.", "Name a wheel built with CUDA: --torch FILE.whl.")
    first = next(row for row in releases().values() if row.cuda_aarch64)
    return BadInput(
        action,
        f"{problem}: in the package registry its wheels for Arm have CUDA from {first.torch} on, and that is CUDA "
        f"{first.cuda_aarch64}. For CUDA 12 only PyTorch's own index has them.",
        "Name that index with --torch-index URL or in pip's configuration (`pip config set global.extra-index-url "
        f"URL`), or a wheel with --torch FILE.whl; or take track cuda{str(first.cuda_aarch64).replace('.', '_')}.",
    )


def _from_wheel(wheel: Path, platform: str, cuda: bool) -> TorchSdk:
    action = f"Use {wheel} as torch"
    try:
        name, _, _, tags = parse_wheel_filename(unquote(wheel.name))  # browsers keep the %2B of an index's link
    except InvalidWheelFilename as error:
        raise BadInput(action, str(error), "Give the wheel the name it was published with.") from error
    if name != "torch":
        raise BadInput(action, f"It is a wheel of {name}.", "Name a wheel of torch.")
    if not any(tag.platform.endswith(f"_{platform}") for tag in tags):
        raise BadInput(action, f"It is not for {platform}.", f"Name a torch wheel for {platform}.")
    try:
        with zipfile.ZipFile(wheel) as archive:
            identity = hashlib.sha256(archive.read(record_name(action, archive, "torch"))).hexdigest()
    except FileNotFoundError as error:
        raise BadInput(action, "There is no such file.", "Check the path.") from error
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise BadInput(action, f"It is truncated or no wheel ({error}).", "Fetch the wheel again.") from error

    def fill(part: Path) -> None:
        part.mkdir()
        _extract(wheel, part, cuda, str(wheel.resolve()), sha256_of(wheel))

    return _published(_entry(f"{unquote(wheel.stem)}-{identity[:16]}", cuda), fill)


def _entry(name: str, cuda: bool) -> Path:
    kept = hashlib.sha256(repr((FOLDERS, EXTENSION_RULES)).encode()).hexdigest()[:8]  # other files are another entry
    return check_cache() / "torch" / f"{name}-{'cuda' if cuda else 'cpu'}-{kept}"


def _published(entry: Path, fill: Callable[[Path], None]) -> TorchSdk:
    publish(entry, fill, _fault)
    facts = read_facts(entry)
    return read_sdk(entry / "tree", facts["origin"] or str(entry), facts["sha256"])


def _fault(entry: Path) -> str | None:
    """What is wrong with a cached torch, or None. Older versions of this program did not keep the wheel's digest."""
    return inventory_fault(entry, size_of) or (
        None if read_facts(entry).get("sha256") else "its digest is not recorded"
    )


def _extract(wheel: Path, entry: Path, cuda: bool, origin: str, sha256: str) -> None:
    """Unpack what a build needs into `entry`/tree, each file checked against the wheel's RECORD, and list it."""
    libraries = {f"torch/lib/{name}" for name in CPU_LIBRARIES + (CUDA_LIBRARIES if cuda else ())}

    def place(name: str) -> str | None:
        kept = name.startswith(FOLDERS) or re.match(r"torch-[^/]+\.dist-info/", name)
        return name if kept or name in libraries or name in ("torch/version.py", EXTENSION_RULES) else None

    extract(wheel, entry / "tree", place, package="torch")
    write_inventory(entry, {"origin": origin, "sha256": sha256}, size_of)

"""TorchVision and torch: whether they belong together, and whether each finds in the other what it asks for."""

from __future__ import annotations

from collections.abc import Iterator, Set

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from build_torchvision.doctor import fixes
from build_torchvision.doctor.causes.diagnosis import LOADING, Diagnosis
from build_torchvision.doctor.installation import InstallationState, InstalledExtension
from build_torchvision.facts import releases
from build_torchvision.machine.environment import InstalledPackage
from build_torchvision.machine.report import Machine
from build_torchvision.verify.libraries import LOADERS, policies

CUDA_RUNTIME = ("libcudart.so", "libc10_cuda.so", "libtorch_cuda.so")


def mismatched(
    patient: InstallationState, found: InstalledPackage, torch: InstalledPackage, machine: Machine
) -> Iterator[Diagnosis]:
    """Another release of torch, or one of another kind: a CPU build, another CUDA."""
    environment, requirement = patient.environment, patient.requirement
    row = releases().get(found.public)
    built_for = patient.built_for
    if requirement is None and row is not None:
        requirement = row.torch_requirement
    try:
        suits = SpecifierSet(requirement or "").contains(torch.public, prereleases=True)
    except InvalidSpecifier:
        suits = True
    if not suits or (built_for and str(built_for) != torch.public and not (row and row.stable_abi)):
        yield Diagnosis(
            name="version skew",
            symptom=LOADING,
            cause=f"torchvision {found.version} was built for torch {requirement or '==' + str(built_for)}, and torch "
            f"{torch.version} is here: its C++ interface differs from release to release",
            fix=fixes.matching_torchvision(machine, environment, requirement),
        )
        return
    needs = {name for extension in patient.extensions if extension.elf for name in extension.elf.needed}
    cuda = sorted(name for name in needs if name.startswith(CUDA_RUNTIME))
    if cuda and torch.cuda is None:
        yield Diagnosis(
            name="CUDA beside a CPU torch",
            symptom=LOADING,
            cause=f"torchvision {found.version} is built with CUDA (it needs {cuda[0]}), and torch {torch.version} is "
            "a CPU-only build that brings no such library",
            fix=fixes.matching_torchvision(machine, environment, requirement),
        )
        return
    own = {name.rpartition(".so.")[2].split(".")[0] for name in cuda if name.startswith("libcudart.so.")}
    if torch.cuda and own and torch.cuda.split(".")[0] not in own:
        yield Diagnosis(
            name="CUDA versions differ",
            symptom="Detected that PyTorch and torchvision were compiled with different CUDA major versions",
            cause=f"torchvision {found.version} needs libcudart of CUDA {', '.join(own)}, and torch {torch.version} "
            f"has CUDA {torch.cuda}",
            fix=fixes.matching_torchvision(machine, environment, requirement),
        )


def unlinked(patient: InstallationState, machine: Machine) -> Iterator[Diagnosis]:
    """What the loader would not find: libraries first, then symbols."""
    environment = patient.environment
    again = fixes.matching_torchvision(machine, environment, patient.requirement)
    system = frozenset(LOADERS).union(*(policy.libraries for _, policy in policies(machine.platform)))
    for extension in patient.extensions:
        if extension.elf is None:
            continue
        missing = [name for name in extension.unfound if name not in system and name not in patient.bundled]
        if missing:
            yield Diagnosis(
                name="library missing",
                symptom=f"{missing[0]}: cannot open shared object file",
                cause=f"{extension.path.name} needs {', '.join(missing)}, which neither torch, torchvision.libs nor "
                "the system brings",
                fix=again,
            )
            continue
        yield from _symbols(patient, extension, again)


def _symbols(patient: InstallationState, extension: InstalledExtension, again: str) -> Iterator[Diagnosis]:
    torch = patient.environment.torch
    if "libtorch_cpu.so" not in patient.torch_symbols:  # a torch whose libraries lie elsewhere: nothing to compare with
        return
    assert torch is not None
    assert extension.elf is not None
    brought: Set[str] = frozenset().union(*patient.torch_symbols.values())
    bundled: Set[str] = frozenset().union(*patient.bundled.values())
    lost = [
        symbol.name
        for symbol in extension.elf.undefined
        if not symbol.weak and symbol.library is None and symbol.name not in brought and symbol.name not in bundled
        if any(space in symbol.name for space in ("3c10", "2at", "5torch"))
    ]
    if not lost:
        return
    new_abi = any("ENS_14SourceLocationENSt7__cxx11" in name for name in patient.torch_symbols.get("libc10.so", ()))
    asks_new = any("__cxx11" in symbol.name for symbol in extension.elf.undefined)
    other_abi = new_abi is not asks_new
    why = (
        f"it was compiled for the {'old' if new_abi else 'C++11'} string ABI (_GLIBCXX_USE_CXX11_ABI={int(asks_new)}), "
        f"torch {torch.version} has the other"
        if other_abi
        else f"torch {torch.version} does not bring them: it was compiled against another torch"
    )
    yield Diagnosis(
        name="wrong C++ ABI" if other_abi else "undefined symbol",
        symptom=f"undefined symbol: {lost[0]}",
        cause=f"{extension.path.name} asks torch for {len(lost)} symbols that it lacks: {why}",
        fix=again,
    )

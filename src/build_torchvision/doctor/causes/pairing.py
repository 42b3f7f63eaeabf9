"""TorchVision and torch: whether they belong together, and whether each finds in the other what it asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion

from build_torchvision.choose.commands import Command
from build_torchvision.doctor import fixes
from build_torchvision.doctor.causes.diagnosis import LOADING, PARTIAL, Diagnosis
from build_torchvision.doctor.installation import InstallationState, InstalledExtension, torch_requirement
from build_torchvision.facts import releases
from build_torchvision.machine.environment import Backend, InstalledPackage
from build_torchvision.machine.report import Machine
from build_torchvision.verify.libraries import LOADERS, TORCH, TORCH_CUDA, policies

Fits = Callable[[InstalledPackage], bool]


def mismatched(
    state: InstallationState, found: InstalledPackage, torch: InstalledPackage, machine: Machine
) -> Iterator[Diagnosis]:
    """Another release of torch, or one of another kind: another backend, a CPU build, another CUDA."""
    main = state.main
    requirement = _requirement(state, found)
    if not _suits(requirement, torch.version):
        yield Diagnosis(
            name="version skew",
            symptom=f"{LOADING} / {PARTIAL}",
            cause=f"torchvision {found.version} was built for torch {requirement}, and torch {torch.version} is here: "
            f"its C++ interface differs from release to release{_copies(state)}",
            remedy=_other_copy(state, lambda other: _suits(requirement, other.version))
            or _other_torchvision(state, torch)
            or _match(state, machine),
        )
        return
    if main is None or main.backend is None:
        return
    if main.backend is not Backend.CPU and main.backend is not torch.kind:
        yield _other_backend(state, found, torch, machine, main, main.backend)
        return
    if torch.cuda and main.cudart and torch.cuda.split(".")[0] != main.cudart:
        cudart = main.cudart
        yield Diagnosis(
            name="CUDA versions differ",
            symptom="Detected that PyTorch and torchvision were compiled with different CUDA major versions",
            cause=f"torchvision {found.version} needs libcudart of CUDA {cudart}, and torch {torch.version} has CUDA "
            f"{torch.cuda}{_copies(state)}",
            remedy=_other_copy(state, lambda other: bool(other.cuda and other.cuda.split(".")[0] == cudart))
            or _match(state, machine),
        )


def _other_backend(
    state: InstallationState,
    found: InstalledPackage,
    torch: InstalledPackage,
    machine: Machine,
    main: InstalledExtension,
    backend: Backend,
) -> Diagnosis:
    assert main.elf is not None
    needs = main.cuda_libraries or tuple(name for name in main.elf.needed if "hip" in name)
    built = f"built with {backend.label}" + (f" (it needs {needs[0]})" if needs else "")
    name = "a CPU torch" if torch.kind is Backend.CPU else torch.kind.build.replace("build", "torch")
    return Diagnosis(
        name=f"{backend.label} beside {name}",
        symptom=f"{LOADING} / {PARTIAL}",
        cause=f"torchvision {found.version} is {built}, and torch {torch.version} is {torch.kind.build} that brings no "
        f"such library{_copies(state)}",
        remedy=_other_copy(state, lambda other: other.kind is backend) or _match(state, machine),
    )


def _requirement(state: InstallationState, found: InstalledPackage) -> str:
    """The torch that TorchVision was built for: by its metadata, its descriptor, else its release."""
    row = releases().get(found.public)
    if state.requirement:
        return state.requirement
    built_for = state.built_for
    if built_for and not (row and row.stable_abi):
        return f"=={built_for}"
    return row.torch_requirement if row is not None and state.requirement is None else ""


def _suits(requirement: str, version: str) -> bool:
    try:
        return SpecifierSet(requirement).contains(version.partition("+")[0], prereleases=True)
    except (InvalidSpecifier, InvalidVersion):
        return True


def _match(state: InstallationState, machine: Machine) -> fixes.Remedy:
    return fixes.matching_torchvision(machine, installed=str(state.descriptor["variant"]) if state.ours else None)


def _copies(state: InstallationState) -> str:
    """The further copies of both that sys.path holds, as the end of a sentence."""
    copies = state.environment.copies or {}
    told = []
    for name in ("torch", "torchvision"):
        places = copies.get(name, ())
        if len(places) > 1:
            others = ", ".join(f"{one.version} in {one.folder.parent}" for one in places[1:])
            told.append(f"{name} {places[0].version} in {places[0].folder.parent} is imported before {others}")
    return f" ({'; '.join(told)})" if told else ""


def _other_copy(state: InstallationState, fits: Fits) -> fixes.Remedy | None:
    """Where another torch comes first and the one behind it fits: take the first out of the way."""
    copies = (state.environment.copies or {}).get("torch", ())
    return _without_first(state, copies) if len(copies) > 1 and fits(copies[1]) else None


def _other_torchvision(state: InstallationState, torch: InstalledPackage) -> fixes.Remedy | None:
    """Where another TorchVision comes first and the one behind it is for `torch`: take the first out of the way."""
    copies = (state.environment.copies or {}).get("torchvision", ())
    if len(copies) < 2 or copies[0].folder.parent.suffix == ".egg":
        return None
    row = releases().get(copies[1].public)
    wanted = torch_requirement(copies[1].info) or (row.torch_requirement if row else "")
    return _without_first(state, copies) if wanted and _suits(wanted, torch.version) else None


def _without_first(state: InstallationState, copies: Sequence[InstalledPackage]) -> fixes.Remedy | None:
    first = copies[0]
    if first.origin == "user":
        note = f"Or uninstall the {first.folder.name} in {first.folder.parent}."
        return fixes.Remedy(command=Command.of("export", "PYTHONNOUSERSITE=1"), note=note)
    if first.origin == "PYTHONPATH":
        return fixes.run("unset", "PYTHONPATH", note=f"Or take {first.folder.parent} out of it.")
    command = fixes.uninstall(state.environment, first.folder.name)
    return fixes.Remedy(command=command, note="It takes away the copy that is found first.") if command else None


def unlinked(state: InstallationState, machine: Machine) -> Iterator[Diagnosis]:
    """What the loader would not find: libraries first, then symbols."""
    system = frozenset(LOADERS).union(*(policy.libraries for _, policy in policies(machine.platform)))
    for extension in state.extensions:
        if extension.elf is None:
            continue
        known = {*system, *state.bundled, *state.torch_absent}
        missing = [name for name in extension.unfound if name not in known]
        if missing:
            yield Diagnosis(
                name="library missing",
                symptom=f"{missing[0]}: cannot open shared object file",
                cause=f"{extension.path.name} needs {', '.join(missing)}, which neither torch, torchvision.libs nor "
                "the system brings",
                remedy=_match(state, machine),
            )
            continue
        yield from _symbols(state, extension, machine)


def _symbols(state: InstallationState, extension: InstalledExtension, machine: Machine) -> Iterator[Diagnosis]:
    torch = state.environment.torch
    if torch is None or extension.elf is None:
        return
    asked = {name for name in extension.elf.needed if name in (*TORCH, *TORCH_CUDA)}
    if not {"libtorch_cpu.so", *asked} <= set(state.torch_symbols):
        return  # a torch whose libraries lie elsewhere, or are not whole: nothing to compare with
    brought: Set[str] = frozenset().union(*state.torch_symbols.values())
    bundled: Set[str] = frozenset().union(*state.bundled.values())
    lost = [
        symbol.name
        for symbol in extension.elf.undefined
        if not symbol.weak and symbol.library is None and symbol.name not in brought and symbol.name not in bundled
        if any(space in symbol.name for space in ("3c10", "2at", "5torch"))
    ]
    if not lost:
        return
    new_abi = any("ENS_14SourceLocationENSt7__cxx11" in name for name in state.torch_symbols.get("libc10.so", ()))
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
        cause=f"{extension.path.name} asks torch for {len(lost)} symbols that it lacks: {why}{_copies(state)}",
        remedy=_match(state, machine),
    )

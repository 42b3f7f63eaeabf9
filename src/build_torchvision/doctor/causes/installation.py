"""Missing, duplicate, damaged and foreign installations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from build_torchvision.choose.commands import Command
from build_torchvision.doctor import fixes
from build_torchvision.doctor.causes.diagnosis import LOADING, PARTIAL, Diagnosis
from build_torchvision.doctor.installation import IMPORT_NAMES, InstallationState
from build_torchvision.doctor.loader import UNREAD_PLATFORMS
from build_torchvision.machine.environment import InstalledPackage
from build_torchvision.machine.report import Machine

IMAGE = "Failed to load image Python extension"


def without_python(state: InstallationState) -> Iterator[Diagnosis]:
    """An environment whose python is a link to nowhere: it was made on another computer, or its Python went."""
    target = state.environment.missing_target
    if target is not None:
        yield Diagnosis(
            name="Python missing",
            symptom="No such file or directory / bad interpreter",
            cause=f"{state.environment.executable} leads to {target}, which is not here: the environment was made on "
            "another computer, or its Python was removed",
            remedy=fixes.renew_environment(state.environment),
        )


def absent(state: InstallationState, machine: Machine) -> Iterator[Diagnosis]:
    """TorchVision or torch is not installed."""
    environment = state.environment
    found, torch = environment.torchvision, environment.torch
    if torch is not None and not torch.whole:
        yield Diagnosis(
            name="no torch",
            symptom="ModuleNotFoundError: No module named 'torch'",
            cause=_remains(torch),
            remedy=fixes.torch_again(machine),
        )
    elif found is not None and torch is None:
        yield Diagnosis(
            name="no torch",
            symptom="ModuleNotFoundError: No module named 'torch'",
            cause=f"torchvision {found.version} is installed and torch is not",
            remedy=fixes.torch_for(machine, found),
        )
    if found is None or not found.whole:
        folders = ", ".join(map(str, environment.paths)) or "this environment"
        yield Diagnosis(
            name="no torchvision",
            symptom="ModuleNotFoundError: No module named 'torchvision'",
            cause=_remains(found) if found else f"no folder of {folders} holds torchvision",
            remedy=fixes.matching_torchvision(machine) if torch else fixes.both(machine),
        )


def _remains(found: InstalledPackage) -> str:
    what = found.info.name if found.info else found.folder.name
    return f"{what} is left of it, and {found.folder / '__init__.py'} is not there"


def without_packages(state: InstallationState, machine: Machine) -> Iterator[Diagnosis]:
    """What the metadata requires and is not installed."""
    if not state.missing_packages:
        return
    names = [name for name, _ in state.missing_packages]
    whose = sorted({package for _, package in state.missing_packages})
    module = IMPORT_NAMES.get(names[0], names[0].replace("-", "_"))
    yield Diagnosis(
        name="package missing",
        symptom=f"ModuleNotFoundError: No module named '{module}'",
        cause=f"{' and '.join(whose)} {'require' if len(whose) > 1 else 'requires'} {', '.join(dict.fromkeys(names))}, "
        "which the metadata names and no folder of sys.path holds",
        remedy=fixes.packages(machine, *dict.fromkeys(names)),
    )


def shadowed(state: InstallationState) -> Iterator[Diagnosis]:
    """Something else of that name is imported first."""
    if state.shadow is not None:
        yield Diagnosis(
            name="shadowed",
            symptom=f"{LOADING} / {PARTIAL}",
            cause=f"{state.shadow} is imported instead of the installed package when Python starts here: a source tree "
            "or a script of that name has no compiled operators",
            remedy=fixes.run("cd", ".."),
        )


def archived(state: InstallationState) -> Iterator[Diagnosis]:
    """A TorchVision in a zip archive: extensions cannot be loaded from one."""
    if state.archive is not None:
        path = state.archive.path
        by_variable = state.archive.origin == "PYTHONPATH"
        yield Diagnosis(
            name="imported from an archive",
            symptom=f"{LOADING} / {PARTIAL}",
            cause=f"{path} is a zip archive with a torchvision in it, which Python finds first: compiled operators "
            "cannot be loaded from there",
            remedy=fixes.run("unset", "PYTHONPATH") if by_variable else fixes.run("rm", str(path)),
        )


def mixed(state: InstallationState, found: InstalledPackage, machine: Machine) -> Iterator[Diagnosis]:
    """Two distributions in one folder."""
    others = [path for path in state.copies if found.info and path != found.info and path.parent == found.info.parent]
    if others:
        again = _again(state, machine)
        command = Command.of("rm", "-r", *map(str, others))
        yield Diagnosis(
            name="two installations",
            symptom=LOADING + ", or another version than pip shows",
            cause=f"{found.folder.parent} holds {len(others) + 1} torchvision distributions, whose files mix: "
            + ", ".join(path.name for path in state.copies),
            remedy=fixes.Remedy(command=command.then(again.command) if again.command else None, note=again.note),
        )


def listed(names: Sequence[str], most: int = 4) -> str:
    """The first `most` of `names`, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _again(state: InstallationState, machine: Machine) -> fixes.Remedy:
    return fixes.matching_torchvision(machine, installed=str(state.descriptor["variant"]) if state.ours else None)


def damaged(state: InstallationState, found: InstalledPackage, machine: Machine) -> Iterator[Diagnosis]:
    """Shared objects that are missing, cut short or another platform's."""
    present = {extension.name for extension in state.extensions}
    gone = sorted(name for name in state.recorded if ".so" in name or name.startswith("torchvision/"))
    if "_C" not in present:
        yield Diagnosis(
            name="no extension",
            symptom=f"{LOADING} / {PARTIAL}",
            cause=f"{found.folder} has no _C.so: it was copied or built without its compiled part",
            remedy=_again(state, machine),
        )
    elif gone:
        yield Diagnosis(
            name="files missing",
            symptom=f"cannot open shared object file / {IMAGE}",
            cause="its RECORD lists what is not there: " + listed(gone),
            remedy=_again(state, machine),
        )
    foreign = [extension for extension in state.extensions if extension.foreign]
    if foreign:
        yield Diagnosis(
            name="wrong platform",
            symptom=f"{LOADING} / invalid ELF header",
            cause="; ".join(f"{extension.path.name} is {extension.fault}" for extension in foreign)
            + f", and this machine is Linux on {machine.platform}",
            remedy=_again(state, machine),
        )
    cut = [extension for extension in state.extensions if extension.fault is not None and not extension.foreign]
    if cut and machine.platform not in UNREAD_PLATFORMS:
        yield Diagnosis(
            name="damaged",
            symptom=f"{LOADING if cut[0].name == '_C' else IMAGE} / Bus error",
            cause="; ".join(f"{extension.path.name} is damaged: {extension.fault}" for extension in cut),
            remedy=_again(state, machine),
        )
    other = [extension for extension in state.extensions if extension.platform not in (None, machine.platform)]
    if other:
        names = " and ".join(extension.path.name for extension in other)
        yield Diagnosis(
            name="wrong platform",
            symptom=LOADING + " / wrong ELF class or machine",
            cause=f"{names}: compiled for {other[0].platform}, and this machine is {machine.platform}",
            remedy=_again(state, machine),
        )

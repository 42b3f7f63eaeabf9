"""Audit a package: it is what its name says, as far as its bytes show. Nothing of it is executed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from build_torchvision.binary.elf import Elf, NotElf, elf_of
from build_torchvision.binary.instructions import Scan, beyond, evidence
from build_torchvision.compatibility import same_cuda_major
from build_torchvision.describe import notes
from build_torchvision.errors import BadInput
from build_torchvision.facts import Release, releases
from build_torchvision.facts.operators import operators_of
from build_torchvision.inputs.torch_sdk import TorchSdk, read_sdk
from build_torchvision.spec import Descriptor
from build_torchvision.variants import Variant
from build_torchvision.verify import installed as inst
from build_torchvision.verify import libraries as lib
from build_torchvision.verify import package as pkg
from build_torchvision.verify.checks import Check, Report
from build_torchvision.verify.decoding import scan_of
from build_torchvision.verify.device import check_device_code
from build_torchvision.verify.libraries import TorchFacts
from build_torchvision.verify.operators import check_operators, computing_modules
from build_torchvision.verify.stable_abi import check_stable_abi
from build_torchvision.wheel.descriptor import claimed_by

__all__ = ["TorchFacts", "audit_installed", "audit_tree", "audit_wheel", "claimed_variant", "torch_facts"]

INSTALLED = (
    "An installed tree: absolute run paths into the store are right there; tags, RECORD's hashes, a manylinux level "
    "and symbols of Python are not asked about."
)
TRAP_1 = "trap 1: the compiler never saw the flags (torch's build takes CFLAGS, not CXXFLAGS)"


def claimed_variant(wheel: Path) -> Variant:
    """The variant that `wheel` claims to be: its file name's, else its descriptor's. Raises BadInput without either."""
    return variant_of(pkg.Package(wheel))


def variant_of(package: pkg.Package) -> Variant:
    """As `claimed_variant`, of a wheel that is open already."""
    claim, described = package.file_name.claim(), package.descriptor.variant if package.descriptor else None
    if package.file_name.any_python and described is not None:
        claim = None  # its Python stands in the descriptor alone; that the names agree is part of the identity
    return claimed_by(
        claim.variant if claim else None,
        described,
        action=f"verifying {package.path.name}",
        problem="neither its file name nor a descriptor inside names a variant: build-torchvision did not make it.",
        hint="Build it with `build-torchvision build NAME`, or say which variant it should be.",
    )


def audit_wheel(wheel: Path, variant: Variant | None = None, torch: TorchFacts | None = None) -> Report:
    """Audit `wheel` as `variant` (None: the one its file name claims) beside `torch` (None: the one it names itself).

    A fault in the wheel is a check that does not hold. Raises BadInput only when it cannot be read as a wheel.
    """
    return audit_package(pkg.Package(wheel), variant, torch)


def audit_package(package: pkg.Package, variant: Variant | None = None, torch: TorchFacts | None = None) -> Report:
    """As `audit_wheel`, of a wheel that is open already."""
    try:
        variant = variant or variant_of(package)
    except BadInput as error:
        failed = Check(name="identity", ok=False, detail=f"{error.problem} {error.hint}")
        return Report(variant=package.path.name, checks=(failed,))
    torch = torch or _named_torch(package)
    release = releases().get(package.file_name.version.partition("+")[0])
    own_source = package.descriptor is None or package.descriptor.source.origin == "archive"
    checks = [
        pkg.check_identity(package, variant),
        pkg.check_requirement(package, torch.version),
        _check_pair(package, variant, torch),
        pkg.check_archive(package),
        pkg.check_record(package),
    ]
    broken: list[str] = []
    loaded = lib.Libraries(
        extensions=dict(_read_all(package.extensions, broken)), bundled=dict(_read_all(package.bundled, broken))
    )
    checks.append(Check.of("ELF files", broken, f"{len(loaded.all)} shared objects read"))
    policy = lib.policy_of(package.file_name.tags, variant.platform)
    checks += [
        *_check_release(
            loaded, package.extensions, variant, release, own_source=own_source, ours=_ours(package.descriptor)
        ),
        lib.check_needed(loaded, policy, variant),
        lib.check_run_paths(loaded),
        lib.check_symbol_versions(loaded, policy),
        lib.check_abi(loaded, torch),
        lib.check_python_symbols(loaded),
    ]
    resolved = lib.check_resolved(loaded, torch, policy)
    checks += [resolved] if resolved is not None else []
    images = {path: data for path, data in package.extensions.items() if path.startswith("torchvision/image")}
    checks += [
        lib.check_codecs(loaded, images, package.descriptor, package.licences),
        lib.check_exports(loaded),
        *_check_instructions(loaded.extensions, package.extensions, variant, bundled=bool(loaded.bundled)),
    ]
    ptx = bool(package.descriptor and package.descriptor.cuda and package.descriptor.cuda.ptx_added)
    checks += check_device_code({path: package.extensions[path] for path in loaded.extensions}, variant, ptx=ptx)
    remarks = [
        *notes(variant),
        *([] if resolved is not None else ["Symbols were not resolved: no libraries of torch were given."]),
    ]
    if remarks:
        checks.append(Check(name="notes", ok=True, detail=" ".join(remarks)))
    return Report(variant=str(variant), checks=tuple(checks))


def torch_facts(torch: TorchSdk) -> TorchFacts:
    """What an audit needs to know of a torch."""
    return TorchFacts(version=torch.version, cuda=torch.cuda, cxx11_abi=torch.cxx11_abi, lib_dir=torch.lib_dir)


def audit_tree(tree: inst.InstalledTree, variant: Variant | None = None, torch: Path | None = None) -> Report:
    """Audit `tree` as `variant` (None: the one it claims) beside the torch in `torch`, a site-packages folder.

    None takes the torch that the tree itself leads to. Raises BadInput where there is none.
    """
    variant, site = variant or inst.claimed(tree), torch or tree.torch()
    if site is None or not site.is_dir():
        raise BadInput(
            f"Verify {tree.path}",
            f"{site} is no folder." if site else "Neither what it propagates nor its run paths lead to a torch.",
            "Name the site-packages folder that holds its torch: --torch FOLDER.",
        )
    return audit_installed(tree, variant, torch_facts(read_sdk(site, str(site))))


def audit_installed(tree: inst.InstalledTree, variant: Variant, torch: TorchFacts) -> Report:
    """Audit an installed `tree` as `variant` beside `torch`: all that is asked of a wheel and not of its packaging."""
    release = releases().get(tree.version)
    broken: list[str] = []
    loaded = lib.Libraries(extensions=dict(_read_all(tree.extensions, broken)), bundled={})
    checks = (
        inst.check_identity(tree, variant),
        inst.check_companion(tree, variant, torch),
        Check.of("ELF files", broken, f"{len(loaded.all)} shared objects read"),
        *_check_release(loaded, tree.extensions, variant, release, own_source=True),
        inst.check_needed(tree, loaded, variant),
        inst.check_run_paths(tree, loaded),
        lib.check_abi(loaded, torch),
        inst.check_resolved(tree, loaded, torch, variant),
        Check(name="codecs", ok=True, detail=f"linked: {', '.join(tree.codecs) or 'none'}"),
        *_check_instructions(loaded.extensions, tree.extensions, variant),
        *check_device_code({path: tree.extensions[path] for path in loaded.extensions}, variant),
        Check(name="notes", ok=True, detail=" ".join([*notes(variant), INSTALLED])),
    )
    return Report(variant=str(variant), checks=checks)


def scans_of(package: pkg.Package) -> list[Scan]:
    """What the code of each extension of a wheel is made of."""
    loaded = dict(_read_all(package.extensions, []))
    return [scan_of(package.extensions[path], elf.machine) for path, elf in loaded.items()]


def _named_torch(package: pkg.Package) -> TorchFacts:
    if package.descriptor is None:
        return TorchFacts(version="0", cuda=None, cxx11_abi=True, lib_dir=None)
    torch = package.descriptor.torch
    return TorchFacts(version=torch.version, cuda=torch.cuda, cxx11_abi=torch.cxx11_abi, lib_dir=None)


def _check_pair(package: pkg.Package, variant: Variant, torch: TorchFacts) -> Check:
    described = package.descriptor
    problems = []
    if described is None:
        problems.append("the wheel does not say for which torch it was built")
    elif described.torch.cxx11_abi is not torch.cxx11_abi:
        problems.append(
            f"built for cxx11_abi={described.torch.cxx11_abi}, torch {torch.version} has {torch.cxx11_abi} (trap 7)"
        )
    if variant.cuda and not same_cuda_major(torch.cuda, variant.cuda):
        problems.append(
            f"{variant} is built with CUDA {variant.cuda}, torch {torch.version} with {torch.cuda} (trap 6)"
        )
    paired = described is not None and described.paired
    served = described is None or described.torch.serves(variant.sm)
    if not served and paired:
        problems.append(f"it calls itself paired, and torch {torch.version} has no code that runs on {variant.sm}")
    remarks = [] if paired else ["unpaired: the release's own torch is another, or this one does not serve the GPU"]
    remarks += [] if served else [f"this torch has no code that runs on {variant.sm}"]
    abi = f"C++11 ABI {'on' if torch.cxx11_abi else 'off'}"
    return Check.of("companion", problems, ", ".join([f"torch {torch.version}", abi, *remarks]))


def _read_all(files: dict[str, bytes], broken: list[str]) -> Iterator[tuple[str, Elf]]:
    for path, data in sorted(files.items()):
        try:
            yield path, elf_of(data)
        except NotElf as error:
            broken.append(f"{path} is {error}")


def _check_release(
    loaded: lib.Libraries,
    modules: Mapping[str, bytes],
    variant: Variant,
    release: Release | None,
    *,
    own_source: bool,
    ours: tuple[Collection[str], Collection[str]] = ((), ()),
) -> Iterator[Check]:
    """What the table says of the release: its extension modules, their operators, and the ABI that they use.

    `own_source`: it was built from the release's own archive, and not from a tree that may differ from it. `ours` are
    the operators with CPU kernels and with GPU kernels of ours.
    """
    yield lib.check_extensions(loaded, variant, release.extensions if release and own_source else None)
    yield check_operators(modules, operators_of(release.torchvision) if release else None, *ours)
    stable = check_stable_abi(loaded.extensions, release) if release else None
    if stable is not None:
        yield stable


def _ours(descriptor: Descriptor | None) -> tuple[Collection[str], Collection[str]]:
    """The operators of which the descriptor says that their CPU kernels are ours, and their GPU kernels."""
    if descriptor is None:
        return (), ()
    return tuple(descriptor.operators), tuple(descriptor.cuda.operators) if descriptor.cuda else ()


def _check_instructions(
    extensions: Mapping[str, Elf], modules: Mapping[str, bytes], variant: Variant, *, bundled: bool = False
) -> tuple[Check, Check]:
    """(nothing beyond the CPU ISA, the CPU ISA is in use)."""
    scans = {path: scan_of(modules[path], variant.platform) for path in extensions}
    problems = [problem for path, found in scans.items() for problem in _beyond(path, found, variant.isa)]
    problems += [
        f"{path} maps {elf.code_outside_sections} bytes as code outside its sections, which were not decoded"
        for path, elf in extensions.items()
        if elf.code_outside_sections
    ]
    total = sum(found.total for found in scans.values())
    if not total:
        problems.append("there is no code at all")
    return (
        Check.of(
            "instructions",
            problems,
            f"{total} instructions of {', '.join(sorted(scans))} decoded, none beyond {variant.isa}"
            + ("; libraries in torchvision.libs choose their code at run time and were not counted" if bundled else ""),
        ),
        _check_used(scans, computing_modules({path: modules[path] for path in extensions}), variant.isa),
    )


def _beyond(path: str, found: Scan, isa: str) -> Iterator[str]:
    for feature, count in beyond(found, isa).items():
        yield f"{path} has {count} {feature} instructions, beyond {isa}: {found.first[feature]}"
    if found.invalid:
        yield f"{path} holds {found.invalid_total} byte sequences that are no instruction, first at {found.invalid[0]}"


def _check_used(scans: Mapping[str, Scan], computing: Sequence[str], isa: str) -> Check:
    """Whether the modules that compute show the ISA; vector code of image libraries is no evidence."""
    sign, names = evidence(isa), ", ".join(computing) or "no module"
    count = sum(scans[path].shown[sign.kind] for path in computing)
    problems = [] if count else [f"{names}: no {sign.words}, so it is not built for {isa} ({TRAP_1})"]
    return Check.of("ISA in use", problems, f"{count} {sign.words} in {names}")

"""Turn the names and options of a user into build requests: which variants, as which release, against which torch.

A name is exact or a pattern. An exact name that cannot be built is an error; a pattern builds what it can, and what it
leaves out is returned with the reason. Reads the tables, and of what the user names the version alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from build_torchvision.compatibility import is_track_of, same_cuda_major
from build_torchvision.errors import BadInput, FetchFailed
from build_torchvision.facts import Release, releases, toolkits
from build_torchvision.inputs.registry import locate
from build_torchvision.inputs.resolve import BuildRequest
from build_torchvision.inputs.source import SourceAvailability, check_version, source_version, unpinned
from build_torchvision.inputs.torch_sdk import read_version
from build_torchvision.reading import home_expanded, is_folder
from build_torchvision.releases import (
    TorchBuild,
    check_covered,
    check_published,
    index_of,
    newest,
    of_cuda,
    pairs,
    select_release,
    torch_covers,
    torches_of,
    unpaired,
)
from build_torchvision.variants import CPU, PYTHONS, Variant, is_pattern, matching

ANY = "any"


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A variant that a pattern named and that cannot be built, with the reason, one sentence."""

    variant: Variant
    reason: str
    hint: str = ""
    """What to type to have it built."""


@dataclass(frozen=True, kw_only=True)
class Requests:
    """What to build: one request per release, and what was left out. `notes` are sentences for the user."""

    requests: tuple[BuildRequest, ...]
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def variants(self) -> tuple[Variant, ...]:
        """All variants that are built."""
        return tuple(variant for request in self.requests for variant in request.variants)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the user named. `options` are further fields of `BuildRequest`, the same for every variant.

    `exact` are variants that must be built, `matched` those that a pattern named. `auto`: this program chose them, so
    that another release may stand in for a CUDA variant too where the newest one's source cannot be had.
    """

    exact: tuple[Variant, ...] = ()
    matched: tuple[Variant, ...] = ()
    torchvision: str | None = None
    torch: str | None = None
    torch_index: str | None = None
    source: Path | None = None
    allow_unpaired: bool = False
    auto: bool = False
    options: dict[str, Any] = field(default_factory=dict)


def named_variant(name: str) -> Variant:
    """The one variant that `name` means, in full or without its beginning ("cpu-avx2"). Raises BadInput for others."""
    found = matching(name)
    if len(found) > 1:
        raise BadInput(
            f"Describe {name}", f"{len(found)} variants match it.", f"Name one of them: `variants '{name}'` lists them."
        )
    return found[0]


def named_variants(names: Sequence[str]) -> tuple[tuple[Variant, ...], tuple[Variant, ...]]:
    """(Variants that are named one by one, variants that patterns match). Raises BadInput for a name of nothing."""
    if not names:
        raise BadInput("Name a variant", "No name was given.", "Try `build-torchvision variants`, or `build --auto`.")
    exact = tuple(dict.fromkeys(v for name in names if not is_pattern(name) for v in matching(name)))
    matched = dict.fromkeys(v for name in names if is_pattern(name) for v in matching(name))
    return exact, tuple(variant for variant in matched if variant not in exact)


def pythons_named(text: str | None) -> tuple[str, ...]:
    """The Pythons of `--python`: "310,3.13" is ("310", "313"). None, and "any", name none: () is returned.

    Raises BadInput for one that is not in the matrix.
    """
    if text is None or text == ANY:
        return ()
    pythons = tuple(part.strip().replace(".", "") for part in text.split(","))
    for python in pythons:
        if python not in PYTHONS:
            raise BadInput(
                f"--python {text}",
                f"{python!r} is not a Python of the matrix.",
                f"Choose from {', '.join(PYTHONS)}, or any alone for one wheel that serves all.",
            )
    return pythons


def for_pythons(variants: Sequence[Variant], pythons: Sequence[str]) -> tuple[Variant, ...]:
    """Each variant for each Python of `pythons` ("310", "313"); unchanged when `pythons` is empty."""
    if not pythons:
        return tuple(variants)
    return tuple(dict.fromkeys(replace(variant, python=python) for variant in variants for python in pythons))


def torch_named(spec: str | None) -> TorchBuild | None:
    """The torch that `--torch` names: a version, a wheel (its name may have %2B for +), or a site-packages folder.

    Raises BadInput for anything else.
    """
    if spec is None:
        return None
    path = home_expanded(spec)
    if path.is_dir():
        version, cuda = read_version(path / "torch")
        return TorchBuild(version=version.public, local=version.local, cuda=cuda, cpu_only=cuda is None)
    if spec.endswith(".whl"):
        try:
            _, found, _, _ = parse_wheel_filename(unquote(path.name))
        except InvalidWheelFilename as error:
            raise BadInput(f"--torch {spec}", f"{error}.", "Give the wheel the name it was published with.") from error
        return TorchBuild.parse(str(found))
    return TorchBuild.parse(spec)


def is_version(spec: str) -> bool:
    """Whether `--torch` names a version, to be had from an index, rather than a wheel or a folder."""
    return not spec.endswith(".whl") and not is_folder(home_expanded(spec))


def requests_for(
    wanted: Wanted,
    available: Callable[[Release], bool] | None = None,
    *,
    lists: Callable[[Variant, str], bool] | None = None,
) -> Requests:
    """Choose the release of every variant of `wanted` and group them into requests, one per release.

    `available` tells whose source can be had (default: asked of this machine, and only where nothing was named).
    `lists` tells whether pip, as it is configured, finds a torch version for an exact variant for which the package
    registry has none. Raises BadInput for an exact variant that no release serves, and where a pattern leaves nothing
    to build.
    """
    torch = torch_named(wanted.torch)
    source = source_version(wanted.source) if wanted.source else None
    free = wanted.torchvision is None and torch is None and source is None
    chosen: Chosen = {}
    left_out: list[LeftOut] = []
    for variant in (*wanted.exact, *wanted.matched):
        try:
            release, spec = _choose(variant, wanted, torch, source, lists if variant in wanted.exact else None)
        except BadInput as error:
            if variant in wanted.exact:
                raise
            left_out.append(LeftOut(variant=variant, reason=error.problem, hint=error.hint))
            continue
        chosen.setdefault((release.torchvision, spec), (release, []))[1].append(variant)
    if not chosen:
        raise BadInput(
            f"Build {len(left_out)} variants that the patterns match",
            f"None of them can be built: {left_out[0].variant}: {left_out[0].reason}",
            left_out[0].hint,
        )
    notes: list[str] = []
    if free and (wanted.auto or all(variant.track == CPU for _, group in chosen.values() for variant in group)):
        chosen, notes = _with_source(chosen, available or SourceAvailability())
    common = {
        "torch_index": wanted.torch_index,
        "source": wanted.source,
        "allow_unpaired": wanted.allow_unpaired,
        "optional": frozenset(wanted.matched) - frozenset(wanted.exact),
        **wanted.options,
    }
    return Requests(
        requests=tuple(
            BuildRequest(variants=tuple(variants), release=release, torch=spec, **common)
            for (_, spec), (release, variants) in chosen.items()
        ),
        left_out=tuple(left_out),
        notes=tuple(notes),
    )


def _choose(
    variant: Variant,
    wanted: Wanted,
    torch: TorchBuild | None,
    source: str | None,
    lists: Callable[[Variant, str], bool] | None,
) -> tuple[Release, str | None]:
    """(The release of `variant`, the torch to name for it or None); raises BadInput where `build` would refuse it.

    `torch` and `source` are what `wanted` names, read.
    """
    version = wanted.torchvision or source
    named = releases().get(version) if version else None
    spec = wanted.torch
    if torch is not None:
        torch = _on_platform(torch, variant, wanted)
    elif wanted.torch_index is None and lists is not None:
        spec = _torch_of_pip(variant, named if version else newest(variant, any_index=True), lists)
    any_index = wanted.torch_index is not None or (torch is None and spec is not None)
    selection = select_release(variant, torchvision=wanted.torchvision, torch=torch, source=source, any_index=any_index)
    if torch is not None:
        _check_torch(variant, torch, named, allow_unpaired=wanted.allow_unpaired)
        if not selection.paired and not wanted.allow_unpaired:
            raise unpaired(selection.release, torch)
    if source is not None:
        action = f"Use {wanted.source} as the source of TorchVision {selection.release.torchvision}"
        check_version(action, selection.release, source)
    if torch is None and not any_index:
        check_published(variant, selection.release, selection.torch, allow_unpaired=wanted.allow_unpaired)
    elif torch is not None and torch.local is None and _is_published(wanted) and not wanted.allow_unpaired:
        for row in releases().values():
            if row.torch == torch.version:
                check_covered(variant, selection.release, row, named=True)
    if source is None and selection.needs_source:
        raise unpinned(selection.release, variant.python)
    if spec is None and selection.torch != selection.release.torch:
        spec = selection.torch  # of the track's CUDA, by the stable ABI
    return selection.release, spec


def refusal(variant: Variant) -> str | None:
    """Why `build` refuses `variant` where no option is given, and what to type instead; None where it does not."""
    try:
        _choose(variant, Wanted(exact=(variant,)), None, None, None)
    except BadInput as error:
        return f"{error.problem} {error.hint}"
    return None


def _torch_of_pip(variant: Variant, release: Release | None, lists: Callable[[Variant, str], bool]) -> str | None:
    """The torch of `release` for the track ("2.10.0+cu128"), where the registry has none for the platform and pip does.

    None where the package registry's own is taken.
    """
    if release is None or release.cuda != variant.cuda or release.torch_cuda(variant.platform) == variant.cuda:
        return None
    torch = f"{release.torch}+{toolkits()[variant.track].torch_local}"
    return torch if lists(variant, torch) else None


def pip_lists(variant: Variant, torch: str) -> bool:
    """Whether pip, with the indexes that it is configured with, finds `torch` ("2.10.0+cu128") for `variant`."""
    action = f"Find torch {torch} for {variant.platform}"
    try:
        locate(f"torch=={torch}", platform=variant.platform, python=variant.python, action=action, hint="")
    except FetchFailed:
        return False
    return True


Chosen = dict[tuple[str, str | None], tuple[Release, list[Variant]]]
"""(release, torch that is named for it or None) -> the release and its variants."""


def _is_published(wanted: Wanted) -> bool:
    """Whether the torch that is named is the package registry's, which the tables describe."""
    return wanted.torch is not None and is_version(wanted.torch) and wanted.torch_index is None


def _on_platform(torch: TorchBuild, variant: Variant, wanted: Wanted) -> TorchBuild:
    """`torch` as the variant's platform has it, where a bare version was named: the package registry's build of it.

    Another index may have another build, of which nothing is known before it is read.
    """
    if torch.local is not None or is_folder(home_expanded(wanted.torch or "")):
        return torch
    if wanted.torch_index is not None:
        return replace(torch, cuda=None, cpu_only=False)
    row = next((row for row in releases().values() if row.torch == torch.version), None)
    cuda = row.torch_cuda(variant.platform) if row else torch.cuda
    return replace(torch, cuda=cuda, cpu_only=row is not None and cuda is None and _is_published(wanted))


def _check_torch(variant: Variant, torch: TorchBuild, release: Release | None, *, allow_unpaired: bool) -> None:
    """Raises BadInput where the torch that is named is known to be of another CUDA than the variant's track.

    `release` is the one that is named too, if one is. Even an unpaired torch has to be of the same CUDA major version.
    """
    if variant.cuda is None or not (torch.cuda or torch.cpu_only):
        return
    if is_track_of(variant.cuda, torch.cuda) or (allow_unpaired and same_cuda_major(torch.cuda, variant.cuda)):
        return
    where = "" if torch.local else f" on {variant.platform}"
    what = f"built with CUDA {torch.cuda}" if torch.cuda else f"a CPU-only build{where}"
    any_release = release is None or allow_unpaired
    torches = [
        other
        for other in torches_of(variant)
        if any_release or (release is not None and pairs(release, TorchBuild(version=other)))
    ]
    row = next((row for row in releases().values() if row.torch == torch.version), None)
    other = of_cuda(variant, torch.cuda) if any_release or (release is not None and pairs(release, torch)) else None
    if other is not None and row is not None and torch_covers(row, other) is False:
        other = None
    raise BadInput(
        f"Build {variant} against torch {torch}",
        f"Torch {torch} is {what}, the track is CUDA {variant.cuda}.",
        f"Name one built with CUDA {variant.cuda}, "
        + (f"such as --torch {torches[0]}" if torches else "with --torch FILE.whl")
        + f", or perhaps --torch {torch.version}+{toolkits()[variant.track].torch_local} {index_of(variant)}"
        + (f", or choose {other}." if other else "."),
    )


def _with_source(chosen: Chosen, available: Callable[[Release], bool]) -> tuple[Chosen, list[str]]:
    """`chosen` with the newest release whose source this machine can get in place of one whose source it cannot.

    Only where nothing was named: whoever names a release gets it, or the error that lists every place that was tried.
    """
    made: Chosen = {}
    notes = []
    for (_, spec), (release, variants) in chosen.items():
        if available(release):
            made.setdefault((release.torchvision, spec), (release, []))[1].extend(variants)
            continue
        for variant in variants:
            other = newest(variant, available=available) or release  # fetching that one says which places were tried
            own = spec if other is release else None
            made.setdefault((other.torchvision, own), (other, []))[1].append(variant)
            if other is not release:
                why = available.problem(release) if isinstance(available, SourceAvailability) else None
                notes.append(
                    f"TorchVision {release.torchvision} is the newest release, and its source cannot be fetched here"
                    f"{f' ({why})' if why else ''}; {other.torchvision} is built instead. To insist: --torchvision "
                    f"{release.torchvision} --source TARBALL."
                )
    return made, list(dict.fromkeys(notes))


def running_python() -> str:
    """The Python that runs this program, as in variants' names: "312", "313t"."""
    free_threaded = "t" if "free-threading" in sys.version else ""
    return f"{sys.version_info.major}{sys.version_info.minor}{free_threaded}"


def left_out_by_reason(left_out: Collection[LeftOut]) -> dict[str, list[Variant]]:
    """Reason -> the variants that were left out for it, in order."""
    found: dict[str, list[Variant]] = {}
    for one in left_out:
        found.setdefault(one.reason, []).append(one.variant)
    return found

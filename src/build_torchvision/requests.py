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

from build_torchvision.compatibility import is_track_of
from build_torchvision.errors import BadInput, FetchFailed
from build_torchvision.facts import Release, toolkits
from build_torchvision.inputs.registry import locate
from build_torchvision.inputs.resolve import BuildRequest
from build_torchvision.inputs.source import SourceAvailability, check_version, source_version, unpinned
from build_torchvision.inputs.torch_sdk import read_version
from build_torchvision.reading import home_expanded
from build_torchvision.releases import (
    Selection,
    TorchBuild,
    newest,
    select_release,
    served_instead,
    torch_covers,
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
                f"Choose from {', '.join(PYTHONS)}, or any for one wheel that serves all.",
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
            selection = select_release(
                variant,
                torchvision=wanted.torchvision,
                torch=torch,
                source=source,
                any_index=wanted.torch_index is not None,
            )
            if not wanted.allow_unpaired:
                _check_torch(variant, torch)
                if torch is not None and not selection.paired:
                    raise unpaired(selection.release, torch)
            if source is not None:
                action = f"Use {wanted.source} as the source of TorchVision {selection.release.torchvision}"
                check_version(action, selection.release, source)
            if free and not wanted.allow_unpaired and wanted.torch_index is None:
                _check_served(variant, selection)
            if source is None and selection.needs_source:
                raise unpinned(selection.release, variant.python)
        except BadInput as error:
            row = newest(variant, any_index=True) if free and variant in wanted.exact else None
            if (
                row is not None
                and newest(variant) is None
                and lists is not None
                and lists(variant, local_torch(variant))
            ):
                chosen.setdefault((row.torchvision, local_torch(variant)), (row, []))[1].append(variant)
                continue
            if variant in wanted.exact:
                raise
            left_out.append(LeftOut(variant=variant, reason=error.problem, hint=error.hint))
            continue
        release, spec = selection.release, wanted.torch
        if spec is None and selection.torch != release.torch:
            spec = selection.torch  # of the track's CUDA, by the stable ABI
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


def local_torch(variant: Variant) -> str:
    """The torch of the newest release of the variant's track with its local version: "2.10.0+cu128"."""
    row = newest(variant, any_index=True)
    assert row is not None, "asked only where there is one"
    return f"{row.torch}+{toolkits()[variant.track].torch_local}"


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


def _check_torch(variant: Variant, torch: TorchBuild | None) -> None:
    """Raises BadInput where the torch that is named is known to be of another CUDA than the variant's track."""
    if torch is None or variant.cuda is None or not (torch.cuda or torch.cpu_only):
        return
    if is_track_of(variant.cuda, torch.cuda):
        return
    what = f"built with CUDA {torch.cuda}" if torch.cuda else "a CPU-only build"
    raise BadInput(
        f"Build {variant} against torch {torch}",
        f"Torch {torch} is {what}, the track is CUDA {variant.cuda}.",
        f"Name a torch built with CUDA {variant.cuda}, or another track.",
    )


def _check_served(variant: Variant, selection: Selection) -> None:
    """Raises BadInput where the release's published torch is known to have no code for the variant's GPU."""
    if torch_covers(selection.release, variant) is False:
        other = served_instead(variant)
        raise BadInput(
            f"Build {variant} of TorchVision {selection.release.torchvision}",
            f"The published torch {selection.torch} has no code for {variant.sm}.",
            (f"A published torch has it for {other}. Or name " if other else "Name ")
            + f"a torch built for {variant.sm} with --torch SITE_PACKAGES or FILE.whl, or add --allow-unpaired: the "
            "wheel then says that its torch does not serve this GPU.",
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

"""Choose the TorchVision release of a variant: by its name, by the torch that it goes with, or the newest of the track.

Every command asks `select_release`. The tables decide (facts/releases.toml); nothing is fetched or read here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import zip_longest
from types import MappingProxyType

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from build_torchvision.compatibility import serves
from build_torchvision.errors import BadInput
from build_torchvision.facts import Release, releases, toolkits, version_key
from build_torchvision.facts.wheel_indexes import wheel_index
from build_torchvision.variants import CPU, PYTHONS, TRACKS, Variant, enumerate_variants

UPDATE = "python tools/update_facts.py"
"""The command that reads the package registry and brings the tables up to date."""


@dataclass(frozen=True, kw_only=True)
class TorchBuild:
    """A torch that a user has or names: `version` without its local part ("2.14.0"), which is `local` ("cu130").

    `cuda` is the CUDA version it was built with; None for a CPU-only build and where that is not known.
    """

    version: str
    local: str | None = None
    cuda: str | None = None
    cpu_only: bool = False
    """Whether it is known to be without CUDA."""

    @classmethod
    def parse(cls, text: str) -> TorchBuild:
        """Read "2.14.0" or "2.14.0+cu126"; raises BadInput for what is no version.

        A local part names the CUDA version. Without one the package registry's build is meant, as the table has it.
        """
        try:
            version = Version(text)
        except InvalidVersion as error:
            raise BadInput(
                f"--torch {text}", "is no version, no wheel and no folder.", "Give VERSION, FILE.whl or SITE_PACKAGES."
            ) from error
        named = re.fullmatch(r"cu(\d\d)(\d+)", version.local or "")
        if named:
            return cls(version=version.public, local=version.local, cuda=f"{named[1]}.{named[2]}")
        known = next((row.cuda for row in releases().values() if row.torch == version.public), None)
        cpu_only = (version.local or "").startswith("cpu")
        cuda = None if version.local else known
        return cls(version=version.public, local=version.local, cuda=cuda, cpu_only=cpu_only)

    def __str__(self) -> str:
        return f"{self.version}+{self.local}" if self.local else self.version


@dataclass(frozen=True, kw_only=True)
class Selection:
    """A release for a variant, with the torch to build it against."""

    release: Release
    torch: str
    """The version of that torch, without its local part."""
    paired: bool
    """Whether release and torch belong together: see `pairs`."""
    reason: str
    """Why it is this release, one sentence."""

    @property
    def needs_source(self) -> bool:
        """Whether no source can be fetched for it, so that the user has to name one with --source."""
        return self.release.sha256 is None


def release_named(version: str) -> Release:
    """The listed release `version` ("0.29.1"). Raises BadInput, naming the nearest, for any other text."""
    known = releases()
    if version in known:
        return known[version]
    near = _nearest(version, known)
    raise BadInput(
        f"TorchVision release {version!r}",
        "is not in the table of releases.",
        (f"Did you mean {' or '.join(near)}? " if near else "")
        + f"Known: {', '.join(known)}. A release that is not listed is built with --source DIR and --torch.",
    )


def _nearest(asked: str, known: Iterable[str]) -> list[str]:
    """The two of `known` that stand next to version `asked`, the nearest first; none for what is no version."""
    try:
        wanted = Version(asked)
    except InvalidVersion:
        return []

    def distance(version: str) -> list[int]:
        numbers = zip_longest(wanted.release, Version(version).release, fillvalue=0)
        return [abs(ours - theirs) for ours, theirs in numbers]

    return sorted(known, key=distance)[:2]


def pairs(release: Release, torch: TorchBuild) -> bool:
    """Whether `torch` is one that `release` was published for.

    Without the stable ABI that is one version alone; with it every version that the release's requirement admits
    (PEP 440), pre-releases included. A torch of another CUDA major version than the wheel does not import beside it,
    which is a matter of the track and is checked where the torch's files are read.
    """
    if not release.stable_abi:
        return torch.version == release.torch
    return SpecifierSet(release.torch_requirement).contains(torch.version, prereleases=True)


def unpaired(release: Release, torch: TorchBuild, origin: str = "") -> BadInput:
    """The error of a build of `release` against `torch` (from `origin`), for which it was not published."""
    own = _newest_pinned(row for row in releases().values() if pairs(row, torch))
    return BadInput(
        f"Build TorchVision {release.torchvision} against torch {torch}{f' ({origin})' if origin else ''}",
        f"That release needs torch {release.torch_requirement}; with another its operators do not load.",
        f"Leave out --torch for {release.torch}, "
        + (f"or choose --torchvision {own.torchvision}, which goes with torch {torch.version}, " if own else "")
        + "or add --allow-unpaired: the wheel then says so.",
    )


def pinned_instead(release: Release, python: str) -> Release | None:
    """The newest release with a pinned source that goes with the torch of `release`, for Python "313" too.

    One of the stable ABI serves whatever Python that torch is for: where it is not one of its own row, the torch has to
    be named.
    """
    torch = TorchBuild(version=release.torch, cuda=release.cuda)
    return _newest_pinned(
        row
        for row in releases().values()
        if row.sha256
        and pairs(row, torch)
        and (python in row.pythons or (row.stable_abi and python in release.pythons))
    )


def _newest_pinned(rows: Iterable[Release]) -> Release | None:
    """The newest of `rows`, one with a pinned source before one without."""
    return max(rows, key=lambda row: (row.sha256 is not None, version_key(row.torchvision)), default=None)


def check_published(variant: Variant, release: Release, torch: str, *, allow_unpaired: bool = False) -> None:
    """Raises BadInput where the package registry's `torch` ("2.6.0") of `release` does not go with `variant`.

    It has to be of the track's CUDA on the variant's platform and, unless `allow_unpaired`, to have code for its GPU.
    Asked where neither a torch nor an index was named: whoever names one may have another build of that version.
    """
    row = next((row for row in releases().values() if row.torch == torch), release)
    if variant.cuda is not None and row.cuda != variant.cuda:
        raise BadInput(
            f"Build {variant} of TorchVision {release.torchvision}",
            f"Its torch, {torch}, is built with CUDA {row.cuda}, the track is CUDA {variant.cuda}.",
            _any_of(
                _on_track_of(row, variant),
                _of_track(variant),
                f"name a torch {torch} built with CUDA {variant.cuda}: --torch FILE.whl, perhaps {index_of(variant)}",
            ),
        )
    if variant.cuda is not None and row.torch_cuda(variant.platform) != variant.cuda:
        raise _not_on_platform(f"Build {variant} of TorchVision {release.torchvision}", variant, release)
    if not allow_unpaired:
        check_covered(variant, release, row)


def check_covered(variant: Variant, release: Release, row: Release, *, named: bool = False) -> None:
    """Raises BadInput where the published torch of `row`, to build `release` against, has no code for the GPU.

    `named` tells whether that torch was named, so that another has to be named in its place.
    """
    if torch_covers(row, variant) is not False:
        return
    raise BadInput(
        f"Build {variant} of TorchVision {release.torchvision}",
        f"The published torch {row.torch} has no code for {variant.sm}.",
        _any_of(
            _served_by(variant, named=named),
            f"name a torch built for {variant.sm} with --torch SITE_PACKAGES or FILE.whl",
            "add --allow-unpaired: the wheel then says that its torch does not serve this GPU",
        ),
    )


def _served_by(variant: Variant, *, named: bool) -> str | None:
    """Advice to take the variant whose GPU a published torch serves; with that torch where another was `named`."""
    other = served_instead(variant)
    row = newest(other) if other is not None else None
    if row is None:
        return None
    torch = f" --torch {row.torch}" if named else ""
    return f"choose {other} --torchvision {row.torchvision}{torch}"


def torches_of(variant: Variant) -> list[str]:
    """The published torches of the track of `variant` that, as far as the table tells, run on its GPU, newest first."""
    rows = reversed(list(releases().values()))
    return list(
        dict.fromkeys(
            row.torch
            for row in rows
            if row.torch_cuda(variant.platform) == variant.cuda and torch_covers(row, variant) is not False
        )
    )


def index_of(variant: Variant) -> str:
    """The option that names the index of torches built with the CUDA of `variant`'s track."""
    row = wheel_index(toolkits()[variant.track].torch_local) if variant.cuda else None
    return f"--torch-index {row.index}" if row is not None and row.index else "--torch-index URL"


def of_cuda(variant: Variant, cuda: str | None) -> Variant | None:
    """`variant` on the track of `cuda` ("12.6"; None: the CPU's); None where no track is of it or serves the GPU."""
    tracks = [CPU] if cuda is None else [track for track, row in toolkits().items() if row.version == cuda]
    found = enumerate_variants(variant.python, tracks, (variant.sm,) if variant.sm else ()) if tracks else []
    return next((other for other in found if other.isa == variant.isa), None)


def _on_track_of(row: Release, variant: Variant) -> str | None:
    """Advice to take `variant` on the track that the published torch of `row` is of, where that can be built."""
    other = of_cuda(variant, row.torch_cuda(variant.platform))
    if other is None or variant.python not in row.pythons or torch_covers(row, other) is False:
        return None
    return f"choose {other}"


def _of_track(variant: Variant) -> str | None:
    """Advice to take the newest release that can be fetched and whose torch is of the track of `variant`."""
    for row in reversed(list(releases().values())):
        torch = _own_torch(row, variant)
        built = next((one for one in releases().values() if one.torch == torch.version), row)
        if (
            row.sha256
            and variant.python in row.pythons
            and torch.cuda == variant.cuda
            and torch_covers(built, variant) is not False
        ):
            return f"take --torchvision {row.torchvision}, which goes with torch {torch.version} of CUDA {torch.cuda}"
    return None


def _any_of(*ways: str | None) -> str:
    """One sentence of all `ways` that there are."""
    text = ", or ".join(way for way in ways if way)
    return f"{text[0].upper()}{text[1:]}."


def served_instead(variant: Variant) -> Variant | None:
    """The variant of the same GPU, on the newest track whose published torch has code for it; the same ISA if it can.

    None where no published torch is known to have any.
    """
    assert variant.sm is not None, "asked for a GPU"
    tracks = [track for track in TRACKS if track != CPU]
    served = [other for other in enumerate_variants(variant.python, tracks, (variant.sm,)) if _known_served(other)]
    return max(
        reversed(served), key=lambda other: (other.isa == variant.isa, version_key(other.cuda or "0")), default=None
    )


def _known_served(variant: Variant) -> bool:
    found = newest(variant)
    return found is not None and found.sha256 is not None and torch_covers(found, variant) is True


def unlisted_release(version: str, torch: TorchBuild) -> Release:
    """A release that no row describes, built from the user's own source against `torch`.

    What a row would have said of it (extensions, operators, C++ standard, floors of upstream's tests) is unknown and
    cannot be judged.
    """
    return Release(
        torchvision=version,
        torch=torch.version,
        torch_requirement=f"=={torch.version}",
        cuda=torch.cuda,
        cuda_aarch64=torch.cuda,
        sha256=None,
        pythons=PYTHONS,
        extensions=(),
        debian_source=None,
        stable_abi=False,
        cxx_standard=None,
        upstream_tests=MappingProxyType({}),
        listed=False,
        source="not in the table of releases: the user's own source",
    )


def select_release(
    variant: Variant,
    *,
    torchvision: str | None = None,
    torch: TorchBuild | None = None,
    source: str | None = None,
    any_index: bool = False,
    available: Callable[[Release], bool] | None = None,
) -> Selection:
    """The release to build `variant` as.

    `torchvision` is a release that the user names, `torch` a torch that the user has or names, `source` the version of
    a source tree that the user names (its version.txt). Without any of them it is the newest release with a pinned
    source whose published torch is of the variant's track and platform; `available` then tells which sources can be
    had, where some cannot. With `any_index` the user names an index that has torch for every platform.
    Raises BadInput, saying what to name, where no release goes with what was asked.
    """
    if torchvision is not None or source is not None:
        release = _asked_for(variant, torchvision, source, torch)
        chosen = torch or _own_torch(release, variant)
        reason = f"it was asked for as {torchvision or f'source of {source}'}"
        return Selection(release=release, torch=chosen.version, paired=pairs(release, chosen), reason=reason)
    if torch is not None:
        return _for_torch(variant, torch)
    found = newest(variant, any_index=any_index, available=available)
    if found is None:
        raise _none(variant, any_index)
    what = "that is listed" if variant.track == CPU else f"whose torch is built with CUDA {variant.cuda}"
    return Selection(release=found, torch=found.torch, paired=True, reason=f"it is the newest release {what}")


def newest(
    variant: Variant, *, any_index: bool = False, available: Callable[[Release], bool] | None = None
) -> Release | None:
    """The newest release of `variant`'s track, platform and Python; one with a pinned source before one without."""
    fitting = candidates(variant, any_index=any_index)
    pinned = [row for row in fitting if row.sha256 and (available is None or available(row))]
    return next(iter(pinned or (fitting if available is None else [])), None)


def candidates(variant: Variant, *, any_index: bool = False) -> list[Release]:
    """Releases whose published torch is of `variant`'s track, platform and Python, newest first."""
    return [
        row
        for row in reversed(list(releases().values()))
        if variant.python in row.pythons
        and (variant.track == CPU or variant.cuda == (row.cuda if any_index else row.torch_cuda(variant.platform)))
    ]


def published_torch_serves(variant: Variant) -> bool:
    """Whether a torch from the package registry goes with `variant` and, as far as the table tells, runs on its GPU."""
    found = newest(variant)
    return found is not None and found.sha256 is not None and torch_covers(found, variant) is not False


def torch_covers(release: Release, variant: Variant) -> bool | None:
    """Whether the published torch of `release` has code for `variant`'s GPU; None where the table does not tell."""
    cubins = release.torch_cubins.get(variant.platform)
    if variant.sm is None:
        return True
    return None if cubins is None else serves(cubins, (), variant.sm)


def published_cubins(torch: TorchBuild, variant: Variant) -> tuple[str, ...] | None:
    """The SMs that the package registry's build of `torch` has cubins for, where `variant` runs; None if not known."""
    row = next((row for row in releases().values() if row.torch == torch.version and torch.local is None), None)
    cubins = row.torch_cubins.get(variant.platform) if row is not None else None
    return None if cubins is None else tuple(cubins)


def newer_than_known(torch: TorchBuild) -> str | None:
    """For a torch newer than any that the table knows: a sentence that says so, with the command that updates it.

    None for every other. Where this says something, no advice is to be drawn from the rows of older releases.
    """
    newest_known = max((row.torch for row in releases().values()), key=version_key)
    if Version(torch.version).release[:2] <= Version(newest_known).release[:2]:
        return None
    return (
        f"torch {torch} is newer than this program knows (torch {newest_known}): update build-torchvision, or type "
        f"`{UPDATE}` in a checkout of it."
    )


def _asked_for(variant: Variant, torchvision: str | None, source: str | None, torch: TorchBuild | None) -> Release:
    version = torchvision or source or ""
    if version in releases():
        return releases()[version]
    if source is None:
        return release_named(version)
    asked = f"Build {variant} from source of TorchVision {version}"
    if torch is None:
        raise BadInput(
            asked,
            "No row of the table describes this release, so it is not known which torch it goes with.",
            "Name that torch with --torch VERSION, FILE.whl or SITE_PACKAGES.",
        )
    return unlisted_release(version, torch)


def _own_torch(release: Release, variant: Variant) -> TorchBuild:
    """The torch to build `release` against: its own, or for another CUDA track one that its stable ABI goes with."""
    own = TorchBuild(version=release.torch, cuda=release.torch_cuda(variant.platform))
    if variant.cuda in (None, own.cuda) or not release.stable_abi:
        return own
    others = [TorchBuild(version=row.torch, cuda=row.torch_cuda(variant.platform)) for row in releases().values()]
    return next((one for one in reversed(others) if one.cuda == variant.cuda and pairs(release, one)), own)


def _for_torch(variant: Variant, torch: TorchBuild) -> Selection:
    """The release that goes with `torch`: one with a pinned source first, then of the torch's own CUDA, then newest."""
    fitting = [row for row in releases().values() if pairs(row, torch)]
    if not fitting:
        raise BadInput(
            f"Build {variant} against torch {torch}",
            newer_than_known(torch) or f"No listed release of TorchVision goes with torch {torch}.",
            "Name a release and its source with --torchvision and --source, or another torch: "
            f"{', '.join(dict.fromkeys(row.torch for row in releases().values()))}.",
        )

    def worth(row: Release) -> tuple[object, ...]:
        own = torch.cuda is not None and row.torch_cuda(variant.platform) == torch.cuda
        return row.sha256 is not None, own, version_key(row.torchvision)

    return Selection(
        release=max(fitting, key=worth), torch=torch.version, paired=True, reason=f"it is the release of torch {torch}"
    )


def _none(variant: Variant, any_index: bool) -> BadInput:
    asked = f"Choose a release for {variant}"
    rows = releases().values()
    if variant.track == CPU or candidates(_of_python(variant, "312"), any_index=any_index):
        pythons = sorted({p for row in rows for p in row.pythons if variant.track == CPU or row.cuda == variant.cuda})
        return BadInput(
            asked,
            f"No release of the track has wheels for Python {variant.python_version}.",
            f"Choose --python from {', '.join(pythons)}.",
        )
    elsewhere = newest(variant, any_index=True)
    if elsewhere and not any_index:
        return _not_on_platform(asked, variant, elsewhere)
    return BadInput(
        asked,
        f"No release was published with a torch of CUDA {variant.cuda}.",
        "Name a torch that was built with it: --torch FILE.whl or SITE_PACKAGES, or perhaps --torchvision VERSION "
        f"{index_of(variant)}; or choose another track.",
    )


def _not_on_platform(action: str, variant: Variant, release: Release) -> BadInput:
    """The error where torch is published for the track's CUDA, and not for the platform of `variant`."""
    return BadInput(
        action,
        f"The package registry has no torch for {variant.platform} that is built with CUDA {variant.cuda}.",
        _any_of(
            f"name an index that has one, perhaps {index_of(variant)} (torch {release.torch} is taken for TorchVision "
            f"{release.torchvision})",
            "a wheel with --torch FILE.whl",
            _served_by(variant, named=False),
        ),
    )


def _of_python(variant: Variant, python: str) -> Variant:
    return Variant(python=python, track=variant.track, sm=variant.sm, isa=variant.isa)

"""The matrix: names <-> Variant, which ones exist, and choosing among them.

Names look like `torchvision-python313-cuda12_8-sm120-avx512` and `torchvision-python313-cpu-avx2`.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import bracex

from build_torchvision.compatibility import driver_floor, hardware_exists, toolkit_support
from build_torchvision.errors import BadInput
from build_torchvision.facts import Gpu, Isa, gpus, isas, releases, toolkits, version_key

CPU = "cpu"
TRACKS: tuple[str, ...] = (*toolkits(), CPU)
DEFAULT_TRACKS: tuple[str, ...] = ("cuda12_8", CPU)
DEFAULT_PYTHON = "313"
MOST_EXPANSIONS = 10_000
PYTHONS: tuple[str, ...] = tuple(sorted({python for known in releases().values() for python in known.pythons}))
CORE_SMS: tuple[str, ...] = tuple(sm for sm, gpu in gpus().items() if gpu.core)
"""The nine SMs of the default matrix."""

_NAME = re.compile(r"torchvision-python(?P<python>[^-]+)-(?P<track>[^-]+)(?:-(?P<sm>sm[^-]*))?-(?P<isa>[^-]+)")
_ALIASES = {"armv8.2": "armv8_2"}


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One point of the matrix. It can only exist if valid: anything else raises BadInput with what would work."""

    python: str
    """Python without its dot: "313" is 3.13, "313t" its free-threaded build."""
    track: str
    """Either "cpu" or a CUDA toolkit such as "cuda12_8"."""
    sm: str | None
    """The GPU architecture, such as "sm120"; None exactly in the track "cpu"."""
    isa: str
    """The CPU instruction set, such as "avx512"."""

    def __post_init__(self) -> None:
        if self.python not in PYTHONS:
            raise self._wrong(f"Python {self.python!r} is not one of {', '.join(PYTHONS)}.")
        if self.track not in TRACKS:
            raise self._wrong(f"track {self.track!r} is not one of {', '.join(TRACKS)}.")
        if self.isa not in isas():
            raise self._wrong(f"CPU ISA {self.isa!r} is not one of {', '.join(isas())}.")
        if self.track == CPU:
            if self.sm is not None:
                raise self._wrong(f"the track cpu has no GPU, so {self.sm!r} has no place in the name.")
            return
        if self.sm is None:
            raise self._wrong(f"the track {self.track} needs an SM before the CPU ISA.")
        if self.sm not in gpus():
            raise self._wrong(f"SM {self.sm!r} is not one of {', '.join(gpus())}.")
        if toolkit_support(self.track, self.sm) is None:
            raise BadInput(str(self), _why_impossible(self.track, self.sm), self._instead())

    def __str__(self) -> str:
        sm = f"-{self.sm}" if self.sm is not None else ""
        return f"torchvision-python{self.python}-{self.track}{sm}-{self.isa}"

    @property
    def short(self) -> str:
        """The name without "torchvision-pythonNNN-"."""
        return str(self).split("-", 2)[2]

    @property
    def python_version(self) -> str:
        """The version as people write it: "3.13" for "313"."""
        return f"{self.python[0]}.{self.python[1:]}"

    @property
    def cuda(self) -> str | None:
        """The CUDA toolkit's version ("12.8"), or None in the track "cpu"."""
        return None if self.track == CPU else toolkits()[self.track].version

    @property
    def platform(self) -> str:
        """The platform, "x86_64" or "aarch64", which the ISA decides."""
        return self.isa_facts.platform

    @property
    def gpu(self) -> Gpu | None:
        """The row of facts of this SM, or None in the track "cpu"."""
        return None if self.sm is None else gpus()[self.sm]

    @property
    def driver_floor(self) -> str | None:
        """The oldest Linux NVIDIA driver that runs it ("570.26"), or None in the track "cpu"."""
        return None if self.sm is None else driver_floor(self.track, self.sm)

    @property
    def hardware_exists(self) -> bool:
        """Whether a computer is sold that this variant is for."""
        return hardware_exists(self.sm, self.isa)

    @property
    def isa_facts(self) -> Isa:
        """The row of facts of this CPU ISA."""
        return isas()[self.isa]

    def _wrong(self, problem: str) -> BadInput:
        return BadInput(str(self), problem, _did_you_mean(str(self)))

    def _instead(self) -> str:
        assert self.sm is not None
        ways = [(track, way) for track in toolkits() if (way := toolkit_support(track, self.sm))]
        ways.sort(key=lambda item: item[1].kind != "native")
        names = [
            f"{Variant(python=self.python, track=track, sm=self.sm, isa=self.isa)} ({way.kind})" for track, way in ways
        ]
        return f"What works for {self.sm}: {', '.join(names)}."


def _why_impossible(track: str, sm: str) -> str:
    toolkit, gpu = toolkits()[track], gpus()[sm]
    capability = version_key(gpu.capability)
    if capability < min(version_key(gpus()[known].capability) for known in toolkit.native):
        return (
            f"CUDA {toolkit.version} no longer compiles for {gpu.architecture} ({gpu.capability}): "
            f"its oldest SM is {toolkit.native[0]}."
        )
    return (
        f"CUDA {toolkit.version} does not know {gpu.architecture} ({gpu.capability}), and it makes neither a cubin of "
        f"major version {capability[0]} nor PTX of that generation: its newest SM is {toolkit.native[-1]}."
    )


def parse(name: str) -> Variant:
    """The variant of `name`; "armv8.2" is accepted for "armv8_2". `parse(str(v)) == v` for every variant.

    Raises BadInput: a wrong name gets the nearest right ones, an impossible combination the reason and what works.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise BadInput(
            name,
            "is not of the form torchvision-pythonNNN-cpu-ISA or torchvision-pythonNNN-cudaN_N-smNN-ISA.",
            _did_you_mean(name),
        )
    isa = match["isa"]
    return Variant(python=match["python"], track=match["track"], sm=match["sm"], isa=_ALIASES.get(isa, isa))


def nearest(name: str, count: int = 3) -> list[str]:
    """The `count` existing names most like `name`, best first; a part that is right in `name` weighs most."""
    asked = _with_aliases(name.strip())
    if not asked.startswith("torchvision"):
        asked = f"torchvision-python{DEFAULT_PYTHON}-{asked}"
    dotless = re.sub(r"(?<=python)(\d)\.(\d)", r"\1\2", asked)  # python3.12 is python312
    asked = re.sub(r"-([A-Za-z0-9 ]+)(?=-)", _sm_of_product, dotless)
    python = max((known for known in PYTHONS if f"python{known}" in asked), key=len, default=DEFAULT_PYTHON)
    parts = set(asked.split("-"))

    shared = {
        variant: len(parts & set(str(variant).split("-"))) for variant in every_variant() if variant.python == python
    }
    enough = sorted(shared.values(), reverse=True)[:count][-1]  # letters decide only among those

    def likeness(variant: Variant) -> tuple[int, float, bool]:
        ratio = difflib.SequenceMatcher(None, asked, str(variant)).ratio()
        return shared[variant], ratio, variant.sm in CORE_SMS

    names = [variant for variant, found in shared.items() if found >= enough]
    return [str(variant) for variant in sorted(names, key=likeness, reverse=True)[:count]]


def _sm_of_product(match: re.Match[str]) -> str:
    """A part of a name ("-h100") as the SM of the product that it names ("-sm90"), unchanged where it names none."""
    asked = match[1].lower().replace(" ", "")
    words = {product.lower().replace(" ", ""): sm for sm, gpu in gpus().items() for product in gpu.products}
    return f"-{words[asked]}" if asked in words else match[0]


def _did_you_mean(name: str) -> str:
    return f"Did you mean {' or '.join(nearest(name))}?"


def _with_aliases(text: str) -> str:
    for alias, isa in _ALIASES.items():
        text = text.replace(alias, isa)
    return text


def enumerate_variants(
    python: str = DEFAULT_PYTHON,
    tracks: Sequence[str] = DEFAULT_TRACKS,
    sms: Collection[str] | None = CORE_SMS,
) -> list[Variant]:
    """All variants of one Python in `tracks`: by track as given, then SM by rising capability, then ISA.

    Without arguments this is the default matrix of 60. `sms` limits the SMs; None means every one that a toolkit
    serves. An SM that a track cannot serve is left out there. Raises BadInput for an unknown Python, track or SM.
    """
    for value, known, word in ((python, PYTHONS, "Python"), *((t, TRACKS, "track") for t in tracks)):
        _check(value, known, word)
    for sm in sms or ():
        _check(sm, tuple(gpus()), "SM")
    found: list[Variant] = []
    for track in dict.fromkeys(tracks):
        served: list[str | None] = [None]
        if track != CPU:
            served = [sm for sm in gpus() if (sms is None or sm in sms) and toolkit_support(track, sm)]
        found += [Variant(python=python, track=track, sm=sm, isa=isa) for sm in served for isa in isas()]
    return found


def _check(value: str, known: Sequence[str], word: str) -> None:
    if value not in known:
        near = difflib.get_close_matches(value, known, n=1, cutoff=0.0)
        raise BadInput(f"{word} {value!r}", f"is not one of {', '.join(known)}.", f"Did you mean {' or '.join(near)}?")


@cache
def every_variant() -> tuple[Variant, ...]:
    """Every variant there is: all Pythons, all tracks, all SMs that a toolkit serves."""
    return tuple(variant for python in PYTHONS for variant in enumerate_variants(python, TRACKS, None))


def is_pattern(name: str) -> bool:
    """Whether `name` is a glob or has braces, rather than the name of one variant."""
    return bool(set(name) & set("*?[]{}"))


def expand_braces(pattern: str) -> list[str]:
    """`a{b,c}d` -> `abd`, `acd`; braces may nest. Raises BadInput where they do not pair, or for far too many."""
    depth = 0
    for char in pattern:
        depth += (char == "{") - (char == "}")
        if depth < 0:
            break
    if depth:
        which = "a { without its }" if depth > 0 else "a } without its {"
        raise BadInput(f"pattern {pattern!r}", f"has {which}.", "Write braces as in 'cpu-avx{2,512}'.")
    try:
        return list(bracex.iexpand(pattern, keep_escapes=True, limit=MOST_EXPANSIONS))
    except bracex.ExpansionLimitException as error:
        raise BadInput(
            f"pattern {pattern!r}", f"stands for more than {MOST_EXPANSIONS} names.", "Use * in place of a list."
        ) from error


def matching(name: str) -> list[Variant]:
    """The variants that `name`, exact or a pattern, means: of the nine core SMs, unless it names another itself.

    Without "torchvision-pythonNNN-" it is of the default Python, and of the default tracks unless it begins with
    another or matches none of theirs. Raises BadInput where it means nothing.
    """
    variants: list[Variant] = []
    for glob in expand_braces(name):
        for universe in _universes(glob):
            try:
                variants += select([glob], universe)
                break
            except BadInput:
                continue
    return variants or select([name], every_variant())


def _universes(glob: str) -> Iterator[Sequence[Variant]]:
    """What a pattern without braces may be of, the first that it matches: core variants before all of the same."""
    if "-python" in glob:
        yield [v for v in every_variant() if v.sm is None or v.gpu is None or v.gpu.core]
        yield every_variant()
        return
    begun = [track for track in TRACKS if glob.startswith(track)]
    for tracks in [begun] if begun else [DEFAULT_TRACKS, TRACKS]:
        yield enumerate_variants(tracks=tracks)
        yield enumerate_variants(tracks=tracks, sms=None)


def select(patterns: Sequence[str], universe: Iterable[Variant]) -> list[Variant]:
    """Those of `universe`, in its order, that any of `patterns` matches; all of them where there is no pattern.

    A pattern is a glob with braces over the whole name or over the name without "torchvision-pythonNNN-":
    `cpu-*`, `*-sm{100,120}-avx512*`. Raises BadInput for a pattern that matches nothing.
    """
    variants = list(universe)
    if not patterns:
        return variants
    chosen: set[Variant] = set()
    for pattern in patterns:
        globs = expand_braces(_with_aliases(pattern))
        hits = {v for v in variants for glob in globs if _matches(v, glob)}
        if not hits:
            raise _no_match(pattern, globs, variants)
        chosen |= hits
    return [variant for variant in variants if variant in chosen]


def _matches(variant: Variant, glob: str) -> bool:
    return fnmatch.fnmatchcase(str(variant), glob) or fnmatch.fnmatchcase(variant.short, glob)


def _no_match(pattern: str, globs: Sequence[str], universe: Sequence[Variant]) -> BadInput:
    beyond = [variant for variant in every_variant() if any(_matches(variant, glob) for glob in globs)]
    if beyond:
        pythons, asked = {variant.python for variant in universe}, {variant.track for variant in universe}
        tracks = [v.track for v in beyond if v.python in pythons and v.track not in asked and v.sm in (None, *CORE_SMS)]
        return BadInput(
            f"pattern {pattern!r}",
            f"matches nothing in the part of the matrix that was asked for, but {len(beyond)} outside it.",
            "Add " + "".join(f"--track {track}, or " for track in dict.fromkeys(tracks)) + "--all.",
        )
    if not any(set(glob) & set("*?[") for glob in globs):
        name = globs[0] if globs[0].startswith("torchvision-") else f"torchvision-python{DEFAULT_PYTHON}-{globs[0]}"
        try:
            parse(name)
        except BadInput as error:
            return error
    return BadInput(f"pattern {pattern!r}", "matches no variant.", _did_you_mean(re.sub(r"[*?{}\[\]]", "", pattern)))

"""Split variants into the jobs of a fleet: one for each release, track and platform, each with its command.

Variants of one job share host objects and device code, so that one graph compiles each of them once.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from build_torchvision.facts import Release
from build_torchvision.releases import newest, torch_covers
from build_torchvision.variants import Variant

# Hosted runners by platform (GitHub docs, "Choosing the runner for a job"): Ubuntu 24.04, one of the README's systems.
RUNNERS = {"x86_64": "ubuntu-24.04", "aarch64": "ubuntu-24.04-arm"}
INDEX_VARIABLE = "TORCH_INDEX"
"""The environment variable that names an index with torch, where the package registry has none for a job."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one machine builds."""

    release: Release
    track: str
    platform: str
    python: str
    variants: tuple[Variant, ...]
    needs_index: bool
    """Whether the package registry has no torch for it, so that an index has to be named."""

    @property
    def name(self) -> str:
        """As a job is called: "cuda12_8-x86_64-0.25.0"."""
        return f"{self.track}-{self.platform}-{self.release.torchvision}"

    @property
    def pattern(self) -> str:
        """The pattern that `build` takes for the job's variants; exact, so that nothing is left out of it."""
        whole = f"torchvision-python{self.python}-{self.track}"
        isas = ",".join(dict.fromkeys(variant.isa for variant in self.variants))
        sms = list(dict.fromkeys(variant.sm for variant in self.variants if variant.sm))
        return f"{whole}-{{{','.join(sms)}}}-{{{isas}}}" if sms else f"{whole}-{{{isas}}}"

    @property
    def command(self) -> str:
        """The command that builds them."""
        words = ["build-torchvision", "build", self.pattern, "--torchvision", self.release.torchvision]
        index = f' --torch-index "${INDEX_VARIABLE}"' if self.needs_index else ""
        return shlex.join(words) + index

    def to_json(self) -> dict[str, object]:
        """As one entry of a CI matrix."""
        return {
            "name": self.name,
            "torchvision": self.release.torchvision,
            "torch": self.release.torch,
            "track": self.track,
            "platform": self.platform,
            "python": self.python,
            "runner": RUNNERS[self.platform],
            "variants": len(self.variants),
            "needs_index": self.needs_index,
            "pattern": self.pattern,
            "command": self.command,
        }


def fleet(variants: Iterable[Variant], *, any_index: bool = False) -> list[Job]:
    """The jobs that build `variants`, each as the newest release of its track, in the order of `variants`.

    Left out is what no published torch serves, as far as the tables tell; and, unless an index will be named
    (`any_index`), what the package registry has no torch for, and what takes a source that the user names.
    """
    found: dict[tuple[str, str, str, str], list[Variant]] = {}
    rows: dict[str, Release] = {}
    published: dict[tuple[str, str, str, str], bool] = {}
    for variant in variants:
        own = newest(variant)
        release = own or (newest(variant, any_index=True) if any_index else None)
        if release is None or release.sha256 is None or torch_covers(release, variant) is False:
            continue
        key = (release.torchvision, variant.track, variant.platform, variant.python)
        rows[release.torchvision] = release
        published[key] = own is not None
        found.setdefault(key, []).append(variant)
    return [
        Job(
            release=rows[key[0]],
            track=key[1],
            platform=key[2],
            python=key[3],
            variants=tuple(members),
            needs_index=not published[key],
        )
        for key, members in found.items()
    ]

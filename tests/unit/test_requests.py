"""From names and options to build requests: which release, what a pattern leaves out, what stands in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from _machines import record, sources

from build_torchvision.choose.auto import auto_variant
from build_torchvision.compatibility import toolkit_support
from build_torchvision.errors import BadInput
from build_torchvision.facts import Release, releases
from build_torchvision.inputs.precheck import check_request
from build_torchvision.inputs.source import SourceAvailability
from build_torchvision.machine.report import detect
from build_torchvision.requests import (
    LeftOut,
    Wanted,
    for_pythons,
    left_out_by_reason,
    named_variant,
    named_variants,
    pythons_named,
    refusal,
    requests_for,
    torch_named,
)
from build_torchvision.variants import CPU, TRACKS, Variant, every_variant, parse


def wanted(*names: str, **options: object) -> Wanted:
    exact, matched = named_variants(names)
    return Wanted(exact=exact, matched=matched, **options)  # type: ignore[arg-type]  # Wanted's own fields


def everywhere(release: Release) -> bool:
    return True


def test_each_track_gets_the_newest_release_of_its_torch() -> None:
    found = requests_for(wanted("cuda12_8-sm90-avx2", "cuda13_0-sm90-avx2", "cpu-avx2"), everywhere)
    assert {
        variant.track: (request.release.torchvision, request.release.torch)
        for request in found.requests
        for variant in request.variants
    } == {"cuda12_8": ("0.25.0", "2.10.0"), "cuda13_0": ("0.29.1", "2.14.0"), "cpu": ("0.29.1", "2.14.0")}
    assert (found.left_out, found.notes) == ((), ())


def test_a_pattern_builds_what_torch_serves_and_says_what_it_left_out() -> None:
    found = requests_for(wanted("torchvision-python313-cuda12_8-*-avx*"), everywhere)
    assert len(found.variants) == 32
    assert {(left.variant.sm, left.reason) for left in found.left_out} == {
        ("sm110", "The published torch 2.10.0 has no code for sm110.")
    }
    assert len(left_out_by_reason(found.left_out)["The published torch 2.10.0 has no code for sm110."]) == 4


def test_an_exact_name_that_no_torch_serves_is_an_error_with_the_way_out() -> None:
    with pytest.raises(
        BadInput, match=r"no code for sm110.*Choose .*cuda13_0-sm110-armv9 --torchvision .*--torch SITE_PACKAGES"
    ):
        requests_for(wanted("cuda12_8-sm110-avx2"), everywhere)
    with pytest.raises(BadInput, match=r"None of them can be built"):
        requests_for(wanted("cuda12_8-sm110-avx*"), everywhere)
    assert len(requests_for(wanted("cuda12_8-sm110-avx2", allow_unpaired=True), everywhere).variants) == 1


def test_a_torch_that_is_named_decides_the_release() -> None:
    for torch, release in (("2.7.1", "0.22.1"), ("2.15.0", "0.29.1"), ("2.13.0+cpu", "0.28.0")):
        (request,) = requests_for(wanted("cpu-avx2", torch=torch)).requests
        assert (request.release.torchvision, request.torch) == (release, torch)


def test_a_track_whose_release_has_no_pinned_source_says_so_once() -> None:
    with pytest.raises(
        BadInput, match=r"None of them can be built: .*No sha256 is pinned.*or take --torchvision 0\.29\.1"
    ):
        requests_for(wanted("cuda13_2-*-avx2"), everywhere)
    assert len(requests_for(wanted("cuda13_2-*-avx2", torchvision="0.29.1"), everywhere).variants) == 8  # no sm110
    both = requests_for(wanted("cuda13_{0,2}-sm90-avx2"), everywhere)
    assert [variant.track for variant in both.variants] == ["cuda13_0"]
    assert [left.variant.track for left in both.left_out] == ["cuda13_2"]


def test_a_torch_of_another_release_is_refused_before_anything_is_fetched() -> None:
    for torchvision, torch, own in (("0.29.1", "2.13.0", "0.28.0"), ("0.26.0", "2.14.1", "0.29.1")):
        asked = {"torchvision": torchvision, "torch": torch}
        with pytest.raises(BadInput, match=rf"needs torch .*--torchvision {own}.*--allow-unpaired"):
            requests_for(wanted("cpu-avx2", **asked))
        (request,) = requests_for(wanted("cpu-avx2", allow_unpaired=True, **asked)).requests
        assert (request.release.torchvision, request.torch) == (torchvision, torch)


def test_where_no_source_can_be_had_an_older_release_stands_in_for_the_newest_alone() -> None:
    def apt_only(release: Release) -> bool:
        return release.torchvision in ("0.21.0", "0.27.0")

    found = requests_for(wanted("cpu-avx2"), apt_only)
    assert [request.release.torchvision for request in found.requests] == ["0.27.0"]
    (note,) = found.notes
    assert "0.29.1 is the newest release, and its source cannot be fetched here; 0.27.0 is built instead" in note
    assert "--torchvision 0.29.1 --source" in note
    # whoever names a release or a GPU gets that, or the error of the fetch, which lists the places that were tried
    for names, options in ((["cpu-avx2"], {"torchvision": "0.29.1"}), (["cuda13_0-sm90-avx2"], {})):
        (request,) = requests_for(wanted(*names, **options), apt_only).requests
        assert request.release.torchvision == "0.29.1"
    assert requests_for(wanted("cpu-avx2"), lambda release: False).requests[0].release.torchvision == "0.29.1"


def test_a_source_tree_decides_the_release_and_may_be_one_of_no_row(tmp_path: Path) -> None:
    (tmp_path / "version.txt").write_text("0.28.0a0\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"--torch"):
        requests_for(wanted("cpu-avx2", source=tmp_path))
    (tmp_path / "version.txt").write_text("0.30.0a0\n", encoding="utf-8")
    (request,) = requests_for(wanted("cpu-avx2", source=tmp_path, torch="2.15.0")).requests
    assert (request.release.torchvision, request.release.listed) == ("0.30.0a0", False)
    (tmp_path / "version.txt").write_text("0.28.0\n", encoding="utf-8")
    (request,) = requests_for(wanted("cpu-avx2", source=tmp_path)).requests
    assert (request.release, request.source) == (releases()["0.28.0"], tmp_path)


@pytest.mark.parametrize(
    ("spec", "version", "local", "cuda"),
    [
        ("torch-2.10.0-cp313-cp313-manylinux_2_28_x86_64.whl", "2.10.0", None, "12.8"),
        ("dist/torch-2.10.0%2Bcu130-cp313-cp313-manylinux_2_28_x86_64.whl", "2.10.0", "cu130", "13.0"),
        ("2.14.0+cu126", "2.14.0", "cu126", "12.6"),
        ("2.13.0+cpu", "2.13.0", "cpu", None),
    ],
)
def test_a_torch_is_read_with_its_local_part(spec: str, version: str, local: str | None, cuda: str | None) -> None:
    torch = torch_named(spec)
    assert torch is not None
    assert (torch.version, torch.local, torch.cuda) == (version, local, cuda)


def test_a_site_packages_folder_is_read_and_nothing_else_is_taken_for_one(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "version.py").write_text("__version__ = '2.11.0+cu130'\ncuda = '13.0'\n", encoding="utf-8")
    torch = torch_named(str(tmp_path))
    assert torch is not None
    assert (torch.version, torch.local, torch.cuda) == ("2.11.0", "cu130", "13.0")
    for wrong in ("not-a-version", "numpy.whl", "torch-.whl"):
        with pytest.raises(BadInput, match="--torch"):
            torch_named(wrong)


def test_pythons_are_listed_or_any() -> None:
    assert pythons_named(None) == pythons_named("any") == ()
    assert pythons_named("310,3.13,313t") == ("310", "313", "313t")
    with pytest.raises(BadInput, match=r"'27' is not a Python of the matrix"):
        pythons_named("2.7")
    avx2 = parse("torchvision-python313-cpu-avx2")
    assert [variant.python for variant in for_pythons([avx2, avx2], ["312", "313"])] == ["312", "313"]


def test_an_exact_name_is_not_left_out_because_a_pattern_matches_it_too() -> None:
    exact, matched = named_variants(["cuda12_8-sm110-avx2", "cuda12_8-sm{110,120}-avx2"])
    assert [variant.sm for variant in exact] == ["sm110"]
    assert [variant.sm for variant in matched] == ["sm120"]
    assert left_out_by_reason([LeftOut(variant=exact[0], reason="why")]) == {"why": [exact[0]]}
    with pytest.raises(BadInput, match="No name was given"):
        named_variants([])


@pytest.mark.parametrize(
    ("torch", "built", "reason"),
    [
        ("2.14.0", {"cuda13_0", "cpu"}, "Torch 2.14.0 is built with CUDA 13.0, the track is CUDA 12.8."),
        ("2.10.0+cu128", {"cuda12_8", "cpu"}, "Torch 2.10.0+cu128 is built with CUDA 12.8, the track is CUDA 13.0."),
        ("2.13.0+cpu", {"cpu"}, "Torch 2.13.0+cpu is a CPU-only build, the track is CUDA 12.8."),
    ],
)
def test_a_torch_that_is_named_leaves_out_the_tracks_of_another_cuda(torch: str, built: set[str], reason: str) -> None:
    found = requests_for(wanted("c*-sm90-avx2", "cuda13_0-sm90-av*2", "cpu-av*2", torch=torch), everywhere)
    assert {variant.track for variant in found.variants} == built
    assert reason in {left.reason for left in found.left_out}
    with pytest.raises(BadInput, match=r"the track is CUDA 12\.4"):
        requests_for(wanted("cuda12_4-sm90-avx2", torch=torch), everywhere)


def test_a_stable_release_takes_the_torch_of_the_track() -> None:
    found = requests_for(wanted("cuda13_2-sm90-avx2", "cuda13_0-sm90-avx2", torchvision="0.29.1"), everywhere)
    assert {request.variants[0].track: request.torch for request in found.requests} == {
        "cuda13_2": "2.15.0",
        "cuda13_0": None,
    }


def test_what_stands_in_says_which_places_were_tried() -> None:
    class Apt(SourceAvailability):
        def problem(self, release: Release) -> str | None:
            return None if release.torchvision == "0.21.0" else "GitHub: no route; the apt mirror: 404"

    (note,) = requests_for(wanted("cpu-avx2"), Apt()).notes
    assert "cannot be fetched here (GitHub: no route; the apt mirror: 404); 0.21.0 is built instead" in note


def test_auto_takes_a_track_whose_source_can_be_had() -> None:
    """The default track has no release in the distribution, another one has; where none has, the CPU does."""
    machine = detect(sources(record("l40s")))
    for within, short, release in (
        ({"0.27.0"}, "cuda13_0-sm89-avx512bf16", "0.27.0"),
        ({"0.21.0"}, "cuda12_4-sm89-avx512bf16", "0.21.0"),
        ({"0.25.0", "0.29.1"}, "cuda12_8-sm89-avx512bf16", "0.25.0"),
        (set[str](), "cuda12_8-sm89-avx512bf16", "0.25.0"),
    ):

        def available(row: Release, within: set[str] = within) -> bool:
            return row.torchvision in within

        variant, why = auto_variant(machine, "313", available=available)
        assert (variant.short, why) == (short, None)
        (request,) = requests_for(Wanted(exact=(variant,), auto=True), available).requests
        assert request.release.torchvision == release


def test_an_exact_arm_name_of_cuda_12_is_built_where_pips_own_configuration_lists_its_torch() -> None:
    asked: list[str] = []

    def lists(variant: Variant, torch: str) -> bool:
        asked.append(torch)
        return variant.isa == "armv9"

    (request,) = requests_for(wanted("cuda12_8-sm90-armv9"), everywhere, lists=lists).requests
    assert (request.release.torchvision, request.torch) == ("0.25.0", "2.10.0+cu128")
    with pytest.raises(BadInput, match=r"no torch for aarch64.*--torch-index"):
        requests_for(wanted("cuda12_8-sm90-armv8_2"), everywhere, lists=lists)
    with pytest.raises(BadInput, match=r"no code for sm110"):
        requests_for(wanted("cuda12_8-sm110-avx2"), everywhere, lists=lists)  # an index does not change that
    assert asked == ["2.10.0+cu128"] * 2
    with pytest.raises(BadInput, match="None of them can be built"):
        requests_for(wanted("cuda12_8-sm90-arm*"), everywhere, lists=lists)  # a pattern asks nobody


HINTED = re.compile(
    r"[Cc]hoose (?P<name>torchvision-[\w-]+)(?P<more>(?: --torchvision [\d.]*\d)?(?: --torch [\d.]*\d)?)"
    r"|(?P<options>--torchvision [\d.]*\d(?: --torch [\d.]*\d)?|--torch [\d.]*\d(?:\+cu\d+ --torch-index \S+\w)?)"
    r"|(?P<index>(?<!VERSION )--torch-index \S+\w)"
    r"|--python from (?P<pythons>\d+t?(?:, \d+t?)*)"
)


def accepted(name: str, **options: object) -> None:
    """Raises BadInput where `plan` would refuse the variant `name` with `options`."""
    variant = parse(name if name.startswith("torchvision-") else f"torchvision-python313-{name}")
    asked = Wanted(exact=(variant,), **options)  # type: ignore[arg-type]  # Wanted's own fields
    for request in requests_for(asked, everywhere).requests:
        check_request(request)


Options = tuple[tuple[str, str], ...]
"""Options of `plan` with their values, as fields of Wanted."""


def advised(name: str, options: Options, hint: str) -> Iterator[tuple[str, Options]]:
    """(Name, options) of each command that `hint`, which answered `name` with `options`, says to type."""
    for match in HINTED.finditer(hint):
        if match["pythons"]:
            for python in match["pythons"].split(", "):
                yield re.sub(r"python\d+t?", f"python{python}", name), options
            continue
        words = (match["options"] or match["index"] or match["more"]).split()
        typed = dict(zip((word[2:].replace("-", "_") for word in words[::2]), words[1::2], strict=True))
        yield match["name"] or name, tuple({**dict(options), **typed}.items())


def faults(name: str, options: Options) -> int:
    """How many things may be wrong at once: the track, a Python, a release without a source, and a pair of options."""
    return 1 + ("python312" not in name) + (("torchvision", "0.29.2") in options) + (len(options) > 1)


@cache
def follow(name: str, options: Options, steps: int) -> int:
    """Do what each hint says, at most `steps` after each other, until `plan` accepts it: how many there were."""
    try:
        accepted(name, **dict(options))
    except BadInput as error:
        ways = list(advised(name, options, error.hint))
        if not steps or (name, options) in ways:
            pytest.fail(f"{name} {options}: {error}")
        return len(ways) + sum(follow(*way, steps - 1) for way in ways)
    return 0


def releases_and_torches() -> list[Options]:
    """No option, each release, each published torch, and two builds of an index."""
    torches = dict.fromkeys(row.torch for row in releases().values())
    builds = [*torches, "2.10.0+cpu", "2.14.0+cu126"]
    return [(), *((("torchvision", one),) for one in releases()), *((("torch", one),) for one in builds)]


@pytest.mark.parametrize("isa", ["avx2", "armv9"])
@pytest.mark.parametrize("track", TRACKS)
def test_what_an_error_says_to_type_leads_to_a_build(track: str, isa: str) -> None:
    """Every release, every torch and some pairs on every track: the names, releases, torches and Pythons of hints."""
    asked = releases_and_torches()
    asked += [
        (("torchvision", release), ("torch", torch))
        for release in ("0.20.1", "0.25.0", "0.29.1", "0.29.2")
        for torch in ("2.5.1", "2.7.0", "2.14.0", "2.15.0")
    ]
    followed = 0
    for sm, python in (("sm60", "313"), ("sm90", "312"), ("sm90", "313"), ("sm90", "315"), ("sm110", "313")):
        if track == CPU or toolkit_support(track, sm) is not None:
            name = f"torchvision-python{python}-" + (f"{track}-{isa}" if track == CPU else f"{track}-{sm}-{isa}")
            followed += sum(follow(name, options, faults(name, options)) for options in asked)
    assert followed > 100


@pytest.mark.nightly
def test_what_an_error_says_to_type_leads_to_a_build_of_every_variant() -> None:
    """Every Python, track and GPU there is, on both platforms, with every release and every torch."""
    variants = [variant for variant in every_variant() if variant.isa in ("avx2", "armv9")]
    asked = releases_and_torches()
    accept, follow_on = 0, 0
    for variant in variants:
        for options in asked:
            follow_on += follow(str(variant), options, faults(str(variant), options)) > 0
            try:
                accepted(str(variant), **dict(options))
                accept += 1
            except BadInput:
                continue
    print(f"{len(variants) * len(asked)} commands, {accept} accepted, {follow_on} with advice")
    assert accept + follow_on > len(variants) * len(asked) * 0.9


def test_an_index_is_advised_by_its_address() -> None:
    for name, options in (
        ("cuda12_8-sm90-armv9", {}),
        ("cuda12_9-sm90-avx2", {"torchvision": "0.25.0"}),
        ("cuda12_6-sm90-avx2", {"torchvision": "0.21.0"}),
        ("cuda13_0-sm90-armv9", {"torchvision": "0.29.1", "torch": "2.15.0"}),
    ):
        with pytest.raises(BadInput) as refused:
            accepted(name, **options)
        digits = name[4:8].replace("_", "")
        assert f"--torch-index https://download.pytorch.org/whl/cu{digits}" in refused.value.hint


def test_an_index_that_is_named_may_have_another_build_of_a_torch() -> None:
    """A torch of the index is not the package registry's, which the table describes."""
    index = {"torch_index": "https://example.org/whl/cu126"}
    for options in ({"torchvision": "0.29.1"}, {"torch": "2.14.0"}, {"torchvision": "0.25.0", "torch": "2.10.0"}):
        accepted("cuda12_6-sm90-avx2", **options, **index)
        with pytest.raises(BadInput, match=r"built with CUDA 1[23]\.\d, the track is CUDA 12\.6"):
            accepted("cuda12_6-sm90-avx2", **options)


def test_a_torch_that_is_cpu_only_on_the_platform_is_refused_before_it_is_fetched() -> None:
    accepted("cuda12_4-sm90-avx2", torchvision="0.21.0")
    with pytest.raises(BadInput, match=r"no torch for aarch64 that is built with CUDA 12\.4"):
        accepted("cuda12_4-sm90-armv9", torchvision="0.21.0")
    with pytest.raises(BadInput, match=r"Torch 2\.6\.0 is a CPU-only build on aarch64, the track is CUDA 12\.4"):
        accepted("cuda12_4-sm90-armv9", torch="2.6.0")
    accepted("cpu-armv9", torch="2.6.0")
    accepted("cuda12_4-sm90-armv9", torch="2.6.0+cu124")
    accepted("cuda12_4-sm90-armv9", torch="torch-2.6.0-cp313-cp313-linux_aarch64.whl")  # whose content is not known


def test_pip_is_asked_for_the_torch_of_a_release_that_is_named() -> None:
    lists = {"lists": lambda variant, torch: torch == "2.6.0+cu124"}
    (request,) = requests_for(wanted("cuda12_4-sm90-armv9", torchvision="0.21.0"), everywhere, **lists).requests  # type: ignore[arg-type]
    assert (request.release.torchvision, request.torch) == ("0.21.0", "2.6.0+cu124")


def test_an_unpaired_torch_still_has_to_be_of_the_tracks_cuda() -> None:
    accepted("cuda12_6-sm90-avx2", torchvision="0.21.0", torch="2.7.0", allow_unpaired=True)
    with pytest.raises(BadInput, match=r"Torch 2\.7\.0 is built with CUDA 12\.6, the track is CUDA 13\.0"):
        accepted("cuda13_0-sm90-avx2", torch="2.7.0", allow_unpaired=True)


def test_a_pattern_leaves_out_the_tracks_that_a_named_release_is_not_of() -> None:
    found = requests_for(wanted("cuda12_{4,6}-sm90-avx2", "cuda12_[46]-sm60-avx2", torchvision="0.21.0"), everywhere)
    assert [variant.short for variant in found.variants] == ["cuda12_4-sm90-avx2", "cuda12_4-sm60-avx2"]


def test_one_variant_is_named_in_full_or_without_its_beginning() -> None:
    for name in ("cpu-avx2", "torchvision-python313-cpu-avx2"):
        assert named_variant(name) == parse("torchvision-python313-cpu-avx2")
    with pytest.raises(BadInput, match=r"6 variants match it.*`variants 'cpu-\*'`"):
        named_variant("cpu-*")
    with pytest.raises(BadInput, match="Did you mean torchvision-python313-cpu-avx"):
        named_variant("cpu-avx1")


def test_what_build_refuses_is_told_with_its_reason() -> None:
    for short, told in (
        ("python313-cpu-avx2", None),
        ("python313-cuda13_0-sm110-armv9", None),
        ("python313-cuda12_8-sm90-armv9", r"no torch for aarch64.* choose torchvision-python313-cuda13_0-sm90-armv9"),
        ("python313-cuda12_8-sm110-avx2", r"no code for sm110"),
        ("python310-cuda13_2-sm90-avx2", r"No release of the track has wheels for Python 3\.10"),
        ("python315-cpu-avx2", r"No sha256 is pinned.*--torchvision 0\.29\.1 --torch 2\.15\.0\."),
    ):
        found = refusal(parse(f"torchvision-{short}"))
        assert (found is None) == (told is None), short
        assert told is None or re.search(told, found or "")

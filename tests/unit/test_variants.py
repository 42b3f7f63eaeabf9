"""The matrix: names and variants."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from build_torchvision.describe import notes
from build_torchvision.errors import BadInput
from build_torchvision.facts import isas, toolkits
from build_torchvision.variants import (
    CORE_SMS,
    PYTHONS,
    TRACKS,
    Variant,
    enumerate_variants,
    every_variant,
    expand_braces,
    matching,
    nearest,
    parse,
    select,
)

SEED_SMS = ("sm80", "sm86", "sm89", "sm90", "sm100", "sm103", "sm110", "sm120", "sm121")
SEED_ISAS = ("avx2", "avx512", "avx512vnni", "avx512bf16", "armv8_2", "armv9")
CUDA_12 = ["cuda12_4", "cuda12_6", "cuda12_8", "cuda12_9"]
BLACKWELL = ["cuda12_8", "cuda12_9", "cuda13_0", "cuda13_2"]
VARIANTS = st.sampled_from(every_variant())


def refusal(name: str) -> BadInput:
    with pytest.raises(BadInput) as caught:
        parse(name)
    return caught.value


def test_the_default_matrix_is_exactly_the_60_names() -> None:
    names = [str(variant) for variant in enumerate_variants()]
    cuda = [f"torchvision-python313-cuda12_8-{sm}-{isa}" for sm in SEED_SMS for isa in SEED_ISAS]
    assert len(cuda) == 54
    assert names == cuda + [f"torchvision-python313-cpu-{isa}" for isa in SEED_ISAS]


def test_every_name_reads_back_as_the_variant_that_wrote_it() -> None:
    for variant in every_variant():
        assert parse(str(variant)) == variant


def test_no_two_variants_share_a_name() -> None:
    assert len({str(variant) for variant in every_variant()}) == len(every_variant())


@given(
    st.sampled_from([*PYTHONS, "39", "3.13", ""]),
    st.sampled_from([*TRACKS, "cuda12_0", "rocm"]),
    st.sampled_from([None, *SEED_SMS, "sm61", "sm70", "sm75", "sm87", "sm101", "sm_80", ""]),
    st.sampled_from([*isas(), "sse2", "AVX2"]),
)
def test_a_variant_exists_exactly_if_it_is_enumerated(python: str, track: str, sm: str | None, isa: str) -> None:
    try:
        variant = Variant(python=python, track=track, sm=sm, isa=isa)
    except BadInput:
        exists = [(v.python, v.track, v.sm, v.isa) for v in every_variant()]
        assert (python, track, sm, isa) not in exists
    else:
        assert variant in every_variant()
        assert parse(str(variant)) == variant


@given(st.text(max_size=60))
@example("torchvision-python313-cpu-avx2\n")
@example("torchvision-python313-cpu-avx2-")
@example("torchvision-python313--cpu-avx2")
@example("")
def test_any_other_text_is_refused_with_names_that_exist(text: str) -> None:
    error = refusal(text)
    assert error.exit_code == 2
    offered = [word.rstrip("?") for word in error.hint.split() if word.startswith("torchvision-")]
    assert offered
    assert all(str(parse(name)) == name for name in offered)


@given(VARIANTS, st.data())
def test_one_wrong_letter_still_leads_to_the_right_name(variant: Variant, data: st.DataObject) -> None:
    name = str(variant)
    at = data.draw(st.integers(len("torchvision-python313-"), len(name) - 1))
    spoiled = name[:at] + "x" + name[at + 1 :]
    assert name in nearest(spoiled, 6)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("cpu-avx512", "torchvision-python313-cpu-avx512"),
        ("torchvision-python313-cpu-avx51", "torchvision-python313-cpu-avx512"),
        ("torchvision-python313-cuda12_8-sm12-avx512", "torchvision-python313-cuda12_8-sm120-avx512"),
        ("torchvision-python313-cuda12_8-sm_120-avx512", "torchvision-python313-cuda12_8-sm120-avx512"),
        ("torchvision-python313-cuda12.8-sm120-avx512", "torchvision-python313-cuda12_8-sm120-avx512"),
        ("torchvision-python311-cpu-armv8", "torchvision-python311-cpu-armv8_2"),
        ("torchvision-python313-cuda12_8-avx2", "torchvision-python313-cuda12_8-sm80-avx2"),
        ("torchvision-python313-cpu-sm80-avx2", "torchvision-python313-cpu-avx2"),
        ("torchvision-python39-cpu-avx2", "torchvision-python313-cpu-avx2"),
        ("torchvision-python3.12-cpu-avx2", "torchvision-python312-cpu-avx2"),
        ("torchvision-python313-cuda12_8-H100-avx2", "torchvision-python313-cuda12_8-sm90-avx2"),
        ("cuda12_8-rtx4090-avx512", "torchvision-python313-cuda12_8-sm89-avx512"),
    ],
)
def test_a_wrong_name_gets_the_nearest_right_one_first(wrong: str, right: str) -> None:
    assert refusal(wrong).hint.startswith(f"Did you mean {right}")


@pytest.mark.parametrize(
    ("name", "reason", "tracks"),
    [
        ("cuda13_0-sm70", "CUDA 13.0 no longer compiles for Volta (7.0)", CUDA_12),
        ("cuda13_0-sm61", "CUDA 13.0 no longer compiles for Pascal (6.1)", CUDA_12),
        ("cuda13_2-sm60", "CUDA 13.2 no longer compiles for Pascal (GP100) (6.0)", CUDA_12),
        ("cuda12_4-sm110", "CUDA 12.4 does not know Thor (11.0)", ["cuda13_0", "cuda13_2", "cuda12_8", "cuda12_9"]),
        (
            "cuda12_4-sm100",
            "CUDA 12.4 does not know Blackwell (10.0)",
            ["cuda12_8", "cuda12_9", "cuda13_0", "cuda13_2"],
        ),
        ("cuda12_4-sm121", "CUDA 12.4 does not know GB10 (12.1)", ["cuda12_9", "cuda13_0", "cuda13_2", "cuda12_8"]),
    ],
)
def test_an_impossible_combination_gets_the_reason_and_what_works(name: str, reason: str, tracks: list[str]) -> None:
    error = refusal(f"torchvision-python312-{name}-armv9")
    assert reason in error.problem
    sm = name.split("-")[1]
    offered = [word for word in error.hint.split() if word.startswith("torchvision-")]
    assert offered == [f"torchvision-python312-{track}-{sm}-armv9" for track in tracks]
    assert all(parse(name) for name in offered)


def test_what_works_says_how() -> None:
    remedy = refusal("torchvision-python313-cuda12_4-sm110-armv9").hint
    assert "cuda13_0-sm110-armv9 (native)" in remedy
    assert "cuda12_8-sm110-armv9 (ptx)" in remedy


def test_armv8_2_may_be_written_with_a_dot() -> None:
    assert str(parse("torchvision-python313-cpu-armv8.2")) == "torchvision-python313-cpu-armv8_2"
    with pytest.raises(BadInput):
        Variant(python="313", track="cpu", sm=None, isa="armv8.2")


@pytest.mark.parametrize("python", ["310", "311", "312", "313", "313t", "314", "314t", "315", "315t"])
def test_every_python_has_the_same_matrix(python: str) -> None:
    assert [v.short for v in enumerate_variants(python)] == [v.short for v in enumerate_variants()]
    assert {v.python for v in enumerate_variants(python)} == {python}


@pytest.mark.parametrize(
    ("track", "sms"),
    [
        ("cuda12_4", "sm60 sm61 sm70 sm75 sm80 sm86 sm87 sm88 sm89 sm90"),
        ("cuda12_6", "sm60 sm61 sm70 sm75 sm80 sm86 sm87 sm88 sm89 sm90"),
        ("cuda12_8", "sm60 sm61 sm70 sm75 sm80 sm86 sm87 sm88 sm89 sm90 sm100 sm103 sm107 sm110 sm120 sm121"),
        ("cuda12_9", "sm60 sm61 sm70 sm75 sm80 sm86 sm87 sm88 sm89 sm90 sm100 sm103 sm107 sm110 sm120 sm121"),
        ("cuda13_0", "sm75 sm80 sm86 sm87 sm88 sm89 sm90 sm100 sm103 sm107 sm110 sm120 sm121"),
        ("cuda13_2", "sm75 sm80 sm86 sm87 sm88 sm89 sm90 sm100 sm103 sm107 sm110 sm120 sm121"),
    ],
)
def test_each_track_has_the_sms_that_its_toolkit_serves(track: str, sms: str) -> None:
    served = [variant.sm for variant in enumerate_variants(tracks=[track], sms=None) if variant.isa == "avx2"]
    assert served == sms.split()


def test_every_variant_is_all_pythons_tracks_and_sms() -> None:
    assert {v.python for v in every_variant()} == {"310", "311", "312", "313", "313t", "314", "314t", "315", "315t"}
    assert {v.track for v in every_variant()} == {*toolkits(), "cpu"}
    assert len(every_variant()) == 9 * 6 * (10 + 10 + 16 + 16 + 13 + 13 + 1)


def test_sms_limit_the_matrix_and_tracks_may_repeat() -> None:
    some = enumerate_variants(tracks=["cuda12_4", "cuda12_4"], sms=["sm90", "sm120"])
    assert {v.sm for v in some} == {"sm90"}
    assert len(some) == 6
    assert CORE_SMS == SEED_SMS


@pytest.mark.parametrize(
    "wrong", [{"python": "3.13"}, {"tracks": ["cuda12.8"]}, {"sms": ["sm_120"]}], ids=["python", "track", "sm"]
)
def test_an_unknown_part_of_the_matrix_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=r"Did you mean (313|cuda12_8|sm120)"):
        enumerate_variants(**wrong)


@given(VARIANTS)
def test_properties_follow_from_the_name(variant: Variant) -> None:
    assert variant.cuda == (None if variant.track == "cpu" else variant.track[4:].replace("_", "."))
    assert variant.platform == ("aarch64" if variant.isa.startswith("arm") else "x86_64")
    assert (variant.gpu.sm if variant.gpu else None) == variant.sm
    assert variant.isa_facts.name == variant.isa
    assert variant.python_version == "3." + variant.python[1:]
    assert str(variant) == f"torchvision-python{variant.python}-{variant.short}"


@pytest.mark.parametrize(
    ("patterns", "count"),
    [
        ([], 60),
        (["*"], 60),
        (["cpu-*"], 6),
        (["cpu-avx512"], 1),
        (["torchvision-python313-cpu-avx512"], 1),
        (["cpu-avx{2,512}"], 2),
        (["cpu-avx512*"], 3),
        (["cuda12_8-sm{100,12?}-avx2"], 3),
        (["*{sm{80,86},cpu}-avx2"], 3),
        (["{cpu,cuda12_8-sm80}-avx2"], 2),
        (["*-armv8.2"], 10),
        (["cpu-*", "*-avx2"], 15),
        (["cpu-[!a]*", "cpu-avx2"], None),
    ],
)
def test_globs_with_braces_select(patterns: list[str], count: int | None) -> None:
    if count is None:
        with pytest.raises(BadInput, match="matches no variant"):
            select(patterns, enumerate_variants())
        return
    chosen = select(patterns, enumerate_variants())
    assert len(chosen) == count
    assert chosen == [variant for variant in enumerate_variants() if variant in chosen]


@given(st.lists(VARIANTS, min_size=1, max_size=5))
def test_a_name_selects_itself_alone(variants: list[Variant]) -> None:
    assert set(select([str(variant) for variant in variants], every_variant())) == set(variants)


@pytest.mark.parametrize("pattern", ["a{b", "a}b", "a}{b}", "{a{b}", "cpu-{avx2"])
def test_braces_that_do_not_pair_are_refused(pattern: str) -> None:
    with pytest.raises(BadInput, match="Write braces as in"):
        expand_braces(pattern)


def test_braces_expand_as_in_a_shell() -> None:
    assert expand_braces("a{b,c{d,e}}f{g,}") == ["abfg", "abf", "acdfg", "acdf", "acefg", "acef"]
    parts = [["1", "22"], ["x", "y"]]
    pattern = "-".join("{" + ",".join(options) + "}" for options in parts)
    assert expand_braces(pattern) == ["-".join(pair) for pair in itertools.product(*parts)]


def test_a_pattern_of_tracks_looks_beyond_the_default_ones_where_they_have_nothing() -> None:
    assert [v.short for v in matching("cuda13_?-sm90-avx2")] == ["cuda13_0-sm90-avx2", "cuda13_2-sm90-avx2"]
    assert [v.short for v in matching("cuda12_[46]-sm60-avx2")] == ["cuda12_4-sm60-avx2", "cuda12_6-sm60-avx2"]
    assert {v.track for v in matching("cuda*-sm90-avx2")} == {"cuda12_8"}


def test_a_pattern_that_matches_only_outside_says_where() -> None:
    for pattern, hint in (
        ("cuda13_?-sm90-*", "Add --track cuda13_0, or --track cuda13_2, or --all."),
        ("cuda12_8-sm60-*", "Add --all."),
        ("cuda12_6-sm60-*", "Add --all."),
        ("torchvision-python312-cpu-*", "Add --all."),
    ):
        with pytest.raises(BadInput) as caught:
            select([pattern], enumerate_variants())
        assert caught.value.hint == hint
        assert select([pattern], every_variant())
        for track in re.findall(r"--track (\w+)", hint):
            assert select([pattern], enumerate_variants(tracks=[track]))


def test_a_name_that_cannot_be_gets_its_reason_from_select_too() -> None:
    for pattern in ("cuda13_0-sm70-avx2", "torchvision-python313-cuda13_0-sm70-avx2"):
        with pytest.raises(BadInput, match=r"CUDA 13\.0 no longer compiles for Volta"):
            select([pattern], enumerate_variants())


@pytest.mark.parametrize("name", ["cpu-armv9", "cpu-avx512vnni", "cpu-avx512bf16", "cuda12_8-sm110-avx512"])
def test_what_uv_never_takes_by_itself_is_to_be_asked_for_by_name(name: str) -> None:
    """tests/integration/test_variant_index.py shows that uv does not take them."""
    assert "sk for it by name" in " ".join(notes(parse(f"torchvision-python313-{name}")))

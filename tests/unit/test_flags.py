"""Flags and gencode lists, and the reasons given for them."""

from __future__ import annotations

import json
from typing import get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from build_torchvision.compatibility import toolkit_support
from build_torchvision.describe import Description, describe, notes
from build_torchvision.facts import toolkits
from build_torchvision.flags import Codegen, cuda_codegen, isa_flags
from build_torchvision.variants import Variant, enumerate_variants, every_variant, parse

VARIANTS = st.sampled_from(every_variant())


def variant(short: str) -> Variant:
    return parse(f"torchvision-python313-{short}")


def codegen(short: str) -> Codegen:
    found = cuda_codegen(variant(f"{short}-avx2"))
    assert found is not None
    return found


def capability(number: str) -> tuple[int, int]:
    """ "120" -> (12, 0), as compute_120 and sm_120 count."""
    return int(number[:-1]), int(number[-1])


def test_kinds_of_the_54_cuda_variants() -> None:
    kinds = [made.kind for v in enumerate_variants() if (made := cuda_codegen(v))]
    assert {kind: kinds.count(kind) for kind in kinds} == {"native": 36, "compatible": 12, "ptx": 6}


@pytest.mark.parametrize("sm", ["80", "86", "89", "90", "100", "120"])
def test_cuda12_8_knows_these_by_name(sm: str) -> None:
    made = codegen(f"cuda12_8-sm{sm}")
    assert (made.kind, made.gencode) == ("native", (f"arch=compute_{sm},code=sm_{sm}",))


@pytest.mark.parametrize(("sm", "base", "arch_list"), [("103", "100", "10.0"), ("121", "120", "12.0")])
def test_cuda12_8_serves_a_higher_minor_with_the_older_cubin(sm: str, base: str, arch_list: str) -> None:
    made = codegen(f"cuda12_8-sm{sm}")
    assert (made.kind, made.gencode, made.arch_list) == (
        "compatible",
        (f"arch=compute_{base},code=sm_{base}",),
        arch_list,
    )
    assert f"sm_{sm}" in made.reason
    assert f"sm_{base}" in made.reason


@pytest.mark.parametrize("track", ["cuda12_8", "cuda12_9"])
def test_thor_takes_ptx_before_cuda_13(track: str) -> None:
    made = codegen(f"{track}-sm110")
    assert (made.kind, made.gencode, made.arch_list) == ("ptx", ("arch=compute_100,code=compute_100",), "10.0+PTX")
    assert "PTX of compute_100" in made.reason


def test_cuda12_9_knows_the_later_blackwells() -> None:
    assert codegen("cuda12_9-sm103").gencode == ("arch=compute_103,code=sm_103",)
    assert codegen("cuda12_9-sm121").gencode == ("arch=compute_121,code=sm_121",)


@pytest.mark.parametrize(("track", "sms"), [("cuda12_4", 4), ("cuda12_6", 4), ("cuda13_0", 9), ("cuda13_2", 9)])
def test_all_of_the_default_sms_in_these_tracks_are_native(track: str, sms: int) -> None:
    found = [cuda_codegen(v) for v in enumerate_variants(tracks=[track])]
    assert len(found) == 6 * sms
    assert {made.kind for made in found if made} == {"native"}


@pytest.mark.parametrize(
    ("track", "sm", "base"),
    [("cuda12_8", "sm88", "sm86"), ("cuda12_8", "sm107", "sm100"), ("cuda13_2", "sm107", "sm103")],
)
def test_an_sm_that_a_toolkit_does_not_know_takes_the_newest_older_cubin_of_its_kind(
    track: str, sm: str, base: str
) -> None:
    """sm87, which is between sm86 and sm88, is Tegra's: its cubins are no discrete GPU's."""
    assert toolkit_support(track, sm) == ("compatible", base)


@given(VARIANTS)
def test_the_gencode_obeys_the_programming_guide(variant: Variant) -> None:
    made = cuda_codegen(variant)
    if variant.track == "cpu":
        assert made is None
        return
    assert made is not None
    assert variant.sm is not None
    (gencode,) = made.gencode
    arch, code = (part.split("=")[1] for part in gencode.split(","))
    wanted, base = capability(variant.sm[2:]), capability(code.split("_")[1])
    assert arch.removeprefix("compute_") == code.split("_")[1]
    assert f"sm{code.split('_')[1]}" in toolkits()[variant.track].native
    assert made.arch_list == f"{base[0]}.{base[1]}" + ("+PTX" if made.kind == "ptx" else "")
    if made.kind == "ptx":
        assert code.startswith("compute_")
        assert base <= wanted
    else:
        assert code.startswith("sm_")
        assert base[0] == wanted[0]
        assert (base[1] == wanted[1]) == (made.kind == "native")
        assert base[1] <= wanted[1]
    assert variant.cuda is not None
    assert variant.cuda in made.reason


@pytest.mark.parametrize(
    ("isa", "flags"),
    [
        ("avx2", ("-march=x86-64-v3",)),
        ("avx512", ("-march=x86-64-v4",)),
        ("avx512vnni", ("-march=x86-64-v4", "-mavx512vnni")),
        ("avx512bf16", ("-march=x86-64-v4", "-mavx512vnni", "-mavx512bf16")),
        ("armv8_2", ("-march=armv8.2-a+fp16",)),
        ("armv9", ("-march=armv9-a",)),
    ],
)
def test_flags_follow_the_isa_alone(isa: str, flags: tuple[str, ...]) -> None:
    assert {isa_flags(v) for v in every_variant() if v.isa == isa} == {flags}


@given(VARIANTS)
def test_a_description_has_the_documented_shape_and_survives_json(variant: Variant) -> None:
    found = describe(variant)
    assert list(found) == ["name", "python", "track", "cuda", "sm", "isa", "platform", "codegen"]
    assert found.keys() == get_type_hints(Description).keys()
    if found["codegen"] is not None:
        assert list(found["codegen"]) == ["kind", "gencode", "reason"]
    assert json.loads(json.dumps(found)) == found
    assert parse(found["name"]) == variant


def test_two_descriptions_in_full() -> None:
    assert describe(variant("cpu-armv9")) == {
        "name": "torchvision-python313-cpu-armv9",
        "python": "313",
        "track": "cpu",
        "cuda": None,
        "sm": None,
        "isa": "armv9",
        "platform": "aarch64",
        "codegen": None,
    }
    assert describe(variant("cuda12_8-sm120-avx512")) == {
        "name": "torchvision-python313-cuda12_8-sm120-avx512",
        "python": "313",
        "track": "cuda12_8",
        "cuda": "12.8",
        "sm": "sm120",
        "isa": "avx512",
        "platform": "x86_64",
        "codegen": {
            "kind": "native",
            "gencode": ["arch=compute_120,code=sm_120"],
            "reason": "CUDA 12.8 compiles for sm_120 by name.",
        },
    }


@pytest.mark.parametrize(
    ("short", "matched"),
    [
        ("cuda12_8-sm121-avx512", False),
        ("cuda12_8-sm121-armv9", True),
        ("cuda12_8-sm121-armv8_2", True),
        ("cuda13_0-sm110-avx2", False),
        ("cuda13_0-sm110-armv9", True),
        ("cuda12_8-sm87-armv8_2", True),
        ("cuda12_8-sm87-armv9", False),
        ("cuda12_8-sm70-armv9", False),
        ("cuda12_8-sm90-armv9", True),
        ("cuda12_8-sm90-avx512", True),
        ("cpu-avx2", True),
    ],
)
def test_a_name_that_no_shipping_computer_matches_says_so(short: str, matched: bool) -> None:
    assert any("No shipping computer" in note for note in notes(variant(short))) is not matched


def test_a_variant_that_only_matches_its_pytorch_says_so() -> None:
    for isa in ("avx2", "avx512", "avx512vnni", "avx512bf16"):
        said = any("exists to match its PyTorch" in note for note in notes(variant(f"cpu-{isa}")))
        assert said is (isa in ("avx512vnni", "avx512bf16"))


def test_thor_on_cuda12_8_points_at_cuda13_0() -> None:
    (said,) = [note for note in notes(variant("cuda12_8-sm110-armv9")) if "PyTorch built for sm110" in note]
    assert "take track cuda13_0" in said
    assert not any("PyTorch built for" in note for note in notes(variant("cuda13_0-sm110-armv9")))


@pytest.mark.parametrize(
    ("short", "floor"),
    [
        ("cpu-avx2", None),
        ("cuda12_4-sm90-avx2", "525.60.13"),
        ("cuda12_8-sm90-avx2", "525.60.13"),
        ("cuda12_8-sm120-avx2", "570"),
        ("cuda12_8-sm121-avx2", "570"),
        ("cuda12_8-sm110-armv9", "570.26"),
        ("cuda12_9-sm110-armv9", "575.51"),
        ("cuda13_0-sm90-avx2", "580"),
        ("cuda13_0-sm120-avx2", "580"),
    ],
)
def test_the_driver_must_know_the_gpu_and_the_toolkit(short: str, floor: str | None) -> None:
    assert variant(short).driver_floor == floor
    assert any(f"at least {floor} (Linux)" in note for note in notes(variant(short))) is (floor is not None)


@given(VARIANTS)
def test_added_ptx_is_that_of_the_cubin_and_is_named(variant: Variant) -> None:
    plain, more = cuda_codegen(variant), cuda_codegen(variant, ptx=True)
    if plain is None or plain.kind == "ptx":
        assert more == plain
        return
    assert more is not None
    assert more.gencode == (*plain.gencode, f"arch=compute_{plain.number},code=compute_{plain.number}")
    assert more.images == plain.images | {("ptx", f"sm{plain.number}")}
    assert (plain.label, more.label) == (plain.kind, f"{plain.kind}+PTX")
    assert more.arch_list == f"{plain.arch_list}+PTX"

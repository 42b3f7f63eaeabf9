"""The release of a variant: named, of a torch, or the newest that there is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from build_torchvision.errors import BadInput
from build_torchvision.facts import releases, version_key
from build_torchvision.releases import (
    TorchBuild,
    newer_than_known,
    newest,
    pairs,
    pinned_instead,
    published_torch_serves,
    release_named,
    select_release,
    served_instead,
    torch_covers,
)
from build_torchvision.variants import Variant, every_variant, parse


def variant(short: str, python: str = "313") -> Variant:
    return parse(f"torchvision-python{python}-{short}")


@pytest.mark.parametrize(
    ("short", "torchvision", "torch", "needs_source"),
    [
        ("cpu-avx512", "0.29.1", "2.14.0", False),
        ("cpu-armv9", "0.29.1", "2.14.0", False),
        ("cuda12_4-sm90-avx512", "0.21.0", "2.6.0", False),
        ("cuda12_6-sm90-avx512", "0.22.1", "2.7.1", False),
        ("cuda12_8-sm120-avx512", "0.25.0", "2.10.0", False),
        ("cuda13_0-sm120-avx512", "0.29.1", "2.14.0", False),
        ("cuda13_0-sm121-armv9", "0.29.1", "2.14.0", False),
        ("cuda13_2-sm120-avx512", "0.29.2", "2.15.0", True),
    ],
)
def test_with_nothing_said_it_is_the_newest_whose_torch_is_of_the_track(
    short: str, torchvision: str, torch: str, needs_source: bool
) -> None:
    found = select_release(variant(short))
    assert (found.release.torchvision, found.torch) == (torchvision, torch)
    assert found.paired
    assert found.needs_source is needs_source


def test_the_python_limits_the_choice() -> None:
    assert select_release(variant("cuda12_8-sm90-avx2", "313t")).release.torchvision == "0.25.0"
    assert select_release(variant("cpu-avx2", "313t")).release.torchvision == "0.27.0"
    assert select_release(variant("cpu-avx2", "315")).release.torchvision == "0.29.2"
    with pytest.raises(BadInput, match=r"has wheels for Python 3\.14\..*310, 311, 312, 313"):
        select_release(variant("cuda12_4-sm90-avx2", "314"))


def test_arm_with_cuda_12_takes_an_index_that_the_user_names() -> None:
    arm = variant("cuda12_8-sm90-armv9")
    with pytest.raises(BadInput, match=r"no torch for aarch64 .* CUDA 12\.8.*--torch-index https://") as caught:
        select_release(arm)
    assert "torch 2.10.0" in caught.value.hint
    assert "choose torchvision-python313-cuda13_0-sm90-armv9 --torchvision 0.29.1." in caught.value.hint
    assert select_release(arm, any_index=True).release.torchvision == "0.25.0"


def test_a_track_without_a_published_torch_says_what_to_name() -> None:
    for any_index in (False, True):
        with pytest.raises(BadInput, match=r"No release was published with a torch of CUDA 12\.9.*--torch FILE"):
            select_release(variant("cuda12_9-sm90-avx2"), any_index=any_index)


def test_a_named_release_takes_its_own_torch() -> None:
    found = select_release(variant("cpu-avx2"), torchvision="0.23.0")
    assert (found.release.torchvision, found.torch, found.paired) == ("0.23.0", "2.8.0", True)


def test_a_named_release_beside_another_torch_is_unpaired() -> None:
    found = select_release(variant("cpu-avx2"), torchvision="0.23.0", torch=TorchBuild.parse("2.9.0"))
    assert (found.torch, found.paired) == ("2.9.0", False)
    assert select_release(variant("cpu-avx2"), torchvision="0.29.1", torch=TorchBuild.parse("2.15.0")).paired


@pytest.mark.parametrize(
    ("torch", "torchvision"),
    [
        ("2.5.0", "0.20.0"),
        ("2.6.0+cu124", "0.21.0"),
        ("2.10.0", "0.25.0"),
        ("2.14.0", "0.29.1"),
        ("2.14.0+cu126", "0.29.1"),
        ("2.14.1+cpu", "0.29.1"),
        ("2.15.0", "0.29.1"),  # 0.29.2 is of its CUDA, and has no pinned source
        ("2.15.0a0", None),
    ],
)
def test_a_torch_that_is_there_decides_the_release(torch: str, torchvision: str | None) -> None:
    found = select_release(variant("cpu-avx2"), torch=TorchBuild.parse(torch))
    assert found.paired
    assert found.torch == TorchBuild.parse(torch).version
    assert torchvision in (None, found.release.torchvision)


def test_a_torch_that_no_release_goes_with_is_an_error_with_the_way_out() -> None:
    for torch in ("2.6.1", "1.13.0"):
        with pytest.raises(BadInput, match=r"No listed release .* goes with torch .*--torchvision and --source"):
            select_release(variant("cpu-avx2"), torch=TorchBuild.parse(torch))


@given(st.sampled_from([f"2.{minor}.{patch}" for minor in range(4, 19) for patch in range(3)]))
def test_paired_is_what_the_published_requirement_admits(torch: str) -> None:
    """C7: every torch that `>=2.14.0` admits is a pair of the stable releases that say so."""
    for row in releases().values():
        assert pairs(row, TorchBuild(version=torch)) == SpecifierSet(row.torch_requirement).contains(torch)


@pytest.mark.parametrize("torch", ["2.14.0", "2.14.1", "2.15.0"])
def test_the_stable_release_is_a_pair_of_every_torch_that_it_admits(torch: str) -> None:
    assert pairs(releases()["0.29.1"], TorchBuild.parse(torch))
    assert pairs(releases()["0.29.0"], TorchBuild.parse(torch)) == (torch == "2.14.0")


def test_several_tracks_get_several_releases() -> None:
    names = ("cuda12_8-sm90-avx2", "cuda13_0-sm90-avx2", "cpu-avx2")
    assert [select_release(variant(name)).release.torchvision for name in names] == ["0.25.0", "0.29.1", "0.29.1"]


def test_a_release_that_no_row_lists_is_built_from_the_users_source_beside_the_torch_that_is_named() -> None:
    found = select_release(variant("cpu-avx2"), source="0.30.0a0", torch=TorchBuild.parse("2.15.0+cu132"))
    assert (found.release.torchvision, found.release.listed, found.needs_source) == ("0.30.0a0", False, True)
    assert found.release.torch_requirement == "==2.15.0"
    assert (found.release.cuda, found.release.extensions, found.release.cxx_standard) == ("13.2", (), None)
    with pytest.raises(BadInput, match=r"not known which torch.*--torch VERSION"):
        select_release(variant("cpu-avx2"), source="0.30.0a0")
    with pytest.raises(BadInput, match=r"is not in the table.*--source DIR and --torch"):
        select_release(variant("cpu-avx2"), torchvision="0.30.0")


def test_the_source_that_is_named_decides_the_release() -> None:
    found = select_release(variant("cpu-avx2"), source="0.26.0")
    assert (found.release.torchvision, found.torch, found.release.listed) == ("0.26.0", "2.11.0", True)


def test_where_the_newest_source_cannot_be_had_the_newest_that_can_is_taken() -> None:
    debian = {"0.21.0", "0.27.0"}
    row = newest(variant("cpu-avx2"), available=lambda known: known.torchvision in debian)
    assert row is not None
    assert row.torchvision == "0.27.0"
    assert newest(variant("cuda12_8-sm90-avx2"), available=lambda known: known.torchvision in debian) is None
    assert newest(variant("cuda13_2-sm90-avx2"), available=lambda known: True) is None


@pytest.mark.parametrize(
    ("torch", "newer"),
    [("2.15.0", False), ("2.15.1+cu132", False), ("2.13.0", False), ("2.16.0a0+git1", True), ("3.0.0", True)],
)
def test_a_torch_newer_than_the_table_is_told_with_the_command_that_updates_it(torch: str, newer: bool) -> None:
    text = newer_than_known(TorchBuild.parse(torch))
    assert (text is not None) is newer
    assert not newer or ("newer than this program knows" in str(text) and "tools/update_facts.py" in str(text))


def test_a_torch_newer_than_the_table_is_told_where_no_release_goes_with_it() -> None:
    """A torch that a stable release admits builds all the same."""
    assert select_release(variant("cpu-avx2"), torch=TorchBuild.parse("2.16.0")).release.torchvision == "0.29.1"


@pytest.mark.parametrize(
    ("text", "cuda"),
    [("2.14.0", "13.0"), ("2.14.0+cu126", "12.6"), ("2.14.0+cu1310", "13.10"), ("2.14.0+cpu", None), ("2.4.0", None)],
)
def test_a_version_says_its_cuda(text: str, cuda: str | None) -> None:
    assert TorchBuild.parse(text).cuda == cuda
    assert str(TorchBuild.parse(text)) == text


def test_what_is_no_version_is_refused() -> None:
    with pytest.raises(BadInput, match="is no version, no wheel and no folder"):
        TorchBuild.parse("latest")


def test_the_published_torch_leaves_out_gpus_that_it_has_no_code_for() -> None:
    assert torch_covers(releases()["0.25.0"], variant("cuda12_8-sm120-avx2")) is True
    assert torch_covers(releases()["0.25.0"], variant("cuda12_8-sm110-avx2")) is False
    assert torch_covers(releases()["0.25.0"], variant("cuda12_8-sm110-armv9")) is None, "it was never read there"
    assert torch_covers(releases()["0.29.1"], variant("cpu-avx2")) is True
    assert published_torch_serves(variant("cuda13_0-sm110-armv9"))
    assert not published_torch_serves(variant("cuda13_0-sm87-armv8_2"))
    assert not published_torch_serves(variant("cuda13_2-sm120-avx2"))  # no pinned source


def test_a_gpu_that_a_torch_has_no_code_for_gets_the_variant_that_one_has() -> None:
    for short, instead in (
        ("cuda12_8-sm110-avx2", "cuda13_0-sm110-armv9"),
        ("cuda12_8-sm110-armv8_2", "cuda13_0-sm110-armv8_2"),
        ("cuda13_0-sm120-avx2", "cuda13_0-sm120-avx2"),
    ):
        other = served_instead(variant(short))
        assert other is not None
        assert other.short == instead
    assert served_instead(variant("cuda13_0-sm87-armv8_2")) is None


def test_a_release_without_a_pinned_source_gets_one_of_the_same_torch_and_python() -> None:
    for python, instead in (("313", "0.29.1"), ("315", "0.29.1"), ("39", None)):
        row = pinned_instead(releases()["0.29.2"], python)
        assert (row.torchvision if row else None) == instead


def test_an_unknown_release_gets_the_nearest() -> None:
    for asked in ("0.21", "0.21.1", "0.21.0+cpu"):
        with pytest.raises(BadInput, match=r"Did you mean 0\.21\.0"):
            release_named(asked)
    for asked, near in (("0.19.0", "0.20.0 or 0.20.1"), ("0.29.5", "0.29.2 or 0.29.1"), ("1.0", "0.20.0 or 0.20.1")):
        with pytest.raises(BadInput) as caught:
            release_named(asked)
        assert f"Did you mean {near}?" in caught.value.hint
    for asked in ("", "newest"):
        with pytest.raises(BadInput) as caught:
            release_named(asked)
        assert caught.value.hint.startswith("Known: 0.20.0, ")


def test_every_choice_is_of_its_variants_track_and_python() -> None:
    seen = set()
    for one in every_variant():
        key = (one.track, one.platform, one.python)
        if key in seen:
            continue
        seen.add(key)
        found = newest(one)
        if found is not None:
            assert one.python in found.pythons
            assert one.cuda in (None, found.torch_cuda(one.platform))
            later = [
                row for row in releases().values() if version_key(row.torchvision) > version_key(found.torchvision)
            ]
            assert not found.sha256 or not any(
                row.sha256 and one.python in row.pythons and one.cuda in (None, row.torch_cuda(one.platform))
                for row in later
            )

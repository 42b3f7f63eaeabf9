"""Which device code runs on which GPU: one rule, held to pairs taken from the CUDA programming guide."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from build_torchvision.compatibility import KINDS, CpuIsa, Sm, serves, support, support_of_all
from build_torchvision.facts import gpus, isas

CUBIN80, CUBIN90, PTX80 = ("cubin", "sm80"), ("cubin", "sm90"), ("ptx", "sm80")
SMS = st.builds(Sm, st.sampled_from([6, 7, 8, 9, 10, 11, 12, 13]), st.integers(0, 9))
CODE = st.builds(Sm, st.sampled_from([6, 7, 8, 9, 10, 11, 12, 13]), st.integers(0, 9), st.sampled_from(["", "a", "f"]))

# (code, GPU) -> runs. Programming guide: "Binary Compatibility", "PTX Compatibility", "Architecture-Specific and
# Family-Specific Features"; CUDA for Tegra: "Application compatibility".
CUBINS = {
    ("sm80", "8.0"): True,
    ("sm80", "8.6"): True,
    ("sm86", "8.0"): False,
    ("sm80", "9.0"): False,
    ("sm90", "8.9"): False,
    ("sm86", "8.9"): True,
    ("sm100", "10.3"): True,
    ("sm100", "11.0"): False,
    ("sm120", "12.1"): True,
    ("sm121", "12.0"): False,
    ("sm90a", "9.0"): True,
    ("sm100a", "10.0"): True,
    ("sm100a", "10.3"): False,
    ("sm100f", "10.3"): True,
    ("sm103f", "10.0"): False,
    ("sm100f", "12.0"): False,
    ("sm120f", "12.1"): True,
    ("sm80", "8.7"): False,
    ("sm86", "8.7"): False,
    ("sm87", "8.7"): True,
    ("sm87", "8.9"): False,
    ("sm110", "11.0"): True,
}
PTX = {
    ("sm80", "7.5"): False,
    ("sm80", "8.0"): True,
    ("sm80", "8.7"): True,
    ("sm80", "12.1"): True,
    ("sm100", "11.0"): True,
    ("sm120", "11.0"): False,
    ("sm90a", "9.0"): True,
    ("sm90a", "10.0"): False,
    ("sm100f", "10.3"): True,
    ("sm100f", "12.0"): False,
}


@pytest.mark.parametrize(("pair", "runs"), CUBINS.items(), ids=str)
def test_a_cubin_runs_where_the_programming_guide_says(pair: tuple[str, str], runs: bool) -> None:
    assert Sm.parse(pair[0]).cubin_runs_on(Sm.parse(pair[1])) is runs


@pytest.mark.parametrize(("pair", "runs"), PTX.items(), ids=str)
def test_ptx_compiles_where_the_programming_guide_says(pair: tuple[str, str], runs: bool) -> None:
    assert Sm.parse(pair[0]).ptx_runs_on(Sm.parse(pair[1])) is runs


@given(CODE, SMS)
def test_the_rule_holds_for_every_pair(code: Sm, gpu: Sm) -> None:
    cubin, ptx = code.cubin_runs_on(gpu), code.ptx_runs_on(gpu)
    if code.number == gpu.number:
        assert cubin
        assert ptx
    if cubin:
        assert code.major == gpu.major
        assert code.minor <= gpu.minor
        assert code.number == gpu.number or not (code.tegra or gpu.tegra)
        assert ptx  # whatever a cubin reaches, PTX of the same architecture reaches too
    if ptx:
        assert code.number <= gpu.number
    if code.suffix == "a":
        assert (cubin, ptx) == (code.number == gpu.number,) * 2
    if code.suffix == "f":
        assert not ptx or code.major == gpu.major


@given(CODE)
def test_an_sm_survives_being_written(sm: Sm) -> None:
    assert Sm.parse(sm.name) == sm == Sm.parse(sm.capability)


@pytest.mark.parametrize("text", ["", "sm", "9", "sm9", "90", "avx2", "sm90b", "9.0.1", "sm_x0"])
def test_what_is_no_sm_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="neither an SM"):
        Sm.parse(text)


@pytest.mark.parametrize(
    ("groups", "capability", "kind"),
    [
        ([{CUBIN90}], "9.0", "native"),
        ([{CUBIN80}], "8.6", "compatible"),
        ([{CUBIN80}], "9.0", None),
        ([{CUBIN90}], "8.0", None),
        ([{CUBIN80, PTX80}], "9.0", "ptx"),
        ([{CUBIN80, PTX80}], "8.9", "compatible"),
        ([{PTX80}], "7.5", None),
        ([{CUBIN90}, {CUBIN80, PTX80}], "9.0", "ptx"),
        ([{CUBIN90}, {CUBIN80}], "9.0", None),
        ([{("cubin", "sm120")}], "12.1", "compatible"),
        ([{("ptx", "sm100")}], "13.0", "ptx"),
        ([], "9.0", None),
    ],
)
def test_a_package_is_served_as_its_worst_fat_binary_is(
    groups: list[set[tuple[str, str]]], capability: str, kind: str | None
) -> None:
    assert support_of_all(groups, Sm.parse(capability)) == kind


@given(st.lists(st.tuples(st.sampled_from(["cubin", "ptx"]), CODE.map(lambda sm: sm.name)), max_size=4), SMS)
def test_more_images_never_serve_worse(images: list[tuple[str, str]], gpu: Sm) -> None:
    whole, part = support(images, gpu), support(images[:-1], gpu)
    assert part is None or (whole is not None and KINDS.index(whole) <= KINDS.index(part))


@pytest.mark.parametrize(
    ("cubins", "ptx", "sm", "runs"),
    [
        ({"sm80"}, set(), "sm86", True),
        ({"sm80"}, set(), "sm87", False),  # an Orin: a torch for sm80 alone does not serve it
        ({"sm87"}, set(), "sm87", True),
        ({"sm90a"}, set(), "sm90", True),
        ({"sm90a"}, set(), "sm100", False),
        ({"sm100", "sm120"}, set(), "sm110", False),
        (set(), {"sm90"}, "sm110", True),
        ({"sm100"}, {"sm120"}, "sm110", False),
    ],
)
def test_a_torch_serves_a_gpu_by_the_same_rule(cubins: set[str], ptx: set[str], sm: str, runs: bool) -> None:
    assert serves(cubins, ptx, sm) is runs


def test_every_gpu_of_the_table_is_an_sm() -> None:
    for name, row in gpus().items():
        sm = Sm.parse(name)
        assert (sm.name, sm.capability, sm.tegra) == (name, row.capability, bool(row.tegra))


@given(*[st.sampled_from([CpuIsa(name) for name in isas()])] * 3)
def test_cpu_isas_form_an_order(a: CpuIsa, b: CpuIsa, c: CpuIsa) -> None:
    assert a <= a
    assert not a < a
    assert not (a <= b <= c) or a <= c
    assert not (a <= b and b <= a) or a == b
    assert not a <= b or isas()[a.name].platform == isas()[b.name].platform


def test_an_unknown_isa_is_no_value() -> None:
    with pytest.raises(ValueError, match="is not one of avx2"):
        CpuIsa("sse2")

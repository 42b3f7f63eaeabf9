"""What the benchmark calls a difference."""

from __future__ import annotations

import itertools
import random
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from build_torchvision.bench import comparison
from build_torchvision.bench.comparison import AGAIN, STOCK, Timing, arena
from build_torchvision.bench.intervals import Verdict, geometric_mean, paired_ratio
from build_torchvision.bench.picture import ratio_axis
from build_torchvision.bench.report import markdown, rows, to_json
from build_torchvision.flags import Tuning, tuning_for
from build_torchvision.graph.tuning import WHOLE_REGISTERS, codegen_flags, kernel_flags, parse_flags, transform_flags
from build_torchvision.graph.units import Unit


def times(seed: int, *, factor: float = 1.0, noise: float = 0.1, rounds: int = 21) -> list[float]:
    draw = random.Random(seed)
    return [factor * (1 + noise * draw.random()) for _ in range(rounds)]


def test_a_planted_slow_down_is_a_loss_and_its_mirror_a_win() -> None:
    stock, slow = times(1), times(2, factor=1.15)
    assert paired_ratio(stock, slow).verdict() is Verdict.SLOWER
    assert paired_ratio(slow, stock).verdict() is Verdict.FASTER


def test_noise_is_seldom_called_a_difference() -> None:
    wrong = [seed for seed in range(100) if paired_ratio(times(seed), times(seed + 1000)).verdict() is not Verdict.SAME]
    assert len(wrong) <= 12  # a 95 % interval errs in about 5 of 100


def test_a_difference_within_the_noise_floor_is_none() -> None:
    ratio = paired_ratio(times(1, factor=1.1, noise=0.01), times(2, noise=0.01))
    assert ratio.verdict() is Verdict.FASTER
    assert ratio.verdict(1.2) is Verdict.SAME
    assert ratio.verdict(1 / 1.2) is Verdict.SAME


def test_what_slows_the_whole_machine_cancels_within_a_round() -> None:
    load = [1 + (i % 7) for i in range(21)]
    stock, ours = (
        [load[i] * value for i, value in enumerate(times(seed, factor=factor, noise=0.02))]
        for seed, factor in ((1, 1.2), (2, 1.0))
    )
    ratio = paired_ratio(stock, ours)
    assert 1.15 < ratio.low < ratio.value < ratio.high < 1.25


def test_an_interval_holds_its_value_and_is_the_same_each_time() -> None:
    ratio = paired_ratio(times(1), times(2))
    assert ratio.low <= ratio.value <= ratio.high
    assert ratio == paired_ratio(times(1), times(2))


def test_the_geometric_mean_of_a_win_and_its_mirror_is_one() -> None:
    stock, fast = times(1, factor=2, noise=0), times(2, noise=0)
    assert geometric_mean([(stock, fast), (fast, stock)]).value == pytest.approx(1)


@pytest.mark.parametrize(("stock", "ours"), [([1.0], [1.0]), ([1.0, 1.0], [1.0])])
def test_one_round_or_unequal_rounds_are_refused(stock: list[float], ours: list[float]) -> None:
    with pytest.raises(ValueError, match=r"rounds|argument"):
        paired_ratio(stock, ours)


def timing(name: str, *, factor: float, error: float = 0.0, noise: float = 0.01, device: str = "cpu") -> Timing:
    seconds = {
        STOCK: times(1, noise=noise),
        AGAIN: times(2, noise=noise),
        "cpu.avx2": times(3, factor=factor, noise=noise),
    }
    errors = {AGAIN: 0.0, "cpu.avx2": error}
    return Timing(
        name=name,
        size="small",
        direction="forward",
        group="op",
        threads=1,
        device=device,
        seconds=seconds,
        errors=errors,
    )


ABOUT = {"machine": "a CPU", "torch": "2.6.0", "stock": "0.21.0", "gpu": "NVIDIA H100"}


def test_a_table_names_wins_losses_noise_and_wrong_results() -> None:
    timings = [
        timing("nms", factor=0.5),
        timing("roi_pool", factor=1.5),
        timing("roi_align", factor=1.0),
        timing("deform_conv2d", factor=0.5, error=0.01),
        timing("roi_align, quantized", factor=0.5, error=0.01),
    ]
    found = {row.timing.name: (row.verdict, row.agrees) for row in rows(timings)}
    assert found == {
        "nms": (Verdict.FASTER, True),
        "roi_pool": (Verdict.SLOWER, True),
        "roi_align": (Verdict.SAME, True),
        "deform_conv2d": (Verdict.FASTER, False),
        "roi_align, quantized": (Verdict.FASTER, True),
    }
    text = markdown(to_json(timings, [], {}, ABOUT))
    assert "| roi_pool, small, forward |" in text
    assert text.count("slower") == 1
    assert text.count("no difference") == 1
    assert len([line for line in text.splitlines() if "†" in line and line.startswith("| deform_conv2d")]) == 1


def test_a_wheel_for_every_python_is_timed_beside_the_published_one_for_the_interpreter(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wheel = tmp_path / "torchvision-0.29.1+cpu.avx2-py3-none-manylinux_2_28_x86_64.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("torchvision/_C.so", b"12")
        archive.writestr("torchvision/_C_stable.so", b"123")
    asked = []
    monkeypatch.setattr(comparison, "_stock_wheel", lambda *named: (asked.append(named), wheel)[1])
    with arena([wheel], torch="2.14.1", python=Path(sys.executable)) as (_, contenders):
        assert contenders[-1].sizes["_C.so"] == 5
    assert asked == [("0.29.1", f"{sys.version_info.major}{sys.version_info.minor}", "x86_64")]


def test_what_ran_on_a_gpu_stands_apart_from_what_ran_on_the_cpu() -> None:
    timings = [timing("nms", factor=0.5), timing("nms", factor=0.8, device="cuda")]
    result = to_json(timings, [], {}, ABOUT)
    assert {where: round(mean["all"]["value"], 2) for where, mean in result["means"]["cpu.avx2"].items()} == {
        "1": 2.0,
        "cuda": 1.25,
    }
    text = markdown(result)
    assert text.index("### 1 thread") < text.index("2.00") < text.index("### NVIDIA H100") < text.index("1.25")


def test_operators_are_compiled_for_short_loops_and_only_samplers_sum_pairwise() -> None:
    def unit(*sources: str, isa_dependent: bool = True) -> Unit:
        return Unit(extension="_C", name="unit", sources=sources, isa_dependent=isa_dependent)

    ops = "torchvision/csrc/ops"
    x86, arm = tuning_for("x86_64"), tuning_for("aarch64")
    assert "-fassociative-math" in parse_flags(unit(f"{ops}/cpu/roi_align_kernel.cpp"), x86)
    for exact in ("nms_kernel", "roi_pool_kernel", "ps_roi_pool_kernel", "deform_conv2d_kernel"):
        assert parse_flags(unit(f"{ops}/cpu/{exact}.cpp"), x86) == ()
    assert "-mno-gather" in codegen_flags(unit(f"{ops}/cpu/nms_kernel.cpp"), x86)
    assert transform_flags(unit(f"{ops}/cpu/nms_kernel.cpp"), x86) == ("--multiply",)
    for tuned in (codegen_flags, transform_flags):
        assert tuned(unit(f"{ops}/cpu/nms_kernel.cpp"), arm) == ()  # nothing was timed on Arm
    images = unit("torchvision/csrc/io/image/cpu/decode_png.cpp", "torchvision/csrc/io/image/cpu/decode_jpeg.cpp")
    assert parse_flags(images, x86) == codegen_flags(images, x86) == transform_flags(images, x86) == ()
    for name in ("roi_align_kernel", "nms_kernel", "roi_pool_kernel", "deform_conv2d_kernel"):
        every = unit(f"{ops}/cpu/{name}.cpp")
        flags = (*parse_flags(every, x86), *codegen_flags(every, x86))
        assert (*parse_flags(every, Tuning()), *codegen_flags(every, Tuning())) == ()  # --no-tuning
        assert not {"-ffast-math", "-freciprocal-math", "-ffinite-math-only"} & set(flags)


def test_a_kernel_is_not_unrolled_further_where_that_was_timed() -> None:
    unit = Unit(extension="_C", name="unit", sources=("/deform_conv2d.cpp",), isa_dependent=True, kernel=True)
    assert kernel_flags(unit, "avx2") == ("-O2",)
    assert kernel_flags(unit, "avx512bf16") == ("-O2", *WHOLE_REGISTERS)
    assert kernel_flags(unit, "armv9") == ()
    assert kernel_flags(replace(unit, sources=("/roi_pool.cpp",)), "avx512") == WHOLE_REGISTERS
    assert kernel_flags(replace(unit, kernel=False), "avx512") == ()


@pytest.mark.parametrize("ends", [[0.97, 1.4], [0.3, 1.0, 5.9], [1.1, 44.4], [0.9, 300.0]])
def test_the_pictures_axis_has_room_for_every_ratio(ends: list[float]) -> None:
    """An axis that ended at six left out what was twenty times as fast."""
    low, high, ticks = ratio_axis(ends)
    assert low < min(*ends, 1.0)
    assert max(*ends, 1.0) < high
    assert 1.0 in ticks
    assert all(low <= tick <= high for tick in ticks)
    assert all(b / a >= 1.1 for a, b in itertools.pairwise(ticks))

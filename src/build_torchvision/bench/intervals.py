"""Ratios with intervals, and when a difference may be called one."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

RESAMPLES = 1000
CONFIDENCE = 0.95


class Verdict(StrEnum):
    """What a comparison came to."""

    FASTER = "faster"
    SLOWER = "slower"
    SAME = "no difference"


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Time of the stock wheel over time of the variant (above 1 the variant is faster), with its 95 % interval."""

    value: float
    low: float
    high: float

    def verdict(self, floor: float = 1.0) -> Verdict:
        """`floor` >= 1 is the ratio that two identical contenders showed: an interval that reaches it shows nothing."""
        floor = max(floor, 1 / floor)
        if self.low > floor:
            return Verdict.FASTER
        return Verdict.SLOWER if self.high < 1 / floor else Verdict.SAME


def paired_ratio(stock: Sequence[float], ours: Sequence[float], *, seed: int = 0) -> Ratio:
    """The median over rounds of stock's time by ours, and its bootstrap interval (percentile method).

    Round i of both was measured within the same moment, so that what slows the whole machine cancels.
    Raises ValueError for fewer than two rounds or unequal numbers of them.
    """
    ratios = [a / b for a, b in zip(stock, ours, strict=True)]
    if len(ratios) < 2:
        raise ValueError(f"{len(ratios)} rounds have no spread")
    return _interval([median(ratios)], [resampled(ratios, seed)])


def geometric_mean(pairs: Sequence[tuple[Sequence[float], Sequence[float]]], *, seed: int = 0) -> Ratio:
    """The geometric mean of `paired_ratio` over cases, each case's rounds resampled by themselves."""
    ratios = [[a / b for a, b in zip(stock, ours, strict=True)] for stock, ours in pairs]
    return _interval([median(each) for each in ratios], [resampled(each, seed + i) for i, each in enumerate(ratios)])


def resampled(values: Sequence[float], seed: int) -> list[float]:
    """Medians of `RESAMPLES` samples of `values`, drawn with replacement."""
    draw = random.Random(seed)
    return [median(draw.choices(values, k=len(values))) for _ in range(RESAMPLES)]


def _interval(values: Sequence[float], medians: Sequence[Sequence[float]]) -> Ratio:
    means = sorted(_mean([each[i] for each in medians]) for i in range(RESAMPLES))
    cut = int(RESAMPLES * (1 - CONFIDENCE) / 2)
    return Ratio(value=_mean(values), low=means[cut], high=means[-1 - cut])


def _mean(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))

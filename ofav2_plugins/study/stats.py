"""Statistics of a study: confidence intervals, rank correlation, Pareto fronts, hypervolume, means over seeds.

Does not import torch. Values that are missing, NaN or infinite are excluded from every summary, never counted as zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

MIN_SEEDS = 3
"""Minimum number of seeds for an interval; with two, it would extend 12.7 standard errors to each side."""


def t_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Student-t confidence interval of the mean.

    Args:
        values: At least three values, one per seed.
        level: Confidence level.

    Raises:
        ValueError: Fewer than three values, or one that is not finite.
    """
    sample = np.asarray(values, dtype=float)
    if sample.ndim != 1 or len(sample) < MIN_SEEDS or not np.isfinite(sample).all():
        raise ValueError(f"an interval needs at least {MIN_SEEDS} finite values, but got {list(values)}")
    half = stats.t.ppf((1 + level) / 2, df=len(sample) - 1) * stats.sem(sample)
    return float(sample.mean() - half), float(sample.mean() + half)


def spearman(x: Sequence[float], y: Sequence[float]) -> float:
    """Spearman's rank correlation; NaN for fewer than two pairs or if `x` or `y` is constant.

    Raises:
        ValueError: `x` and `y` differ in length.
    """
    if len(x) != len(y):
        raise ValueError(f"both sides must have the same length, but got {len(x)} and {len(y)}")
    if len(set(x)) < 2 or len(set(y)) < 2:
        return math.nan
    return float(stats.spearmanr(x, y).statistic)


def pareto_front(points: Sequence[tuple[float | None, float | None]]) -> list[int]:
    """Indices of the (cost, accuracy) points that no other point dominates, in ascending order of cost.

    A point is dominated by one that costs no more, is at least as accurate, and is better in one of the two. Of
    equal points, the first is kept. Points with a value that is missing or not finite are excluded.
    """
    numbered = [(i, number(cost), number(top1)) for i, (cost, top1) in enumerate(points)]
    usable = [(cost, -top1, i) for i, cost, top1 in numbered if cost is not None and top1 is not None]
    front: list[int] = []
    best = -math.inf
    for _, negative, i in sorted(usable):
        if -negative > best:
            front.append(i)
            best = -negative
    return front


def hypervolume(points: Sequence[tuple[float, float]], max_cost: float) -> float:
    """Area dominated by (cost, accuracy) points, for costs from 0 to `max_cost` and accuracies above 0.

    Divided by `max_cost` it is the best accuracy within a budget, averaged over all budgets up to `max_cost`.
    Points that cost `max_cost` or more, or have an accuracy of 0 or less, contribute nothing.
    """
    area, reached = 0.0, 0.0
    for i in pareto_front(points):
        cost, top1 = points[i]
        if cost < max_cost and top1 > reached:
            area += (max_cost - cost) * (top1 - reached)
            reached = top1
    return area


def number(value: Any) -> float | None:
    """`value` as a finite float; None if it is missing, not a number, NaN or infinite."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        converted = float(value)
    except OverflowError:
        return None
    return converted if math.isfinite(converted) else None


@dataclass(frozen=True)
class Spread:
    """A value over seeds: mean, smallest and largest value, and the number of seeds that have it."""

    mean: float
    low: float
    high: float
    n: int


def spread(values: Iterable[Any]) -> Spread | None:
    """The spread of the finite values; None if there are none."""
    finite = [value for value in map(number, values) if value is not None]
    if not finite:
        return None
    # fsum and the clamp ensure that the mean of equal values is exactly that value
    mean = min(max(math.fsum(finite) / len(finite), min(finite)), max(finite))
    return Spread(mean, min(finite), max(finite), len(finite))

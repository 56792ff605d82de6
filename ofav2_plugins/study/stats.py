"""The mathematics of a study's numbers: intervals, ranks, fronts, means over seeds, the order of phases.

No torch here. A value that is missing, NaN or infinite is left out of every summary, never counted as zero.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

CANONICAL = ("full", "kernel", "level", "height", "depth", "width")


def bootstrap_interval(
    values: Sequence[float], seed: int = 0, n: int = 10000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean.

    Args:
        values: At least two values, one per seed.
        seed: Of the resampling, which has a generator of its own.
        n: Number of resamples.
        level: The share of resampled means that lies inside.

    Raises:
        ValueError: Fewer than two values (one says nothing about the spread), or one that is not finite.
    """
    held = np.asarray(values, dtype=float)
    if held.ndim != 1 or len(held) < 2 or not np.isfinite(held).all():
        raise ValueError(f"an interval needs two or more finite values, but got {list(values)}")
    draws = np.random.default_rng(seed).integers(0, len(held), size=(n, len(held)))
    low, high = np.quantile(held[draws].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def spearman(x: Sequence[float], y: Sequence[float]) -> float:
    """Rank correlation; ties get their mean rank. NaN for fewer than two pairs or a constant side."""
    if len(x) != len(y):
        raise ValueError(f"both sides must have the same length, but got {len(x)} and {len(y)}")
    a, b = _ranks(x), _ranks(y)
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])


def _ranks(values: Sequence[float]) -> np.ndarray:
    _, where, counts = np.unique(np.asarray(values, dtype=float), return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[where]


def pareto_front(points: Sequence[tuple[float | None, float | None]]) -> list[int]:
    """Indices of the (cost, accuracy) points that no other point beats, ascending in cost.

    A point is beaten by one that costs no more and is at least as accurate, and better in one of the two. Of
    equal points the first counts; points with a value that is missing or not finite do not take part.
    """
    whole = [(i, number(cost), number(top1)) for i, (cost, top1) in enumerate(points)]
    usable = [(cost, -top1, i) for i, cost, top1 in whole if cost is not None and top1 is not None]
    front: list[int] = []
    best = -math.inf
    for _, negative, i in sorted(usable):
        if -negative > best:
            front.append(i)
            best = -negative
    return front


def number(value: Any) -> float | None:
    """`value` as a finite float, or None where it is missing, not a number, NaN or infinite."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        held = float(value)
    except OverflowError:
        return None
    return held if math.isfinite(held) else None


def phase_order(names: Iterable[str]) -> list[str]:
    """Distinct phases: full, kernel, level, height, depth, width by number, then others as they appear."""

    def key(name: str) -> tuple[int, int]:
        match = re.fullmatch(rf"({'|'.join(CANONICAL)})(?:-([0-9]+))?", name)
        return (CANONICAL.index(match[1]), int(match[2] or 0)) if match else (len(CANONICAL), 0)

    return sorted(dict.fromkeys(names), key=key)


@dataclass(frozen=True)
class Spread:
    """A value over seeds: mean, smallest, largest and the number of seeds that have it."""

    mean: float
    low: float
    high: float
    n: int


def spread(values: Iterable[Any]) -> Spread | None:
    """The spread of the finite ones among `values`; None where there is none."""
    held = [v for v in map(number, values) if v is not None]
    if not held:
        return None
    # fsum and the clamp: equal values must give exactly that value, not one beside the range
    mean = min(max(math.fsum(held) / len(held), min(held)), max(held))
    return Spread(mean, min(held), max(held), len(held))

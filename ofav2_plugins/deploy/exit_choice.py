"""Choosing exits of a multi-exit network, and the confidence at which a sample leaves. No torch here.

All results follow from the logits of all exits on the validation images, which are computed only once.
Sources: exit pruning, AEP (arXiv 2301.12168); a shared threshold on calibrated confidences, MSDNet (arXiv 1703.09844).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from ..exit_rules.base import ExitRule
from .calibration import probabilities

THRESHOLDS = 200
"""Number of thresholds tried for each set of exits: quantiles of the confidences on the validation images."""


@dataclass(frozen=True)
class ExitCosts:
    """Multiply-accumulates of one image, by exit.

    Args:
        trunk: From the image up to the exit, without any exit's head; ascending.
        heads: The exit's head.
    """

    trunk: tuple[int, ...]
    heads: tuple[int, ...]

    def ending_at(self, exits: Sequence[int]) -> list[int]:
        """The cost of an image that leaves at each of `exits` (positions, ascending), without any other exits."""
        heads = itertools.accumulate(self.heads[e] for e in exits)
        return [self.trunk[e] + head for e, head in zip(exits, heads, strict=True)]


@dataclass(frozen=True)
class Ensemble:
    """A set of exits whose logits are summed.

    Args:
        exits: Their positions among the network's exits, from 0.
        weights: One per exit, summing to 1.
        val_top1: Accuracy in percent on the validation images.
        macs: Multiply-accumulates of one image.
    """

    exits: tuple[int, ...]
    weights: tuple[float, ...]
    val_top1: float
    macs: int


def ensembles(
    logits: Sequence[np.ndarray], labels: np.ndarray, weights: Sequence[float], costs: ExitCosts
) -> list[Ensemble]:
    """Every set of exits as an ensemble, the most accurate first, ties broken by cost.

    Args:
        logits: Of each exit, [N, n_classes].
        labels: [N].
        weights: Weight of each exit in the ensemble of all exits; weights of a subset are scaled to sum to 1.
        costs: Of the exits.
    """
    found = []
    for exits in subsets(len(logits)):
        total = sum(weights[e] for e in exits)
        if total == 0:
            continue
        scaled = tuple(weights[e] / total for e in exits)
        summed = sum(weight * logits[e] for weight, e in zip(scaled, exits, strict=True))
        top1 = 100 * float((np.argmax(summed, axis=1) == labels).mean())
        found.append(Ensemble(exits, scaled, top1, costs.ending_at(exits)[-1]))
    return sorted(found, key=lambda ensemble: (-ensemble.val_top1, ensemble.macs))


def subsets(n: int) -> Iterator[tuple[int, ...]]:
    """Every non-empty subset of 0..n-1, ascending within."""
    return (chosen for size in range(1, n + 1) for chosen in itertools.combinations(range(n), size))


@dataclass(frozen=True)
class OperatingPoint:
    """A set of exits with a threshold, and its accuracy and cost on the validation images.

    Args:
        exits: Positions among the network's exits, from 0; the network's last one answers the remaining images.
        threshold: Confidence at which a sample leaves, the same at every exit but the last.
        val_top1: Accuracy in percent.
        macs: Mean multiply-accumulates of an image.
        shares: Share of the images that leave at each exit.
    """

    exits: tuple[int, ...]
    threshold: float
    val_top1: float
    macs: float
    shares: tuple[float, ...]


def operating_points(
    logits: Sequence[np.ndarray],
    labels: np.ndarray,
    temperatures: Sequence[float],
    costs: ExitCosts,
    rule: ExitRule,
) -> list[OperatingPoint]:
    """The Pareto-optimal operating points in accuracy and cost, the cheapest first.

    Each consists of the last exit, any set of earlier exits, and a threshold.

    Args:
        logits: Of each exit, [N, n_classes].
        labels: [N].
        temperatures: Of each exit.
        costs: Of the exits.
        rule: The confidence of an exit.
    """
    known = [probabilities(scores, temperature) for scores, temperature in zip(logits, temperatures, strict=True)]
    right = np.stack([scores.argmax(axis=1) == labels for scores in logits])  # [E, N]
    last = len(logits) - 1
    sets = [(last,), *((*early, last) for early in subsets(last))]
    points = [point for exits in sets for point in _points(exits, known, right, costs, rule)]
    front: list[OperatingPoint] = []
    for point in sorted(points, key=lambda point: (point.macs, -point.val_top1, len(point.exits))):
        if not front or point.val_top1 > front[-1].val_top1:
            front.append(point)
    return front


def _points(
    exits: tuple[int, ...], known: Sequence[np.ndarray], right: np.ndarray, costs: ExitCosts, rule: ExitRule
) -> Iterator[OperatingPoint]:
    """One set of exits with each threshold."""
    n = right.shape[1]
    confidence = [rule.confidence([known[e] for e in exits[: i + 1]]) for i in range(len(exits) - 1)]
    scores = np.stack([*confidence, np.full(n, np.inf)])  # [E, N]; the last exit answers the remaining images
    thresholds = _thresholds(scores[:-1].ravel())
    macs = np.array(costs.ending_at(exits))
    for threshold in thresholds:
        leaves = (scores >= threshold).argmax(axis=0)  # the first exit that is confident enough
        shares = np.bincount(leaves, minlength=len(exits)) / n
        top1 = 100 * float(right[np.array(exits)[leaves], np.arange(n)].mean())
        yield OperatingPoint(exits, float(threshold), top1, float(shares @ macs), tuple(shares.tolist()))


def _thresholds(confidences: np.ndarray) -> np.ndarray:
    """Thresholds at quantiles of confidences, each midway to the next lower confidence.

    No image of the validation set is at a threshold, so rounding does not change its exit.
    """
    if len(confidences) == 0:
        return np.zeros(1)
    distinct = np.unique(confidences)
    below = np.concatenate([[distinct[0] - 1], distinct[:-1]])
    quantiles = np.quantile(confidences, np.linspace(0, 1, THRESHOLDS), method="lower")
    chosen = np.unique(np.searchsorted(distinct, quantiles))
    thresholds: np.ndarray = (distinct[chosen] + below[chosen]) / 2
    return thresholds


def choose_point(
    front: Sequence[OperatingPoint], target_top1: float | None = None, target_macs: float | None = None
) -> OperatingPoint:
    """The cheapest operating point that reaches a target accuracy, or the most accurate one within a target cost.

    Args:
        front: The result of `operating_points`.
        target_top1: Minimum accuracy in percent on the validation images.
        target_macs: Maximum mean multiply-accumulates per image.

    Raises:
        UserError: No operating point reaches the target; the message gives the reachable value.
    """
    allowed = [
        point
        for point in front
        if (target_top1 is None or point.val_top1 >= target_top1) and (target_macs is None or point.macs <= target_macs)
    ]
    if not allowed and target_macs is not None and front[0].macs > target_macs:
        raise UserError(
            f"--target-macs must be at least {front[0].macs:.0f}, the cheapest exit, but got {target_macs:.0f}"
        )
    if not allowed:
        within = "" if target_macs is None else f" within {target_macs:.0f} MACs"
        best = max(p.val_top1 for p in front if target_macs is None or p.macs <= target_macs)
        raise UserError(
            f"--target-top1 must be at most {best:.2f}, what these exits reach on validation{within}, "
            f"but got {target_top1}"
        )
    return allowed[0] if target_top1 is not None else allowed[-1]

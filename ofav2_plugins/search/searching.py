"""The search itself: predicted evaluations, the front of a search, and the part of it that is measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from ..plugin import PluginError
from ..registry import SEARCHERS, calling, title
from ..searchers.base import Searcher
from ..searchers.pareto import hypervolume, nondominated
from ..searchers.problem import Metrics, Problem


@dataclass(frozen=True)
class Found:
    """The evaluations of a search: distinct feasible architectures.

    Args:
        codes: [N, G].
        metrics: Metric -> predicted or exact values [N].
        evaluations: Architectures that the searcher proposed, including repeated and infeasible ones.
        seconds: Time of the search.
        closest: Code [1, G] of the evaluated architecture that is closest to the limits.
    """

    codes: np.ndarray
    metrics: Metrics
    evaluations: int
    seconds: float
    closest: np.ndarray


def search(
    searcher: Searcher, problem: Problem, evaluations: int, seed: int, advance: Callable[[int], None] = lambda n: None
) -> Found:
    """Run a searcher for a number of evaluations.

    Args:
        searcher: A plugin, not started yet.
        problem: The search problem.
        evaluations: Predicted evaluations.
        seed: Seed of all random numbers.
        advance: Called with the number of evaluations of each iteration.

    Raises:
        PluginError: The searcher fails or breaks its contract.
    """
    started, evaluated = time.monotonic(), 0
    codes: list[np.ndarray] = []
    metrics: list[Metrics] = []
    with calling(SEARCHERS, searcher.name, "start", passing=UserError):
        searcher.start(problem, seed)
    while evaluated < evaluations:
        with calling(SEARCHERS, searcher.name, "ask"):
            proposed = searcher.ask()
        _check(searcher, problem, proposed)
        proposed = proposed[: evaluations - evaluated]
        if len(proposed) == 0:
            break
        found = problem.evaluate(proposed)
        with calling(SEARCHERS, searcher.name, "tell"):
            searcher.tell(proposed, found)
        codes.append(proposed)
        metrics.append(found)
        evaluated += len(proposed)
        advance(len(proposed))
    if not codes:
        raise PluginError(f"{title(SEARCHERS, searcher.name)} must propose architectures, but proposed none")
    every = np.concatenate(codes)
    joined = {name: np.concatenate([part[name] for part in metrics]) for name in metrics[0]}
    violation = problem.violation(joined)
    _, first = np.unique(every, axis=0, return_index=True)
    kept = np.sort(first[violation[first] == 0])
    closest = every[[violation.argmin()]]
    return Found(every[kept], {n: v[kept] for n, v in joined.items()}, evaluated, time.monotonic() - started, closest)


def _check(searcher: Searcher, problem: Problem, codes: np.ndarray) -> None:
    encoding = problem.encoding
    valid = isinstance(codes, np.ndarray) and codes.ndim == 2 and codes.shape[1] == len(encoding.genes)
    if not (valid and np.issubdtype(codes.dtype, np.integer) and ((codes >= 0) & (codes <= encoding.upper)).all()):
        raise PluginError(
            f"{title(SEARCHERS, searcher.name)} must propose integer codes [n, {len(encoding.genes)}] within the "
            f"encoding's bounds, but got {codes!r:.200}"
        )


def front(problem: Problem, found: Found) -> np.ndarray:
    """Indices of the non-dominated architectures, sorted by the first objective."""
    values = problem.minimised(found.metrics)
    places = np.flatnonzero(nondominated(values))
    return places[np.argsort(values[places, 0], kind="stable")]


def best_within(accuracy: np.ndarray, cost: np.ndarray, budgets: Sequence[float]) -> list[int]:
    """Indices of the most accurate of N architectures within each budget; budgets that none satisfies are skipped."""
    found = []
    for budget in budgets:
        within = np.flatnonzero(cost <= budget)
        if len(within):
            found.append(int(within[accuracy[within].argmax()]))
    return list(dict.fromkeys(found))


def spread(values: np.ndarray, n: int, wanted: Sequence[int] = ()) -> np.ndarray:
    """Indices of at most `n` of the rows [N, M]: the best of each objective, the wanted ones, others far from these."""
    if len(values) <= n:
        return np.arange(len(values))
    span = np.ptp(values, axis=0)
    scaled = (values - values.min(axis=0)) / np.where(span > 0, span, 1)
    chosen = list(dict.fromkeys([*scaled.argmin(axis=0).tolist(), *wanted]))[:n]
    distance = np.min([((scaled - scaled[place]) ** 2).sum(axis=1) for place in chosen], axis=0)
    while len(chosen) < n:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, ((scaled - scaled[chosen[-1]]) ** 2).sum(axis=1))
    return np.sort(np.array(chosen))


class Volume:
    """Hypervolume as a fraction of the volume between the worst and the best corner, so between 0 and 1.

    The best corner is an accuracy of 100 % at no cost; the worst an accuracy of 0 at each limit or, without one, at the
    cost of the maximal network.

    Args:
        problem: Its objectives and limits.
        largest: The metrics of the maximal network, one value each.
    """

    def __init__(self, problem: Problem, largest: Metrics):
        self.problem = problem
        self.reference = {
            objective.name: 0.0
            if objective.maximize
            else float(problem.limits.get(objective.name, largest[objective.name][0]))
            for objective in problem.objectives
        }

    def __call__(self, metrics: Metrics) -> float:
        """The hypervolume of architectures with these metrics."""
        scales = np.array([100 if o.maximize else self.reference[o.name] for o in self.problem.objectives])
        worst = np.array([0.0 if o.maximize else 1.0 for o in self.problem.objectives])
        return hypervolume(self.problem.minimised(metrics) / scales, worst)

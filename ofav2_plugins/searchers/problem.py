"""The search problem: objectives and limits over the architectures of a space. No torch here."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from ..evaluation.encoding import Encoding

Metrics = dict[str, np.ndarray]
"""Metric -> values [N]."""

Measure = Callable[[np.ndarray], Metrics]
"""Codes [N, G] -> metrics."""

DRAWS = 50
"""Draws per requested architecture before infeasible ones are repaired."""


@dataclass(frozen=True)
class Metric:
    """A metric that a search can optimise or limit.

    Args:
        name: As in search.json.
        label: Label with the unit.
        maximize: Whether larger values are better.
        exact: Whether it is computed rather than predicted.
    """

    name: str
    label: str
    maximize: bool = False
    exact: bool = True


METRICS = {
    metric.name: metric
    for metric in (
        Metric("top1", "top-1 accuracy in %", maximize=True, exact=False),
        Metric("macs", "MACs"),
        Metric("params", "parameters"),
        Metric("latency_ms", "latency in ms"),
        Metric("memory_mib", "peak activation memory in MiB"),
        Metric("expected_top1", "top-1 accuracy with early exit in %", maximize=True, exact=False),
        Metric("expected_macs", "expected MACs with early exit", exact=False),
    )
}

ALIASES = {"latency": "latency_ms", "memory": "memory_mib"}


def metric(name: str) -> Metric:
    """A metric by its name or alias. Raises UserError that lists them."""
    name = ALIASES.get(name, name)
    if name not in METRICS:
        raise UserError(f"an objective must be one of {', '.join(METRICS)}, but got {name!r}")
    return METRICS[name]


class Problem:
    """A multi-objective search problem with hard limits.

    Args:
        encoding: The encoding of the architectures.
        objectives: Names of metrics.
        limits: Metric -> largest value allowed (for a metric that is maximised: smallest).
        exact: Computes the metrics that need no prediction.
        predicted: Predicts the others.

    Raises:
        UserError: No architecture satisfies the limits; names the closest feasible value and its architecture.
    """

    def __init__(
        self,
        encoding: Encoding,
        objectives: Sequence[str],
        limits: Mapping[str, float],
        exact: Measure,
        predicted: Measure,
    ):
        self.encoding, self.limits = encoding, dict(limits)
        self.objectives = tuple(METRICS[name] for name in objectives)
        self._exact, self._predicted = exact, predicted
        self._exact_limits = {name: bound for name, bound in limits.items() if METRICS[name].exact}
        self.anchor = self._closest()
        """The feasible architecture [G] towards which infeasible ones are repaired."""

    def evaluate(self, codes: np.ndarray) -> Metrics:
        """All metrics of codes [N, G]."""
        return {**self._exact(codes), **self._predicted(codes)}

    def minimised(self, metrics: Metrics) -> np.ndarray:
        """The objectives [N, M]; maximised ones are negated."""
        return np.stack([-metrics[o.name] if o.maximize else metrics[o.name] for o in self.objectives], axis=1)

    def violation(self, metrics: Metrics, limits: Mapping[str, float] | None = None) -> np.ndarray:
        """The excess over the limits [N], relative to each limit; 0 for a feasible architecture."""
        limits = self.limits if limits is None else limits
        total = np.zeros(len(next(iter(metrics.values()))))
        for name, bound in limits.items():
            excess = (bound - metrics[name]) if METRICS[name].maximize else (metrics[name] - bound)
            total += np.maximum(excess, 0) / max(abs(bound), 1e-12)
        return total

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Codes [n, G] that satisfy the exact limits, uniform over the choices of each gene if possible."""
        found: list[np.ndarray] = []
        for _ in range(DRAWS if self._exact_limits else 1):
            codes = self.encoding.sample(n, rng)
            found.append(codes[self._feasible(codes)])
            if sum(map(len, found)) >= n:
                break
        codes = np.concatenate(found)[:n]
        missing = n - len(codes)
        return np.concatenate([codes, self.repair(self.encoding.sample(missing, rng), rng)]) if missing else codes

    def repair(self, codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Canonical codes that satisfy the exact limits: genes take the anchor's values, in random order, if needed."""
        codes = self.encoding.canonical(codes)
        infeasible = np.flatnonzero(~self._feasible(codes))
        order = rng.permuted(np.tile(np.arange(codes.shape[1]), (len(infeasible), 1)), axis=1)
        for replaced in _growing(codes.shape[1]):
            if len(infeasible) == 0:
                break
            trial = np.where(order < replaced, self.anchor, codes[infeasible])
            trial = self.encoding.canonical(trial)
            feasible = self._feasible(trial)
            codes[infeasible[feasible]] = trial[feasible]
            infeasible, order = infeasible[~feasible], order[~feasible]
        return codes

    def _feasible(self, codes: np.ndarray) -> np.ndarray:
        if not self._exact_limits or len(codes) == 0:
            return np.ones(len(codes), dtype=bool)
        feasible: np.ndarray = self.violation(self._exact(codes), self._exact_limits) == 0
        return feasible

    def _closest(self) -> np.ndarray:
        """The architecture closest to the exact limits; among feasible ones, the one with the fewest MACs."""
        for name, bound in self._exact_limits.items():
            best = self.smallest(name)
            value = self._exact(best[None])[name][0]
            if value > bound:
                raise UserError(
                    f"no architecture has {METRICS[name].label} of at most {bound:g}: the smallest possible is "
                    f"{_figure(value)}, by {self.describe(best)}; raise the limit"
                )
        best = self._descend(lambda metrics: self.violation(metrics, self._exact_limits))
        metrics = self._exact(best[None])
        if self.violation(metrics, self._exact_limits)[0] > 0:
            raise self.infeasible(best, metrics, self._exact_limits)
        return best

    def smallest(self, name: str) -> np.ndarray:
        """The architecture [G] with the smallest value of an exact metric."""
        return self._descend(operator.itemgetter(name))

    def infeasible(self, closest: np.ndarray, metrics: Metrics, limits: Mapping[str, float] | None = None) -> UserError:
        """The error for limits that no architecture satisfies; names the closest one [G] with its metrics [1]."""
        limits = self.limits if limits is None else limits
        bounds = ", ".join(f"{METRICS[n].label} {side(n)} {bound:g}" for n, bound in limits.items())
        values = ", ".join(f"{METRICS[n].label} {_figure(metrics[n][0])}" for n in limits)
        return UserError(
            f"no architecture was found that satisfies all limits ({bounds}): the closest has {values}, by "
            f"{self.describe(closest)}; relax a limit"
        )

    def describe(self, code: np.ndarray) -> str:
        """An architecture as one line of JSON."""
        return json.dumps(self.encoding.decode(code[None])[0], separators=(",", ":"))

    def _descend(self, value: Callable[[Metrics], np.ndarray]) -> np.ndarray:
        """A code [G] with the smallest value, ties broken by MACs, by coordinate descent."""
        encoding = self.encoding
        candidates = encoding.canonical(encoding.encode(list(encoding.space.grid())))

        def score(codes: np.ndarray) -> np.ndarray:
            metrics = self._exact(codes)
            return np.lexsort((metrics["macs"], value(metrics)))

        best: np.ndarray | None = None
        for start in candidates[score(candidates)[:8]]:
            current = start
            while True:
                around = np.concatenate([current[None], neighbours(current, encoding)])
                top = around[score(around)[0]]
                if (top == current).all():
                    break
                current = top
            best = current if best is None else np.stack([best, current])[score(np.stack([best, current]))[0]]
        assert best is not None
        return best


def neighbours(code: np.ndarray, encoding: Encoding) -> np.ndarray:
    """Every canonical code that differs in one active gene."""
    active = encoding.active(code[None])[0]
    rows = []
    for column in np.flatnonzero(active & (encoding.upper > 0)):
        for value in range(encoding.upper[column] + 1):
            if value != code[column]:
                rows.append(np.where(np.arange(len(code)) == column, value, code))
    return encoding.canonical(np.array(rows, dtype=np.int64).reshape(len(rows), len(code)))


def _growing(n: int) -> list[int]:
    """Numbers of replaced genes to try: 1, 2, 4, ... and finally all of them."""
    return [*(2**i for i in range(n.bit_length()) if 2**i < n), *sorted({n - n // 8, n})]


def side(name: str) -> str:
    """The side of a metric's limit on which feasible values lie."""
    return "at least" if METRICS[name].maximize else "at most"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:g}"

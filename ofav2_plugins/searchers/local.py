"""Searcher `local`: evaluates the neighbours of the best architectures so far."""

from __future__ import annotations

import numpy as np

from .base import Searcher, check_count
from .pareto import nondominated
from .problem import Metrics, neighbours


class Local(Searcher):
    """Local search: random neighbours of the current Pareto front, which differ in one entry.

    Args:
        start_size: Number of random architectures at the start.
        batch: Number of architectures per `ask`.
    """

    def __init__(self, start_size: int = 250, batch: int = 100):
        check_count("start_size", start_size)
        check_count("batch", batch)
        self.start_size, self.batch = start_size, batch
        self._seen: set[bytes] = set()
        self._front: np.ndarray = np.empty(0)
        self._values: np.ndarray = np.empty(0)

    def ask(self) -> np.ndarray:
        if not self._seen:
            return self.problem.sample(self.start_size, self.rng)
        found: list[np.ndarray] = []
        for row in self.rng.permutation(len(self._front)):
            around = neighbours(self._front[row], self.problem.encoding)
            picked = self.rng.permutation(len(around))[: 4 * max(1, self.batch // len(self._front))]
            for code in self.problem.repair(around[picked], self.rng):
                if code.tobytes() not in self._seen:
                    self._seen.add(code.tobytes())
                    found.append(code)
            if len(found) >= self.batch:
                break
        return np.stack(found[: self.batch]) if found else self.problem.sample(self.batch, self.rng)

    def tell(self, codes: np.ndarray, metrics: Metrics) -> None:
        feasible = self.problem.violation(metrics) == 0
        values, good = self.problem.minimised(metrics)[feasible], codes[feasible]
        if self._front.ndim == 2:
            values, good = np.concatenate([self._values, values]), np.concatenate([self._front, good])
        keep = nondominated(values)
        self._front, self._values = good[keep], values[keep]
        self._seen.update(code.tobytes() for code in codes)

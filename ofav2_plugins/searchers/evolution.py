"""Searcher `evolution`: OFA's evolutionary search (arXiv 1908.09791 section 3.4; upstream's `EvolutionFinder`).

OFA maximises accuracy under one hard limit and repeats the search for the next one. To find a front, the generations
here alternate between a few limits, spread over the second objective.
"""

from __future__ import annotations

import numpy as np

from .base import Searcher, check_count, check_share, mutate
from .problem import Metrics


class Evolution(Searcher):
    """Mutation and crossover of the best architectures; the generations alternate between limits.

    Args:
        population: Architectures of one generation.
        parent_ratio: Number of parents of the next generation, as a share of the population.
        mutation_ratio: Share of the children created by mutation; crossover creates the others.
        mutate_prob: Probability that a mutation redraws a gene.
        budgets: Number of limits on the second objective between which the generations alternate.
    """

    def __init__(
        self,
        population: int = 100,
        parent_ratio: float = 0.25,
        mutation_ratio: float = 0.5,
        mutate_prob: float = 0.1,
        budgets: int = 8,
    ):
        check_count("population", population, 4)
        check_count("budgets", budgets)
        for name, value in (("parent_ratio", parent_ratio), ("mutation_ratio", mutation_ratio)):
            check_share(name, value)
        check_share("mutate_prob", mutate_prob)
        self.population, self.parent_ratio, self.mutation_ratio = population, parent_ratio, mutation_ratio
        self.mutate_prob, self.budgets = mutate_prob, budgets
        self._codes: np.ndarray = np.empty((0, 0))
        self._values: np.ndarray = np.empty((0, 0))
        self._violation: np.ndarray = np.empty(0)
        self._generation = 0

    def ask(self) -> np.ndarray:
        if self._generation == 0:
            return self.problem.sample(self.population, self.rng)
        parents = self._parents()
        n_mutated = round(self.mutation_ratio * self.population)
        mutated = mutate(self._drawn(parents, n_mutated), self.problem.encoding.upper, self.mutate_prob, self.rng)
        first, second = (self._drawn(parents, self.population - n_mutated) for _ in range(2))
        crossed = np.where(self.rng.random(first.shape) < 0.5, first, second)
        return self.problem.repair(np.concatenate([mutated, crossed]), self.rng)

    def tell(self, codes: np.ndarray, metrics: Metrics) -> None:
        values, violation = self.problem.minimised(metrics), self.problem.violation(metrics)
        if self._generation:
            codes = np.concatenate([self._codes, codes])
            values = np.concatenate([self._values, values])
            violation = np.concatenate([self._violation, violation])
        _, first = np.unique(codes, axis=0, return_index=True)
        self._codes, self._values, self._violation = codes[first], values[first], violation[first]
        self._generation += 1

    def _parents(self) -> np.ndarray:
        """The best architectures so far by the first objective, under this generation's limit on another objective."""
        n = max(2, round(self.parent_ratio * self.population))
        score = self._values[:, 0]
        if self._values.shape[1] > 1:
            turn, axis = divmod(self._generation, self._values.shape[1] - 1)
            other = self._values[:, axis + 1]
            feasible = other[self._violation == 0] if (self._violation == 0).any() else other
            limit = np.linspace(feasible.min(), feasible.max(), self.budgets + 1)[1 + turn % self.budgets]
            excess = np.maximum(other - limit, 0)
        else:
            excess = np.zeros(len(score))
        return self._codes[np.lexsort((score, excess, self._violation))[:n]]

    def _drawn(self, parents: np.ndarray, n: int) -> np.ndarray:
        return parents[self.rng.integers(0, len(parents), size=n)]

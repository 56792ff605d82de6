"""Searcher `nsga2`: the non-dominated sorting genetic algorithm (Deb et al. 2002), by pymoo."""

from __future__ import annotations

from typing import Any

from .genetic import Genetic


class NSGA2(Genetic):
    """NSGA-II: non-dominated sorting, with ties broken by crowding distance."""

    def algorithm(self, n_objectives: int, **operators: Any) -> Any:
        return self.library("pymoo.algorithms.moo.nsga2").NSGA2(pop_size=self.population, **operators)

"""Searcher `nsga3`: NSGA-III (Deb and Jain 2014), by pymoo; NATv2's searcher (arXiv 2307.00960)."""

from __future__ import annotations

from math import comb
from typing import Any

from ..errors import UserError
from .genetic import Genetic


class NSGA3(Genetic):
    """NSGA-III: non-dominated sorting, with ties broken by evenly spread reference directions."""

    def algorithm(self, n_objectives: int, **operators: Any) -> Any:
        if n_objectives < 2:
            raise UserError(
                "searcher nsga3 needs at least two objectives; choose another searcher for a single objective"
            )
        partitions = 1  # as fine as the population allows: comb(p + m - 1, p) directions
        while comb(partitions + n_objectives, partitions + 1) <= self.population:
            partitions += 1
        directions = self.library("pymoo.util.ref_dirs").get_reference_directions(
            "das-dennis", n_objectives, n_partitions=partitions
        )
        return self.library("pymoo.algorithms.moo.nsga3").NSGA3(
            ref_dirs=directions, pop_size=self.population, **operators
        )

"""Searcher `random`: the baseline that every other searcher should beat."""

from __future__ import annotations

import numpy as np

from .base import Searcher, check_count


class Random(Searcher):
    """Feasible architectures, uniform over the choices of each entry.

    Args:
        batch: Number of architectures per `ask`.
    """

    def __init__(self, batch: int = 250):
        check_count("batch", batch)
        self.batch = batch

    def ask(self) -> np.ndarray:
        return self.problem.sample(self.batch, self.rng)

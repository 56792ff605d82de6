"""Contract of `ofav2.searchers`: proposes architectures and receives their metrics. No torch here."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from ..plugin import Plugin
from .problem import Metrics, Problem


class Searcher(Plugin, ABC):
    """A search algorithm over encoded architectures; see `Problem` for objectives, limits, sampling and repair.

    Architectures are canonical codes [n, G] of `problem.encoding`, which decodes them to dictionaries.
    """

    problem: Problem
    rng: np.random.Generator

    def start(self, problem: Problem, seed: int) -> None:
        """Begin a search; called once, before the first `ask`."""
        self.problem, self.seed, self.rng = problem, seed, np.random.default_rng(seed)

    @abstractmethod
    def ask(self) -> np.ndarray:
        """The architectures to evaluate next, as codes [n, G]; an empty array ends the search."""

    def tell(self, codes: np.ndarray, metrics: Metrics) -> None:
        """Receive the metrics of the architectures of the last `ask`.

        Args:
            codes: The architectures [n, G], all of them, or only the first ones if the budget is exhausted.
            metrics: Metric -> values [n]; `problem.minimised` and `problem.violation` turn them into objectives
                and violations.
        """


def check_share(name: str, value: float) -> None:
    """Raises ValueError unless a setting is in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1], but got {value}")


def check_count(name: str, value: int, least: int = 1) -> None:
    """Raises ValueError unless a setting is at least `least`."""
    if value < least:
        raise ValueError(f"{name} must be at least {least}, but got {value}")


def mutate(codes: np.ndarray, upper: np.ndarray, probability: float, rng: np.random.Generator) -> np.ndarray:
    """Redraw each gene of the codes with some probability."""
    fresh = rng.integers(0, upper + 1, size=codes.shape)
    return np.where(rng.random(codes.shape) < probability, fresh, codes)

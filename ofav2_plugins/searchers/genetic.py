"""Base class of `nsga2` and `nsga3`: pymoo's algorithms with this package's encoding, sampling and repair."""

from __future__ import annotations

import importlib
from abc import abstractmethod
from typing import Any

import numpy as np

from ..plugin import PluginError
from .base import Searcher, check_count, check_share, mutate
from .problem import Metrics, Problem


class Genetic(Searcher):
    """A genetic algorithm of pymoo, run one generation at a time.

    Args:
        population: Architectures of one generation.
        crossover: Probability that a pair of parents exchanges genes.
        mutation: Expected number of genes that a mutation redraws.
    """

    def __init__(self, population: int = 100, crossover: float = 0.9, mutation: float = 2.0):
        check_count("population", population, 4)
        check_share("crossover", crossover)
        if mutation < 0:
            raise ValueError(f"mutation must be at least 0, but got {mutation}")
        self.population, self.crossover, self.mutation = population, crossover, mutation

    @abstractmethod
    def algorithm(self, n_objectives: int, **operators: Any) -> Any:
        """The pymoo algorithm, before its setup."""

    def start(self, problem: Problem, seed: int) -> None:
        super().start(problem, seed)
        pymoo = self.library("pymoo.core.problem")
        encoding = problem.encoding
        self._problem = pymoo.Problem(
            n_var=len(encoding.genes),
            n_obj=len(problem.objectives),
            n_ieq_constr=1,
            xl=np.zeros(len(encoding.genes), dtype=int),
            xu=encoding.upper,
            vtype=int,
        )
        self._algorithm = self.algorithm(
            len(problem.objectives),
            sampling=problem.sample(self.population, self.rng),
            crossover=self.library("pymoo.operators.crossover.ux").UX(prob=self.crossover),
            mutation=self._mutation(),
            repair=self._repair(),
            eliminate_duplicates=True,
        )
        termination = self.library("pymoo.core.termination").NoTermination()
        self._algorithm.setup(self._problem, termination=termination, seed=seed, verbose=False)

    def ask(self) -> np.ndarray:
        self._proposed = self._algorithm.ask()
        if self._proposed is None or len(self._proposed) == 0:  # all architectures of a small space are evaluated
            return np.empty((0, len(self.problem.encoding.genes)), dtype=np.int64)
        codes: np.ndarray = self._proposed.get("X").astype(np.int64)
        return codes

    def tell(self, codes: np.ndarray, metrics: Metrics) -> None:
        proposed = self._proposed[: len(codes)]
        static = self.library("pymoo.problems.static").StaticProblem(
            self._problem, F=self.problem.minimised(metrics), G=self.problem.violation(metrics)[:, None]
        )
        self.library("pymoo.core.evaluator").Evaluator().eval(static, proposed)
        self._algorithm.tell(infills=proposed)

    def library(self, module: str) -> Any:
        """A module of pymoo. Raises PluginError, with the remedy, if it is not installed."""
        try:
            return importlib.import_module(module)
        except ImportError as error:
            raise PluginError(
                f"plugin {self.name!r} of ofav2.searchers needs pymoo, which cannot be imported ({error}); install it "
                "with: pip install 'ofav2-plugins[search]', or choose the searcher evolution, random or local"
            ) from error

    def _mutation(self) -> Any:
        upper = self.problem.encoding.upper
        probability = min(1.0, self.mutation / max(1, int((upper > 0).sum())))

        class Redraw(self.library("pymoo.core.mutation").Mutation):  # type: ignore[misc]
            """Redraws each gene with some probability."""

            def _do(self, problem: Any, x: np.ndarray, random_state: Any = None, **kwargs: Any) -> np.ndarray:
                return mutate(x.astype(np.int64), upper, probability, random_state)

        return Redraw()

    def _repair(self) -> Any:
        searched, rng = self.problem, self.rng

        class Feasible(self.library("pymoo.core.repair").Repair):  # type: ignore[misc]
            """Makes codes canonical and feasible."""

            def _do(self, problem: Any, x: np.ndarray, **kwargs: Any) -> np.ndarray:
                return searched.repair(x.astype(np.int64), rng)

        return Feasible()

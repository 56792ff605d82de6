"""Contract tests of the parts of a search: predictors and searchers."""

from __future__ import annotations

import copy

import numpy as np
from scipy.stats import kendalltau

from ..evaluation.encoding import ABSENT, Encoding
from ..predictors.base import Predictor
from ..searchers.base import Searcher
from ..searchers.problem import Metrics, Problem
from ..space import ElasticDim, Requirement, SearchSpace


def check_predictor(plugin: Predictor) -> None:
    """Check that it ranks unseen architectures of a simple function, is deterministic, and discards earlier fits."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 3, size=(200, 8)).astype(float)
    codes[rng.random(codes.shape) < 0.1] = ABSENT
    scores = 50 + codes[:, 0] + 2 * codes[:, 1] + 0.1 * rng.standard_normal(200)
    first = _fitted(plugin, codes[:120], scores[:120])
    predicted = first.predict(codes[120:])
    assert predicted.shape == (80,), f"{plugin.name}: predict must give [80] scores, but got {list(predicted.shape)}"
    assert np.isfinite(predicted).all(), f"{plugin.name}: predictions must be finite"
    tau = kendalltau(predicted, scores[120:]).statistic
    assert tau > 0.5, f"{plugin.name} must rank unseen architectures of a simple function, but Kendall tau is {tau:.2f}"
    assert np.array_equal(_fitted(plugin, codes[:120], scores[:120]).predict(codes[120:]), predicted), (
        f"{plugin.name}: equal data must give equal predictions"
    )
    first.fit(codes[:120], -scores[:120])
    assert np.allclose(first.predict(codes[120:]), _fitted(plugin, codes[:120], -scores[:120]).predict(codes[120:])), (
        f"{plugin.name}: fit must forget what was learned before"
    )
    _fitted(plugin, codes[:8], scores[:8]).predict(codes)


def _fitted(plugin: Predictor, codes: np.ndarray, scores: np.ndarray) -> Predictor:
    fresh = copy.deepcopy(plugin)
    fresh.fit(codes, scores)
    return fresh


def check_searcher(plugin: Searcher) -> None:
    """Check that it proposes feasible, canonical architectures of the space, reproducibly for a seed."""
    problem = example_problem()
    found = [_search(copy.deepcopy(plugin), problem, seed) for seed in (0, 0, 1)]
    assert np.array_equal(found[0], found[1]), f"{plugin.name}: equal seeds must propose equal architectures"
    assert not np.array_equal(found[0], found[2]), f"{plugin.name}: another seed must propose other architectures"


def _search(plugin: Searcher, problem: Problem, seed: int) -> np.ndarray:
    plugin.start(problem, seed)
    proposed = []
    for _ in range(4):
        codes = plugin.ask()
        where = f"{plugin.name}: ask must give"
        assert codes.ndim == 2 and codes.shape[1] == len(problem.encoding.genes), f"{where} codes [n, genes]"
        assert np.issubdtype(codes.dtype, np.integer), f"{where} integers, but got {codes.dtype}"
        assert ((codes >= 0) & (codes <= problem.encoding.upper)).all(), f"{where} codes within the bounds"
        assert np.array_equal(problem.encoding.canonical(codes), codes), f"{where} canonical codes"
        metrics = problem.evaluate(codes)
        assert (problem.violation(metrics) == 0).all(), f"{where} architectures that keep the exact limits"
        plugin.tell(codes, metrics)
        proposed.append(codes)
    return np.concatenate(proposed)


def example_problem(limit: float = 60) -> Problem:
    """Accuracy against MACs on a small space with a limit on the MACs, for tests of searchers."""
    depth = tuple((Requirement("d", 0, i + 1),) for i in range(8))
    space = SearchSpace((ElasticDim("w", (1, 2, 3, 4, 5), 8, requires=depth), ElasticDim("d", (2, 4, 8))))
    encoding = Encoding(space)

    def exact(codes: np.ndarray) -> Metrics:
        widths = np.where(encoding.active(codes)[:, :8], codes[:, :8] + 1, 0)
        return {"macs": (widths**2).sum(axis=1)}

    def predicted(codes: np.ndarray) -> Metrics:
        widths = np.where(encoding.active(codes)[:, :8], codes[:, :8] + 1, 0)
        return {"top1": 40 + (np.sqrt(widths) * np.arange(1, 9)).sum(axis=1) / 3}

    return Problem(encoding, ("top1", "macs"), {"macs": limit}, exact, predicted)

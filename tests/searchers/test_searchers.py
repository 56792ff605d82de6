"""Limits, repair and every registered searcher on a problem whose answer can be computed."""

from __future__ import annotations

import numpy as np
import pytest

from ofav2_plugins import registry
from ofav2_plugins.errors import UserError
from ofav2_plugins.search.searching import best_within, search, spread
from ofav2_plugins.searchers.pareto import hypervolume
from ofav2_plugins.testing.search import example_problem


@pytest.mark.parametrize("limit", [2, 5, 60])
def test_samples_and_repaired_architectures_keep_the_limits(limit):
    problem, rng = example_problem(limit), np.random.default_rng(0)
    for codes in (problem.sample(100, rng), problem.repair(problem.encoding.sample(100, rng), rng)):
        assert len(codes) == 100
        assert (problem.evaluate(codes)["macs"] <= limit).all()
        assert np.array_equal(problem.encoding.canonical(codes), codes)


def test_an_impossible_limit_names_the_closest_value_and_its_architecture():
    with pytest.raises(UserError, match=r'at most 1: the smallest possible is 2, by \{"w":\[1,1.*"d":2\}; raise'):
        example_problem(1)


@pytest.mark.parametrize("name", [n for n in registry.names(registry.SEARCHERS) if n != "random"])
def test_every_searcher_beats_random_with_equal_evaluations(name):
    problem, volumes = example_problem(150), {}
    for plugin in (name, "random"):
        found = search(registry.load(registry.SEARCHERS, plugin), problem, 1500, seed=3)
        assert found.evaluations == 1500
        assert len(np.unique(found.codes, axis=0)) == len(found.codes)
        volumes[plugin] = hypervolume(problem.minimised(found.metrics), np.array([-40.0, 150.0]))
    assert volumes[name] > volumes["random"]


def test_a_missing_library_is_named_with_its_remedy(monkeypatch):
    for namespace, plugin, module, words in (
        (registry.SEARCHERS, "nsga2", "pymoo", r"needs pymoo.*pip install 'ofav2-plugins\[search\]'"),
        (registry.PREDICTORS, "gbm", "lightgbm", r"needs lightgbm.*pip install 'ofav2-plugins\[search\]'.*mlp"),
    ):
        loaded = registry.load(namespace, plugin)
        for name in (module, f"{module}.core", f"{module}.core.problem"):
            monkeypatch.setitem(__import__("sys").modules, name, None)
        with pytest.raises(registry.PluginError, match=words):
            if plugin == "gbm":
                loaded.fit(np.zeros((8, 2)), np.zeros(8))
            else:
                loaded.start(example_problem(), 0)


def test_the_measured_part_of_a_front_has_its_ends_and_is_spread():
    values = np.stack([np.arange(100.0), np.arange(100.0)[::-1] ** 2], axis=1)
    places = spread(values, 5)
    assert places[0] == 0 and places[-1] == 99 and len(set(places.tolist())) == 5
    assert spread(values[:3], 5).tolist() == [0, 1, 2]


def test_the_best_within_each_budget_is_measured():
    accuracy, cost = np.array([50.0, 60, 70, 80]), np.array([1.0, 2, 3, 4])
    assert best_within(accuracy, cost, [0.5, 2.5, 2.9, 9]) == [1, 3]  # none within 0.5
    assert spread(np.stack([-accuracy, cost], axis=1), 3, [2]).tolist() == [0, 2, 3]

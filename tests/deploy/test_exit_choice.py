"""Exit pruning and operating points against brute force on small examples."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofav2_plugins import registry
from ofav2_plugins.deploy.calibration import probabilities
from ofav2_plugins.deploy.decision import DecisionOptions, simulate
from ofav2_plugins.deploy.early_exit import ExitPolicy
from ofav2_plugins.deploy.exit_choice import ExitCosts, choose_point, ensembles, operating_points
from ofav2_plugins.errors import UserError

COSTS = ExitCosts(trunk=(10, 30, 60), heads=(1, 2, 4))
RULES = registry.names(registry.EXIT_RULES)


def sample(seed: int, n: int = 60) -> tuple[list[np.ndarray], np.ndarray]:
    """Logits of three exits, later ones better, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 5, n)
    return [rng.standard_normal((n, 5)) + 1.2 * (i + 1) * np.eye(5)[labels] for i in range(3)], labels


def test_costs_count_the_heads_on_the_way():
    assert COSTS.ending_at([0, 1, 2]) == [10 + 1, 30 + 1 + 2, 60 + 1 + 2 + 4]
    assert COSTS.ending_at([1, 2]) == [30 + 2, 60 + 2 + 4]


@given(seed=st.integers(0, 2**31))
def test_the_best_ensemble_is_the_best_of_all_sets(seed):
    logits, labels = sample(seed)
    weights = (0.2, 0.3, 0.5)
    found = ensembles(logits, labels, weights, COSTS)
    assert {e.exits for e in found} == {(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)}
    for ensemble in found:
        total = sum(weights[e] * logits[e] for e in ensemble.exits)  # scaling does not change the argmax
        assert ensemble.val_top1 == pytest.approx(100 * (total.argmax(1) == labels).mean())
        assert sum(ensemble.weights) == pytest.approx(1)
        assert ensemble.macs == 60 * (2 in ensemble.exits) + sum(COSTS.heads[e] for e in ensemble.exits) + (
            0 if 2 in ensemble.exits else 30 if 1 in ensemble.exits else 10
        )
    best = max(e.val_top1 for e in found)
    assert found[0].val_top1 == best
    assert found[0].macs == min(e.macs for e in found if e.val_top1 == best)


def test_exits_without_weight_are_no_ensemble():
    logits, labels = sample(0)
    assert {e.exits for e in ensembles(logits, labels, (0, 0.5, 0.5), COSTS)} == {
        (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2),
    }  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
def test_operating_points_are_what_a_chain_does(rule):
    logits, labels = sample(3)
    plugin = registry.load(registry.EXIT_RULES, rule)
    temperatures = (0.7, 1.0, 1.3)
    front = operating_points(logits, labels, temperatures, COSTS, plugin)
    assert front
    for point in front:
        policy = ExitPolicy(
            plugin, tuple(temperatures[e] for e in point.exits), (point.threshold,) * (len(point.exits) - 1)
        )
        answers = simulate([logits[e] for e in point.exits], policy)
        right = answers.logits.argmax(1) == labels
        macs = np.array(COSTS.ending_at(point.exits))[answers.exits]
        assert point.val_top1 == pytest.approx(100 * right.mean())
        assert point.macs == pytest.approx(macs.mean())
        for i, exit in enumerate(point.exits[:-1]):  # rounding must not change where an image leaves
            known = [probabilities(logits[e], temperatures[e]) for e in point.exits[: i + 1]]
            assert np.abs(plugin.confidence(known) - point.threshold).min() > 1e-9, exit
        assert point.shares == pytest.approx(np.bincount(answers.exits, minlength=len(point.exits)) / len(labels))


def test_no_set_of_exits_and_threshold_beats_the_front():
    logits, labels = sample(4, n=25)
    rule = registry.load(registry.EXIT_RULES, "max_prob")
    front = operating_points(logits, labels, (1.0,) * 3, COSTS, rule)
    assert [p.macs for p in front] == sorted(p.macs for p in front)
    assert [p.val_top1 for p in front] == sorted({p.val_top1 for p in front})
    known = [probabilities(scores) for scores in logits]
    thresholds = sorted({float(c) for p in known[:2] for c in p.max(axis=1)})
    for exits, threshold in itertools.product([(2,), (0, 2), (1, 2), (0, 1, 2)], thresholds):
        policy = ExitPolicy(rule, (1.0,) * len(exits), (threshold,) * (len(exits) - 1))
        answers = simulate([logits[e] for e in exits], policy)
        top1 = 100 * (answers.logits.argmax(1) == labels).mean()
        macs = np.array(COSTS.ending_at(exits))[answers.exits].mean()
        assert any(p.val_top1 >= top1 - 1e-9 and p.macs <= macs + 1e-9 for p in front)


def test_targets():
    logits, labels = sample(5)
    front = operating_points(logits, labels, (1.0,) * 3, COSTS, registry.load(registry.EXIT_RULES, "margin"))
    accurate = choose_point(front, target_top1=front[2].val_top1)
    assert accurate == front[2]
    cheap = choose_point(front, target_macs=front[2].macs)
    assert cheap == front[2]
    assert choose_point(front, target_top1=front[1].val_top1, target_macs=front[2].macs) == front[1]
    with pytest.raises(UserError, match=r"--target-top1 must be at most .* but got 101"):
        choose_point(front, target_top1=101)
    with pytest.raises(UserError, match=r"--target-macs must be at least .* but got 5"):
        choose_point(front, target_macs=5)
    with pytest.raises(UserError, match=r"within .* MACs, but got"):
        choose_point(front, target_top1=front[-1].val_top1, target_macs=front[0].macs)


@pytest.mark.parametrize(
    "wrong",
    [
        {"target_top1": -1.0},
        {"target_top1": 100.5},
        {"target_top1": math.nan},
        {"target_macs": 0.0},
        {"target_macs": -5.0},
    ],
)
def test_a_target_out_of_range_is_refused_before_any_measuring(wrong):
    with pytest.raises(UserError, match=rf"--{next(iter(wrong)).replace('_', '-')} must be .*, but got "):
        DecisionOptions("early", **wrong)

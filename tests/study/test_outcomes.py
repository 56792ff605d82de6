"""What finished runs achieve, on networks whose best values are known."""

from __future__ import annotations

import pytest
from support.result_rows import results, row, subnet, with_subnets

from ofav2_plugins.study.outcomes import BEST_EXIT, ENSEMBLE, LAST_EXIT, amount, macs_budgets, outcomes
from ofav2_plugins.study.summary import Summary

M = 1_000_000
SINGLE = [
    subnet(30.0, macs=2 * M),
    subnet(36.0, macs=4 * M, validation=35.0),
    subnet(34.0, macs=4 * M - 1, validation=36.0),  # best on validation within 4 M, not on the test images
    subnet(40.0, macs=10 * M, resolution=40),
]
EXITS = [
    {"height": 1, "val_top1": 30.0, "top1": 31.0},
    {"height": 2, "val_top1": 41.0, "top1": 39.0},
    {"height": 3, "val_top1": 40.0, "top1": 40.5},
]


def test_budgets_are_quartiles_of_the_baselines_macs_rounded_up():
    macs = {0: (2_002_232, 3_561_008), 1: (9_812_048, 5_471_216)}
    runs = [with_subnets("base", s, "width-1", [subnet(1.0, macs=value) for value in macs[s]]) for s in macs]
    assert macs_budgets(runs) == [2_100_000, 3_600_000, 5_500_000, 9_900_000]
    assert macs_budgets([{**runs[0], "steps": ["width-1", "width-2"]}]) == []  # it has not finished
    assert macs_budgets([with_subnets("base", 0, "full", [subnet(1.0, macs=7)])]) == [7]


def test_a_single_exit_network_by_hand():
    found = outcomes(with_subnets("base", 0, "width-1", SINGLE, best_top1=40.0), [3 * M, 4 * M, 20 * M])
    assert found[LAST_EXIT.key] == found[BEST_EXIT.key] == found[ENSEMBLE.key] == 40.0
    assert found[f"macs_{3 * M}"] == 30.0
    assert found[f"macs_{4 * M}"] == 34.0
    assert found[f"macs_{20 * M}"] == 40.0
    # the front of validation: 30 % from 2 M on, 34 % from just below 4 M on, 40 % from 10 M on, up to 20 M
    expected = (18 * 30.0 + 16 * 4.0 + 10 * 6.0) / 20
    assert found["hypervolume"] == pytest.approx(expected, rel=1e-6)


def test_the_best_exit_is_chosen_on_validation():
    early = with_subnets("ee", 0, "width-1", [subnet(38.0, height=3)], exits=EXITS, ensemble_top1=41.0)
    found = outcomes(early, [])
    assert (found[LAST_EXIT.key], found[BEST_EXIT.key], found[ENSEMBLE.key]) == (40.5, 39.0, 41.0)
    unknown = with_subnets("ee", 0, "width-1", [subnet(38.0, height=3, macs=5), subnet(20.0, height=1, macs=2)])
    assert BEST_EXIT.key not in outcomes(unknown, [])
    assert outcomes(unknown, [])[LAST_EXIT.key] == 38.0


def test_only_finished_runs_have_outcomes():
    running = with_subnets("base", 0, "width-1", SINGLE)
    assert outcomes({**running, "steps": ["width-1", "width-2"]}, [4 * M]) == {}


def test_outcomes_are_compared_by_seed_with_the_single_exit_of_the_baseline():
    def early(seed, last):
        return with_subnets("ee", seed, "width-1", SINGLE, exits=EXITS, ensemble_top1=last, best_top1=last)

    summary = Summary(results(*(with_subnets("base", s, "width-1", SINGLE) for s in range(3)),
                              *(early(s, 42.0 + s) for s in range(4))))  # fmt: skip
    assert [measure.name for measure in summary.measures] == [
        "Best subnet", "Last exit", "Best exit", "All exits", "≤ 2 M MACs", "≤ 4 M MACs", "≤ 10 M MACs", "Hypervolume"
    ]  # fmt: skip
    difference = summary.outcome_difference("ee", ENSEMBLE)
    assert difference.by_seed == {0: 2.0, 1: 3.0, 2: 4.0}  # minus the baseline's 40.0; it has no seed 3
    assert difference.direction == 1
    assert summary.outcome("ee", ENSEMBLE).n == 4
    assert summary.outcome_difference("ee", BEST_EXIT).by_seed == {0: -1.0, 1: -1.0, 2: -1.0}


def test_without_exits_and_macs_only_the_best_subnet_remains():
    summary = Summary(results(row("base", 0, full=70.0), row("a", 0, full=71.0)))
    assert [measure.name for measure in summary.measures] == ["Best subnet", "Last exit"]
    assert summary.outcome_difference("a", summary.measures[0]).by_seed == {0: 1.0}
    assert summary.outcome("a", LAST_EXIT) is None


def test_amounts_have_three_digits_and_a_unit():
    assert [amount(value) for value in (5_471_216, 999, 1_230_000_000, 4.67e12)] == [
        "5.47 M", "999", "1.23 G", "4.67 T"
    ]  # fmt: skip

"""The summary of results: how far arms have come, exits, ranks, costs."""

from __future__ import annotations

import copy
import math

import pandas as pd
import pytest
from support.result_rows import results, row, subnet, with_subnets

from ofav2_plugins.errors import UserError
from ofav2_plugins.report.tables import all_tables
from ofav2_plugins.study.stats import Spread
from ofav2_plugins.study.summary import Summary, subnet_key


def test_an_unknown_baseline_is_an_error_that_lists_the_arms():
    with pytest.raises(UserError, match="baseline must be one of the arms a, b, but got 'c'"):
        Summary(results(row("a", 0, full=1.0), row("b", 0, full=1.0), baseline="c"))
    waiting = Summary(results(row("a", 0, full=1.0), baseline="c", recipes={"c": {}}))
    assert waiting.arms == ["a", "c"]
    assert Summary({"study": {"baseline": "c"}, "rows": []}).arms == []


def test_a_repeated_row_is_not_a_second_seed():
    rows = [row("base", 0, full=70.0), row("a", 0, full=71.0), row("a", 1, full=72.0), row("base", 1, full=70.5)]
    once, twice = Summary(results(*rows)), Summary(results(*rows, *copy.deepcopy(rows)))
    assert twice.final_differences == once.final_differences
    assert [state.seeds for state in twice.states] == [2, 2]
    assert twice.final_differences[0].interval is None


def test_keys_that_this_version_does_not_know_are_ignored():
    rows = [{**row("base", 0, full=70.0), "search": {"front": [{"top1": 99.0}]}}, row("a", 0, full=71.0)]
    rows[1]["phases"][0]["something"] = {"new": [1, 2]}
    summary = Summary({**results(*rows), "future": [1]})
    assert summary.differences[0].by_seed == {0: 1.0}
    assert all_tables(summary)


def test_an_arm_that_stopped_early_is_not_at_the_end():
    summary = Summary(
        results(
            row("base", 0, full=70.0, width_1=72.0),
            row("stopped", 0, "width-1", full=90.0),
            row("short", 0, full=69.0),
            row("special", 0, full=70.0, width_1=73.0, zoom=74.0),
            recipes={"base": {}, "waiting": {}},
        )
    )
    assert {state.arm: (state.phase, state.finished) for state in summary.states} == {
        "base": ("width-1", True),
        "stopped": ("full", False),
        "short": ("full", True),
        "special": ("zoom", True),
        "waiting": (None, False),
    }
    assert summary.notes == [
        "stopped is not finished: its last phase is full, not width-1.",
        "waiting has no finished phase.",
    ]


def test_phases_that_no_run_has_reached_are_not_shown():
    summary = Summary(results(row("base", 0, "depth-1", full=1.0, zoom=2.0), row("a", 0, full=1.0, depth_1=2.0)))
    assert summary.phases == ["full", "zoom", "depth-1"]
    assert Summary(results(row("base", 0, "depth-1", full=1.0))).phases == ["full"]


def test_last_exit_and_lone_mb_blocks_are_the_plain_network():
    plain = subnet(1.0)
    assert subnet_key(subnet(2.0, height=5)) == subnet_key(plain)
    assert subnet_key(subnet(2.0, level=[["mbconv"]] * 20)) == subnet_key(plain)
    for other in (
        subnet(2.0, height=4),
        subnet(2.0, level=[["conv1x1"]] * 20),
        subnet(2.0, resolution=28),
        subnet(2.0, ensemble=True),
        subnet(2.0, ks=[5] * 20),
    ):
        assert subnet_key(other) != subnet_key(plain)


def test_rank_correlation_is_over_shared_subnets_of_the_same_last_phase():
    def nets(accuracies, **others):
        return [subnet(top1, ks=[size] * 20, **others) for size, top1 in zip((3, 5, 7), accuracies, strict=True)]

    summary = Summary(
        results(
            with_subnets("a", 0, "width-1", [*nets((1.0, 2.0, 4.0)), subnet(9.0, resolution=99)]),
            with_subnets("a", 1, "width-1", nets((2.0, 3.0, 1.0))),  # means: 1.5, 2.5, 2.5
            with_subnets("b", 0, "width-1", nets((10.0, 20.0, 5.0), height=5)),
            with_subnets("c", 0, "width-1", nets((3.0, 2.0, 1.0))[:2]),
            with_subnets("d", 0, "kernel", nets((1.0, 2.0, 3.0))),
            baseline="a",
        )
    )
    found = {(c.a, c.b): (c.rho, c.n) for c in summary.correlations}
    assert set(found) == {("a", "b"), ("a", "c"), ("b", "c")}
    assert found["a", "b"] == (pytest.approx(pd.Series([1, 2.5, 2.5]).corr(pd.Series([2, 3, 1]))), 3)
    assert found["a", "c"] == (None, 2)


def test_exits_are_the_measured_ones_if_any_arm_has_them():
    measured = row("a", 0, full=70.0)
    measured["phases"][0]["exits"] = [{"height": 1, "top1": 50.0}, {"height": 2, "top1": 60.0}]
    other = row("a", 1, full=70.0)
    other["phases"][0]["exits"] = [{"height": 2, "top1": 62.0}, {"height": 1, "top1": math.nan}]
    inferred = with_subnets("b", 0, "full", [subnet(1.0, height=1), subnet(2.0, height=2)])
    assert Summary(results(measured, other, inferred, baseline="a")).exits == {
        "a": ("full", {1: Spread(50.0, 50.0, 50.0, 1), 2: Spread(61.0, 60.0, 62.0, 2)})
    }


def test_otherwise_exits_are_the_best_subnets_by_validation():
    nets = [
        subnet(50.0, height=1, validation=40.0),
        subnet(45.0, height=1, validation=41.0),
        subnet(99.0, height=2, ensemble=True),
        subnet(60.0, height=2),
        subnet(61.0, height=3),
    ]
    early = with_subnets("a", 0, "height-1", nets)
    early["phases"].append({"name": "width-1", "best_top1": 1.0, "subnets": nets[:1] + nets[3:4]})
    plain = with_subnets("b", 0, "width-1", [subnet(1.0), subnet(2.0)])
    found = Summary(results(early, plain, baseline="a")).exits
    assert list(found) == ["a"]
    phase, heights = found["a"]
    assert phase == "height-1"
    assert {height: each.mean for height, each in heights.items()} == {1: 45.0, 2: 60.0, 3: 61.0}


def test_totals_add_up_and_peaks_do_not():
    rows = [row("a", seed, full=1.0, kernel=2.0) for seed in (0, 1)]
    for i, entry in enumerate(entry for each in rows for entry in each["phases"]):
        entry.update(seconds=10.0 * (i + 1), peak_memory_mib=100.0 * (i + 1))
    summary = Summary(results(*rows, baseline="a"))
    assert summary.total("a", "seconds") == Spread(50.0, 30.0, 70.0, 2)
    assert summary.peak("a", "peak_memory_mib") == Spread(300.0, 200.0, 400.0, 2)
    assert summary.total("a", "energy_kwh") is None
    rows[1]["steps"].append("width-1")  # it is still running
    assert Summary(results(*rows, baseline="a")).total("a", "seconds", finished=True) == Spread(30.0, 30.0, 30.0, 1)


def test_final_differences_are_those_at_the_end_of_both_the_largest_first():
    rows = [row("base", 0, full=50.0), row("base", 1, full=40.0), row("x", 0, full=48.0), row("y", 1, full=41.0)]
    summary = Summary(results(*rows))
    assert [(each.arm, each.mean) for each in summary.final_differences] == [("y", 1.0), ("x", -2.0)]
    # the baseline is not at its end
    rows = [row("base", 0, "width-1", full=50.0, kernel=51.0), row("x", 0, full=60.0)]
    assert Summary(results(*rows)).final_differences == []
    assert [each.by_seed for each in Summary(results(*rows)).differences] == [{0: 10.0}]


def test_exits_and_ensemble_are_those_of_the_last_phase():
    entries = [{"height": 1, "top1": 10.0}, {"height": 2, "top1": 20.0}]
    ahead, behind = row("a", 0, full=70.0, kernel=71.0), row("a", 1, full=70.0)
    ahead["phases"][0] |= {"exits": entries, "ensemble_top1": 21.0, "ensemble_val_top1": 5.0}
    ahead["phases"][1] |= {"exits": [{**e, "top1": e["top1"] + 50} for e in entries], "ensemble_top1": 71.0}
    behind["phases"][0] |= {"exits": entries, "ensemble_top1": 21.0}
    summary = Summary({"study": {"baseline": "a"}, "rows": [ahead, behind]})
    assert summary.exits == {"a": ("kernel", {1: Spread(60.0, 60.0, 60.0, 1), 2: Spread(70.0, 70.0, 70.0, 1)})}
    tables = {table.name: table for table in all_tables(summary)}
    assert tables["exits"].rows == [["a", 1, "kernel", 60.0, 70.0, 71.0]]
    assert tables["exits-by-phase"].rows == [["a", 2, "full", 10.0, 20.0, 21.0], ["a", 1, "kernel", 60.0, 70.0, 71.0]]

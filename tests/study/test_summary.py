"""The study's statistics against values worked out by hand, by definition, or by pandas."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofav2_plugins.report.tables import all_tables, equal_compute_table, gains_table
from ofav2_plugins.study.comparison import PairedDifference, equal_compute_differences, paired_differences
from ofav2_plugins.study.stats import Spread, bootstrap_interval, pareto_front, phase_order, spearman, spread
from ofav2_plugins.study.summary import Summary, subnet_key

FINITE = st.floats(-1e6, 1e6)


def row(arm, seed, *left, **phases):
    """A row whose phases have these best accuracies, and which steps are left; "_" in a name stands for "-"."""
    listed = [{"name": name.replace("_", "-"), "best_top1": top1} for name, top1 in phases.items()]
    return {"arm": arm, "seed": seed, "steps": [*(entry["name"] for entry in listed), *left], "phases": listed}


def subnet(top1, *, height=None, validation=None, macs=1, resolution=32, ensemble=False, **arch):
    entries = {"ks": [3] * 20, "e": [6] * 20, "d": [4] * 5, **arch}
    if height is not None:
        entries["height"] = height
    return {
        "arch": entries, "resolution": resolution, "ensemble": ensemble, "macs": macs, "params": macs,
        "top1": top1, "val_top1": top1 if validation is None else validation,
    }  # fmt: skip


def results(*rows, baseline="base", **study):
    return {"study": {"baseline": baseline, **study}, "rows": list(rows)}


def test_bootstrap_of_two_values_has_the_three_means_that_exist():
    # the resampled mean of {0, 1} is 0, 1/2, 1 with probability 1/4, 1/2, 1/4
    assert bootstrap_interval([0.0, 1.0]) == (0.0, 1.0)
    assert bootstrap_interval([0.0, 1.0], level=0.4) == (0.5, 0.5)


def test_bootstrap_of_many_values_is_the_normal_interval():
    values = np.random.default_rng(3).normal(5, 2, size=400)
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_bootstrap_repeats_and_leaves_the_global_generator_alone():
    np.random.seed(7)
    expected = np.random.random()
    np.random.seed(7)
    first = bootstrap_interval([1.0, 2.0, 4.0], seed=5, n=50)
    assert np.random.random() == expected
    assert first == bootstrap_interval([1.0, 2.0, 4.0], seed=5, n=50)
    assert first != bootstrap_interval([1.0, 2.0, 4.0], seed=6, n=50)


@given(st.lists(FINITE, min_size=2, max_size=8))
def test_bootstrap_stays_within_the_values(values):
    low, high = bootstrap_interval(values, n=100)
    slack = 1e-9 * max(1.0, *map(abs, values))
    assert min(values) - slack <= low <= high <= max(values) + slack


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan], [1.0, math.inf]])
def test_bootstrap_refuses_what_has_no_interval(values):
    with pytest.raises(ValueError, match="two or more finite"):
        bootstrap_interval(values)


def test_spearman_by_hand():
    assert spearman([1, 2, 3], [10, 20, 5]) == pytest.approx(-0.5)  # 1 - 6 * (1 + 1 + 4) / (3 * 8)
    assert spearman([1, 2, 3, 4], [1, 8, 27, 64]) == pytest.approx(1)
    assert math.isnan(spearman([1, 1, 1], [1, 2, 3]))
    assert math.isnan(spearman([1], [2]))
    with pytest.raises(ValueError, match="same length"):
        spearman([1, 2], [1])


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=30))
def test_spearman_is_that_of_pandas(pairs):
    x, y = zip(*pairs, strict=True)
    ranks = pd.Series(x).rank(), pd.Series(y).rank()  # its method="spearman" needs scipy
    expected = ranks[0].corr(ranks[1]) if len(set(x)) > 1 and len(set(y)) > 1 else math.nan
    assert spearman(x, y) == pytest.approx(expected, nan_ok=True, abs=1e-9)


def test_pareto_front_by_hand():
    points = [(3, 90), (1, 70), (2, 65), (2, 80), (4, 90), (2, 80), (None, 99), (0.5, math.nan)]
    assert pareto_front(points) == [1, 3, 0]
    assert pareto_front([]) == []


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=25))
def test_pareto_front_is_what_nothing_beats(points):
    unbeaten = {p for p in points if not any(q != p and q[0] <= p[0] and q[1] >= p[1] for q in points)}
    front = [points[i] for i in pareto_front(points)]
    assert front == sorted(unbeaten)


def test_spread_leaves_out_what_is_no_number():
    assert spread([1, 2.0, None, math.nan, "3", True]) == Spread(1.5, 1.0, 2.0, 2)
    assert spread([None]) is None
    assert spread([0.1] * 3) == Spread(0.1, 0.1, 0.1, 3)


def test_phases_come_in_canonical_order_then_as_they_appear():
    names = [
        "width-2",
        "zoom",
        "height-10",
        "height-2",
        "full",
        "depth-1",
        "kernel",
        "fuller",
        "level-1",
        "full",
    ]
    expected = ["full", "kernel", "level-1", "height-2", "height-10", "depth-1", "width-2", "zoom", "fuller"]
    assert phase_order(names) == expected


def test_differences_are_paired_by_seed_at_the_last_shared_phase():
    rows = [
        row("base", 0, full=70.0, kernel=71.0, width_1=72.0),
        row("base", 1, full=60.0, kernel=61.0, width_1=62.0),
        row("better", 1, full=60.5, kernel=61.5, height_1=63.0, width_1=65.0),
        row("better", 0, full=70.5, kernel=71.5, height_1=73.0, width_1=74.0),
        row("stopped", 0, "width-1", full=71.0, kernel=70.0, height_1=80.0),
        row("elsewhere", 7, full=99.0),
        {"arm": "failed", "seed": 0, "steps": ["full"], "error": "out of memory"},
    ]
    assert paired_differences(rows, "base") == [
        PairedDifference("better", "width-1", {1: 3.0, 0: 2.0}, "width-1", 67.0),
        PairedDifference("stopped", "kernel", {0: -1.0}, "kernel", 71.0),
        PairedDifference("elsewhere", None, {}, None),
        PairedDifference("failed", None, {}, None),
    ]
    better, stopped, *_ = paired_differences(rows, "base")
    assert better.mean == 2.5
    assert better.interval == (2.0, 3.0)
    assert stopped.interval is None


def test_arms_of_other_phases_are_compared_end_to_end():
    rows = [row("base", 0, full=70.0, width_1=72.0), row("sandwich", 0, sandwich=73.5), row("short", 0, full=69.0)]
    assert paired_differences(rows, "base") == [
        PairedDifference("sandwich", "sandwich", {0: 1.5}, "width-1", 72.0),
        PairedDifference("short", "full", {0: -3.0}, "width-1", 72.0),
    ]
    assert [(end.arm, gain) for end, gain in Summary(results(*rows)).ranked] == [
        ("sandwich", 1.5), ("base", 0.0), ("short", -3.0)
    ]  # fmt: skip
    assert [row[1] for row in gains_table(Summary(results(*rows))).rows] == [
        "sandwich, the baseline at width-1", "full, the baseline at width-1"
    ]  # fmt: skip
    rows[0]["steps"] = [*rows[0]["steps"], "width-2"]  # now the baseline is not at its end
    assert paired_differences(rows, "base") == [
        PairedDifference("sandwich", None, {}),
        PairedDifference("short", "full", {0: -1.0}, "full", 70.0),
    ]


def test_a_seed_without_a_number_is_left_out_of_the_pairs():
    rows = [row("base", s, full=70.0) for s in (0, 1)] + [row("a", 0, full=math.nan), row("a", 1, full=71.0)]
    assert paired_differences(rows, "base") == [PairedDifference("a", "full", {1: 1.0}, "full", 70.0)]
    assert paired_differences(rows, "nobody") == [
        PairedDifference("base", None, {}, None), PairedDifference("a", None, {}, None)
    ]  # fmt: skip


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
    assert {end.arm: (end.phase, end.finished) for end in summary.final_results} == {
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


def with_subnets(arm, seed, name, subnets):
    return {**row(arm, seed), "phases": [{"name": name, "best_top1": 1.0, "subnets": subnets}]}


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
        )
    )
    found = {(c.a, c.b): (c.rho, c.n) for c in summary.correlations}
    assert set(found) == {("a", "b"), ("a", "c"), ("b", "c")}
    assert found["a", "b"] == (pytest.approx(pd.Series([1, 2.5, 2.5]).corr(pd.Series([2, 3, 1]))), 3)
    assert found["a", "c"] == (None, 2)


def test_exits_are_the_measured_ones_where_there_are_some():
    measured = row("a", 0, full=70.0)
    measured["phases"][0]["exits"] = [{"height": 1, "top1": 50.0}, {"height": 2, "top1": 60.0}]
    other = row("a", 1, full=70.0)
    other["phases"][0]["exits"] = [{"height": 2, "top1": 62.0}, {"height": 1, "top1": math.nan}]
    inferred = with_subnets("b", 0, "full", [subnet(1.0, height=1), subnet(2.0, height=2)])
    assert Summary(results(measured, other, inferred)).exits == {
        "a": ("full", {1: Spread(50.0, 50.0, 50.0, 1), 2: Spread(61.0, 60.0, 62.0, 2)})
    }


def test_else_exits_are_the_best_subnets_by_validation():
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
    found = Summary(results(early, plain)).exits
    assert list(found) == ["a"]
    phase, heights = found["a"]
    assert phase == "height-1"
    assert {height: held.mean for height, held in heights.items()} == {1: 45.0, 2: 60.0, 3: 61.0}


def test_totals_add_up_and_peaks_do_not():
    rows = [row("a", seed, full=1.0, kernel=2.0) for seed in (0, 1)]
    for i, entry in enumerate(entry for held in rows for entry in held["phases"]):
        entry.update(seconds=10.0 * (i + 1), peak_memory_mib=100.0 * (i + 1))
    summary = Summary(results(*rows))
    assert summary.total("a", "seconds") == Spread(50.0, 30.0, 70.0, 2)
    assert summary.peak("a", "peak_memory_mib") == Spread(300.0, 200.0, 400.0, 2)
    assert summary.total("a", "energy_kwh") is None


def computed(arm, seed, *phases):
    """A row of (phase, compute, accuracy)."""
    listed = [{"name": name, "training_macs": macs, "best_top1": top1} for name, macs, top1 in phases]
    return {"arm": arm, "seed": seed, "steps": [name for name, *_ in phases], "phases": listed}


def test_at_equal_compute_an_arm_stands_where_it_had_computed_no_more_than_the_whole_baseline():
    rows = [
        computed("base", 0, ("full", 100, 50.0), ("depth", 50, 52.0)),
        computed("base", 1, ("full", 100, 51.0), ("depth", 40, 53.0)),
        computed("long", 0, ("full", 100, 49.0), ("height", 50, 55.0), ("depth", 50, 58.0)),
        computed("long", 1, ("full", 100, 48.0), ("height", 50, 56.0), ("depth", 50, 59.0)),
        computed("short", 0, ("full", 20, 45.0), ("depth", 30, 47.0)),
        computed("vast", 0, ("full", 151, 70.0)),
        computed("unknown", 0, ("full", None, 70.0)),
    ]
    found = {gain.arm: gain for gain in equal_compute_differences(rows, "base")}
    assert set(found) == {"long", "short"}
    # 150 were allowed for seed 0, exactly what height needs, and 140 for seed 1
    assert found["long"].by_seed == {0: 3.0, 1: -5.0}
    assert found["long"].phase == "height / full"
    assert found["short"].by_seed == {0: -5.0}
    assert equal_compute_differences(rows, "nobody") == []
    assert found["long"].share == pytest.approx((1 + 100 / 140) / 2)
    assert found["short"].share == pytest.approx(50 / 150)
    half = [{**rows[0], "phases": rows[0]["phases"][:1]}, *rows[1:]]
    assert {g.arm: set(g.by_seed) for g in equal_compute_differences(half, "base")} == {"long": {1}}
    running = [*rows[:4], {**rows[4], "steps": ["full", "depth", "width"]}]  # it can still afford more
    assert {g.arm for g in equal_compute_differences(running, "base")} == {"long"}
    again = [{**rows[0], "error": "no space when it was run again"}, *rows[1:]]
    assert equal_compute_differences(again, "base") == equal_compute_differences(rows, "base")
    table = equal_compute_table(Summary(results(*rows)))
    assert (table.header[-1], table.formatted()[1][-1]) == ("Compute (%)", "33.33")


def test_rows_that_do_not_tell_their_plan_end_where_any_arm_came_furthest():
    rows = [row("base", 0, full=50.0, width_1=52.0), row("stopped", 0, full=70.0), row("more", 0, full=1.0, zoom=2.0)]
    for each in rows:
        del each["steps"]
    summary = Summary(results(*rows))
    assert [(end.arm, end.finished) for end in summary.final_results] == [
        ("base", True),
        ("stopped", False),
        ("more", True),
    ]
    assert summary.notes == ["stopped is not finished: its last phase is full, not width-1."]
    assert [gain.phase for gain in summary.gains] == ["full", "zoom"]


def test_arms_are_ranked_by_their_paired_gain_not_by_means_over_other_seeds():
    rows = [row("base", 0, full=50.0), row("base", 1, full=40.0), row("x", 0, full=48.0)]
    summary = Summary({"study": {"baseline": "base"}, "rows": rows})
    assert [(end.arm, gain) for end, gain in summary.ranked] == [("base", 0.0), ("x", -2.0)]
    # an arm that ends where the baseline was on its way is not ranked: the baseline is not at its end
    rows = [row("base", 0, "width-1", full=50.0, kernel=51.0), row("x", 0, full=60.0)]
    assert [end.arm for end, _ in Summary(results(*rows)).ranked] == []


def test_exits_and_ensemble_are_those_of_the_last_phase():
    entries = [{"height": 1, "top1": 10.0}, {"height": 2, "top1": 20.0}]
    ahead, behind = row("a", 0, full=70.0, kernel=71.0), row("a", 1, full=70.0)
    ahead["phases"][0] |= {"exits": entries, "ensemble_top1": 21.0, "ensemble_val_top1": 5.0}
    ahead["phases"][1] |= {"exits": [{**e, "top1": e["top1"] + 50} for e in entries], "ensemble_top1": 71.0}
    behind["phases"][0] |= {"exits": entries, "ensemble_top1": 21.0}
    summary = Summary({"study": {"baseline": "a"}, "rows": [ahead, behind]})
    assert summary.exits == {"a": ("kernel", {1: Spread(60.0, 60.0, 60.0, 1), 2: Spread(70.0, 70.0, 70.0, 1)})}
    assert summary.ensemble("a") == Spread(71.0, 71.0, 71.0, 1)
    tables = {table.name: table for table in all_tables(summary)}
    assert tables["exits"].rows == [["a", "kernel", 60.0, 70.0, 71.0]]
    assert tables["exits-by-phase"].rows == [["a", "full", 10.0, 20.0, 21.0], ["a", "kernel", 60.0, 70.0, 71.0]]

"""Paired differences from the baseline, after the same phases and at the same compute."""

from __future__ import annotations

import math

import pytest
from support.result_rows import row

from ofav2_plugins.study.comparison import (
    Difference,
    PairedDifference,
    equal_compute_differences,
    paired_differences,
)


def paired(arm, by_seed, phase=None, baseline_phase=None, baseline_top1=None):
    return PairedDifference(by_seed, arm, phase, baseline_phase or phase, baseline_top1)


def test_an_interval_needs_three_seeds_and_its_side_of_zero_is_the_direction():
    two = Difference({0: 1.0, 1: 1.1})
    assert (two.n, two.mean, two.interval, two.direction) == (2, 1.05, None, 0)
    above = Difference({0: 1.0, 1: 1.1, 2: 0.9})
    half = 4.302653 * 0.1 / math.sqrt(3)
    assert above.interval == pytest.approx((1 - half, 1 + half), rel=1e-6)
    assert above.direction == 1
    assert Difference({seed: -value for seed, value in above.by_seed.items()}).direction == -1
    assert Difference({0: 1.0, 1: -1.1, 2: 0.9}).direction == 0
    assert (Difference({}).mean, Difference({}).interval) == (None, None)


def test_differences_are_paired_by_seed_at_the_last_shared_phase():
    rows = [
        row("base", 0, full=70.0, kernel=71.0, width_1=72.0),
        row("base", 1, full=60.0, kernel=61.0, width_1=62.0),
        row("better", 1, full=60.5, kernel=61.5, height_1=63.0, width_1=65.0),
        row("better", 0, full=70.5, kernel=71.5, height_1=73.0, width_1=74.0),
        row("running", 0, "width-1", full=71.0, kernel=70.0, height_1=80.0),
        row("elsewhere", 7, full=99.0),
        {"arm": "failed", "seed": 0, "steps": ["full"], "error": "out of memory"},
    ]
    assert paired_differences(rows, "base") == [
        paired("better", {1: 3.0, 0: 2.0}, "width-1", baseline_top1=67.0),
        paired("running", {0: -1.0}, "kernel", baseline_top1=71.0),
        paired("elsewhere", {}),
        paired("failed", {}),
    ]


def test_the_last_shared_phase_is_that_of_the_plans_also_of_third_parties():
    plan = ["zoom", "full", "kernel", "width-1"]
    base = {**row("base", 0, zoom=50.0, full=60.0), "steps": plan}
    arm = {**row("arm", 0, full=61.0, zoom=55.0), "steps": plan}  # listed in another order than planned
    assert paired_differences([base, arm], "base") == [paired("arm", {0: 1.0}, "full", baseline_top1=60.0)]


def test_arms_with_other_phases_are_compared_end_to_end():
    rows = [row("base", 0, full=70.0, width_1=72.0), row("sandwich", 0, sandwich=73.5), row("short", 0, full=69.0)]
    found = paired_differences(rows, "base")
    assert found == [
        paired("sandwich", {0: 1.5}, "sandwich", "width-1", 72.0),
        paired("short", {0: -3.0}, "full", "width-1", 72.0),
    ]
    assert [each.compared_at for each in found] == [
        "sandwich, the baseline at width-1", "full, the baseline at width-1"
    ]  # fmt: skip
    rows[0]["steps"] = [*rows[0]["steps"], "width-2"]  # now the baseline is not at its end
    assert paired_differences(rows, "base") == [
        paired("sandwich", {}),
        paired("short", {0: -1.0}, "full", baseline_top1=70.0),
    ]


def test_a_seed_without_a_number_is_excluded_from_the_pairs():
    rows = [row("base", s, full=70.0) for s in (0, 1)] + [row("a", 0, full=math.nan), row("a", 1, full=71.0)]
    assert paired_differences(rows, "base") == [paired("a", {1: 1.0}, "full", baseline_top1=70.0)]


def test_a_failed_run_has_no_difference_but_one_that_failed_when_it_was_repeated_has():
    base = [row("base", seed, full=70.0, kernel=71.0) for seed in (0, 1)]
    failed = {**row("a", 0, "kernel", full=80.0), "error": "out of memory"}
    assert paired_differences([*base, failed], "base") == [paired("a", {})]
    other = {**row("a", 1, full=80.0, kernel=73.0), "error": "no space when it was run again"}
    assert paired_differences([*base, failed, other], "base") == [paired("a", {1: 2.0}, "kernel", baseline_top1=71.0)]


def computed(arm, seed, *phases):
    """A row of (phase, compute, accuracy)."""
    listed = [{"name": name, "training_macs": macs, "best_top1": top1} for name, macs, top1 in phases]
    return {"arm": arm, "seed": seed, "steps": [name for name, *_ in phases], "phases": listed}


ROWS = [
    computed("base", 0, ("full", 100, 50.0), ("depth", 50, 52.0)),
    computed("base", 1, ("full", 100, 51.0), ("depth", 40, 53.0)),
    computed("long", 0, ("full", 100, 49.0), ("height", 50, 55.0), ("depth", 50, 58.0)),
    computed("long", 1, ("full", 100, 48.0), ("height", 50, 56.0), ("depth", 50, 59.0)),
    computed("short", 0, ("full", 20, 45.0), ("depth", 30, 47.0)),
    computed("vast", 0, ("full", 151, 70.0)),
    computed("unknown", 0, ("full", None, 70.0)),
]


def test_at_equal_compute_an_arm_is_compared_after_its_last_phase_within_the_baselines_compute():
    found = {each.arm: each for each in equal_compute_differences(ROWS, "base")}
    assert set(found) == {"long", "short"}
    # seed 0 may compute 150, exactly what height needs, and seed 1 may compute 140
    assert found["long"].by_seed == {0: 3.0, 1: -5.0}
    assert found["long"].phase == "height / full"
    assert found["short"].by_seed == {0: -5.0}
    assert found["long"].compute_share == pytest.approx((1 + 100 / 140) / 2)
    assert found["short"].compute_share == pytest.approx(50 / 150)


def test_equal_compute_needs_a_finished_baseline_and_an_arm_that_cannot_go_on():
    half = [{**ROWS[0], "phases": ROWS[0]["phases"][:1]}, *ROWS[1:]]
    assert {each.arm: set(each.by_seed) for each in equal_compute_differences(half, "base")} == {"long": {1}}
    running = [*ROWS[:4], {**ROWS[4], "steps": ["full", "depth", "width"]}]
    assert {each.arm for each in equal_compute_differences(running, "base")} == {"long"}
    failed = [*ROWS[:3], {**ROWS[3], "steps": ["full", "height", "depth", "width"], "error": "out of memory"}]
    assert [each.by_seed for each in equal_compute_differences(failed, "base")] == [{0: 3.0}]
    repeated = [{**ROWS[0], "error": "no space when it was run again"}, *ROWS[1:]]
    assert equal_compute_differences(repeated, "base") == equal_compute_differences(ROWS, "base")

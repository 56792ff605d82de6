"""Reading rows: plans, their common order, repetitions."""

from __future__ import annotations

import copy
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.result_rows import row

from ofav2_plugins.errors import UserError
from ofav2_plugins.study.rows import distinct_rows, has_failed, is_finished, phase_order, plan_end, with_plans

SE = ["full", "kernel", "depth-1", "depth-2", "width-1", "width-2"]
EE = ["full", "kernel", "height-1", "height-2", "depth-1", "depth-2", "width-1", "width-2"]
EE_P = ["full", "kernel", "level-1", "level-2", "height-1", "height-2", "depth-1", "depth-2", "width-1", "width-2"]


def test_phases_of_several_plans_come_in_the_order_of_the_plans():
    assert phase_order([SE, EE]) == EE
    assert phase_order([SE, EE, EE_P]) == EE_P
    assert phase_order([EE, ["full", "kernel", "level-1", "level-2", *SE[2:]]]) == [
        "full", "kernel", "height-1", "height-2", "level-1", "level-2", *SE[2:]
    ]  # fmt: skip


def test_a_third_partys_phase_comes_where_its_plan_has_it():
    zoomed = ["warm", "full", "kernel", "zoom-1", "zoom-2", *SE[2:]]
    assert phase_order([SE, zoomed]) == zoomed
    assert phase_order([zoomed, SE]) == zoomed
    assert phase_order([SE, ["sandwich"]]) == [*SE, "sandwich"]


def test_plans_that_contradict_each_other_still_give_an_order():
    assert phase_order([["warm", "up"], ["up", "warm"]]) == ["warm", "up"]
    assert phase_order([]) == []


@given(st.lists(st.permutations(range(6)), min_size=1, max_size=1), st.lists(st.sets(st.integers(0, 5)), max_size=6))
def test_the_order_agrees_with_every_plan_if_the_plans_agree(order, chosen):
    (truth,) = order
    plans = [[str(step) for step in truth if step in steps] for steps in chosen]
    found = phase_order(plans)
    assert sorted(found) == sorted({step for plan in plans for step in plan})
    for plan in plans:
        assert [step for step in found if step in plan] == plan


def test_a_row_that_is_repeated_counts_once_and_two_different_rows_are_an_error():
    first, second = row("a", 0, full=math.nan), row("a", 1, full=2.0)
    assert distinct_rows([first, copy.deepcopy(first), second]) == [first, second]
    with pytest.raises(UserError, match="arm 'a' has two different rows with seed 1"):
        distinct_rows([first, second, row("a", 1, full=3.0)])


def test_rows_without_a_plan_end_where_no_other_row_goes_on():
    rows = [row("base", 0, full=50.0, width_1=52.0), row("stopped", 0, full=70.0), row("more", 0, full=1.0, zoom=2.0)]
    rows.append({**row("failed", 0, full=1.0, other=3.0), "error": "disk full"})
    for each in rows:
        del each["steps"]
    found = with_plans(rows)
    assert [(plan_end(each), is_finished(each)) for each in found] == [
        ("width-1", True), ("width-1", False), ("zoom", True), (None, False)
    ]  # fmt: skip
    assert [has_failed(each) for each in found] == [False, False, False, True]


def test_a_run_that_failed_after_its_end_is_finished():
    finished = {**row("a", 0, full=1.0), "error": "no space when it was run again"}
    assert is_finished(finished) and not has_failed(finished)
    stopped = {**row("a", 0, "kernel", full=1.0), "error": "no space"}
    assert has_failed(stopped) and not is_finished(stopped)

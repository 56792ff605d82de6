"""The statistics against values worked out by hand, by definition, by pandas or by pymoo."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymoo.indicators.hv import HV

from ofav2_plugins.study.stats import Spread, hypervolume, pareto_front, spearman, spread, t_interval


def test_t_interval_by_hand():
    # mean 2, standard deviation 1, Student's t with 2 degrees of freedom: 4.302653 (any table of t)
    half = 4.302653 / math.sqrt(3)
    assert t_interval([1.0, 2.0, 3.0]) == pytest.approx((2 - half, 2 + half), rel=1e-6)
    # with 4 degrees of freedom at 90 %: 2.131847; mean 3, standard deviation sqrt(2.5)
    half = 2.131847 * math.sqrt(2.5 / 5)
    assert t_interval([1.0, 2.0, 3.0, 4.0, 5.0], level=0.9) == pytest.approx((3 - half, 3 + half), rel=1e-6)
    assert t_interval([0.5, 0.5, 0.5]) == (0.5, 0.5)


@pytest.mark.parametrize("n", [3, 5])
def test_t_intervals_of_few_normal_values_cover_the_mean_as_often_as_they_say(n):
    samples = np.random.default_rng(0).normal(7.0, 2.0, size=(2000, n))
    covered = sum(low <= 7.0 <= high for low, high in map(t_interval, samples)) / len(samples)
    assert covered == pytest.approx(0.95, abs=0.02)  # four standard errors


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0], [1.0, 2.0, math.nan], [1.0, 2.0, math.inf]])
def test_too_few_or_infinite_values_have_no_interval(values):
    with pytest.raises(ValueError, match="at least 3 finite values, but got"):
        t_interval(values)


def test_spearman_by_hand():
    assert spearman([1, 2, 3], [10, 20, 5]) == pytest.approx(-0.5)  # 1 - 6 * (1 + 1 + 4) / (3 * 8)
    assert spearman([1, 2, 3, 4], [1, 8, 27, 64]) == pytest.approx(1)
    assert math.isnan(spearman([1, 1, 1], [1, 2, 3]))
    assert math.isnan(spearman([1], [2]))
    with pytest.raises(ValueError, match="same length"):
        spearman([1, 2], [1])


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=30))
def test_spearman_is_the_correlation_of_ranks(pairs):
    x, y = zip(*pairs, strict=True)
    ranks = pd.Series(x).rank(), pd.Series(y).rank()
    expected = ranks[0].corr(ranks[1]) if len(set(x)) > 1 and len(set(y)) > 1 else math.nan
    assert spearman(x, y) == pytest.approx(expected, nan_ok=True, abs=1e-9)


def test_pareto_front_by_hand():
    points = [(3, 90), (1, 70), (2, 65), (2, 80), (4, 90), (2, 80), (None, 99), (0.5, math.nan)]
    assert pareto_front(points) == [1, 3, 0]
    assert pareto_front([]) == []


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=25))
def test_no_point_dominates_the_pareto_front(points):
    unbeaten = {p for p in points if not any(q != p and q[0] <= p[0] and q[1] >= p[1] for q in points)}
    front = [points[i] for i in pareto_front(points)]
    assert front == sorted(unbeaten)


def test_hypervolume_by_hand():
    # from cost 1 on 40 %, from cost 3 on 60 %, up to cost 10: 9 * 40 + 7 * 20
    assert hypervolume([(1, 40.0), (3, 60.0), (5, 50.0)], max_cost=10) == 500.0
    assert hypervolume([(10, 90.0), (12, 95.0)], max_cost=10) == 0.0
    assert hypervolume([], max_cost=10) == 0.0


@given(st.lists(st.tuples(st.floats(0.1, 12.0), st.floats(0.1, 100.0)), min_size=1, max_size=20))
def test_hypervolume_is_that_of_pymoo(points):
    expected = HV(ref_point=np.array([10.0, 0.0]))(np.array([(cost, -top1) for cost, top1 in points]))
    assert hypervolume(points, max_cost=10.0) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_spread_excludes_what_is_not_a_finite_number():
    assert spread([1, 2.0, None, math.nan, "3", True]) == Spread(1.5, 1.0, 2.0, 2)
    assert spread([None]) is None
    assert spread([0.1] * 3) == Spread(0.1, 0.1, 0.1, 3)

"""Pareto fronts and hypervolume against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofav2_plugins.searchers.pareto import hypervolume, nondominated

POINTS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12)


@given(points=POINTS)
def test_the_front_is_what_no_other_point_dominates(points):
    values = np.array(points, dtype=float)
    expected = {p for p in points if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in points)}
    kept = nondominated(values)
    assert {tuple(map(int, row)) for row in values[kept]} == expected
    assert kept.sum() == len(expected)  # equal points count once


@given(points=POINTS)
def test_the_hypervolume_is_the_number_of_dominated_cells(points):
    cells = {(x, y) for a, b in points for x in range(a, 10) for y in range(b, 10)}
    assert hypervolume(np.array(points, dtype=float), np.array([10.0, 10.0])) == len(cells)


def test_one_and_three_objectives():
    assert hypervolume(np.array([[3.0], [5.0]]), np.array([10.0])) == 7
    cube = np.array([[0.0, 0.0, 0.5], [0.5, 0.0, 0.0]])
    assert hypervolume(cube, np.ones(3)) == pytest.approx(0.75)

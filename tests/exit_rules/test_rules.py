"""The confidence of every built-in exit rule against values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import entropy

from ofav2_plugins import registry

FIRST = np.array([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0], [0.1, 0.8, 0.1], [0.2, 0.7, 0.1]])
SECOND = np.array([[0.6, 0.2, 0.2], [0.0, 1.0, 0.0], [0.2, 0.7, 0.1], [0.2, 0.7, 0.1]])
THIRD = np.array([[0.4, 0.3, 0.3], [0.1, 0.9, 0.0], [0.9, 0.1, 0.0], [1 / 3, 1 / 3, 1 / 3]])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("max_prob", [0.4, 0.9, 0.9, 1 / 3]),
        ("entropy", 1 - entropy(THIRD, axis=1) / np.log(3)),
        ("margin", [0.1, 0.8, 0.8, 0]),
        ("patience", [2, 1, 0, 0]),
    ],
)
def test_confidence(name, expected):
    rule = registry.load(registry.EXIT_RULES, name)
    np.testing.assert_allclose(rule.confidence([FIRST, SECOND, THIRD]), expected, atol=1e-12)


def test_patience_of_the_first_exit_is_zero():
    rule = registry.load(registry.EXIT_RULES, "patience")
    assert rule.confidence([FIRST]).tolist() == [0, 0, 0, 0]

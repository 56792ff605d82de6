"""The search space: sampling, grids."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ofav2_plugins.errors import UserError
from ofav2_plugins.space import ElasticDim, SearchSpace, SubsetDim

MEMBERS = ("mbconv", "a", "b")
SPACE = SearchSpace(
    (
        ElasticDim("ks", (3, 5, 7), 4),
        ElasticDim("d", (2, 3), 2),
        SubsetDim("level", (1, 2, 3), 4, members=MEMBERS),
        ElasticDim("height", (1, 2)),
    )
)


@given(seed=st.integers(0, 10**9))
def test_samples_are_valid_and_survive_json(seed):
    arch = SPACE.sample(random.Random(seed))
    assert SPACE.parse(json.loads(json.dumps(arch))) == arch
    assert SPACE.sample(random.Random(seed)) == arch


def test_levels_are_uniform_over_the_non_empty_subsets():
    drawn = Counter(tuple(SPACE.sample(random.Random(seed))["level"][0]) for seed in range(7000))
    every = {c for size in (1, 2, 3) for c in itertools.combinations(MEMBERS, size)}
    assert set(drawn) == every
    assert all(abs(n - 1000) < 6 * 1000**0.5 for n in drawn.values())


def test_restricting_opens_sizes_of_levels():
    space = SPACE.max_only().restrict({"level": (2, 3)})
    sizes = {len(level) for seed in range(50) for level in space.sample(random.Random(seed))["level"]}
    assert sizes == {2, 3}
    assert space.sample(random.Random(0))["ks"] == [7] * 4


def test_grid_has_extremes_and_all_values_where_asked():
    grid = list(SPACE.restrict({"level": (3,)}).grid(full=("ks",)))
    assert len(grid) == 3 * 2 * 1 * 2
    assert {tuple(arch["ks"]) for arch in grid} == {(3,) * 4, (5,) * 4, (7,) * 4}
    assert len(list(SPACE.grid())) == 2 * 2 * 4 * 2  # levels: three of size 1 and the one of size 3


def test_wrong_values_are_named():
    with pytest.raises(UserError, match=r"ks unlocks one or more of \[3, 5, 7\], but got \[4\]"):
        SPACE.restrict({"ks": (4,)})
    with pytest.raises(UserError, match="no elastic dimension 'w'"):
        SPACE.restrict({"w": (4,)})
    with pytest.raises(UserError, match="ascending"):
        ElasticDim("ks", (5, 3))


@pytest.mark.parametrize("array", [np.array, torch.tensor])
def test_arrays_and_tensors_are_values_like_lists(array):
    arch = SPACE.parse({"ks": array([3, 5, 7, 3]), "d": array(2), "height": array(1)})
    assert arch == SPACE.parse({"ks": [3, 5, 7, 3], "d": 2, "height": 1})
    assert json.loads(json.dumps(arch)) == arch  # plain integers
    assert SPACE.parse({"ks": [array(3), 5, array(7), 3]})["ks"] == [3, 5, 7, 3]


def test_an_array_of_names_is_a_level():
    assert SPACE.parse({"level": np.array(["b", "mbconv"])})["level"] == [["mbconv", "b"]] * 4
    assert SPACE.parse({"level": [np.array(["a"])] * 4})["level"] == [["a"]] * 4


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ks": np.array([3, 5, 4, 7])}, ["ks[2]", "[3, 5, 7]", "but got 4"]),
        ({"ks": torch.tensor([3, 5])}, ["ks", "4 entries", "but got 2"]),
        ({"ks": np.zeros((4, 2), int)}, ["ks[0]", "but got [0, 0]"]),
        ({"ks": [3, 3, np.array([3, 5]), 3]}, ["ks[2]", "but got [3, 5]"]),
        ({"ks": [3, "5", 3, 3]}, ["ks[1]", "but got '5'"]),
        ({"height": torch.tensor([1])}, ["height", "[1, 2]", "but got [1]"]),
        ({"level": [[["a"]]] * 4}, ["level[0]", "but got [['a']]"]),
        ({"level": [["a"], ["a", 3], ["a"], ["a"]]}, ["level[1]", "but got ['a', 3]"]),
        ({"level": 3}, ["level[0]", "mbconv", "but got 3"]),
    ],
)
def test_a_wrong_entry_is_named(settings, words):
    with pytest.raises(ValueError) as caught:
        SPACE.parse(settings)
    for word in words:
        assert word in str(caught.value)

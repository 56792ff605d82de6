"""The encoding of architectures: bounds, canonical forms, and which entries are part of a network."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ofav2_plugins as ofav2
from ofav2_plugins.errors import UserError
from ofav2_plugins.evaluation.encoding import ABSENT, Encoding
from ofav2_plugins.space import ElasticDim, Requirement, SearchSpace, SubsetDim

NET = ofav2.build_supernet("EE_DP", n_classes=3, width_mult=0.25)
ENCODING = Encoding(NET.space)


def built(arch) -> str:
    """The network that an architecture makes, as upstream and this package describe it."""
    NET.set_active_subnet(**arch)
    return json.dumps(NET.get_active_subnet(preserve_weight=False).config)


def reference_active(arch) -> dict[str, list[bool]]:
    """Which entries count, written out by hand for this space."""
    block = [i // 4 < arch["height"] and i % 4 < arch["d"][i // 4] for i in range(20)]
    mb = [inside and "mbconv" in level for inside, level in zip(block, arch["level"], strict=True)]
    return {"ks": mb, "e": mb, "d": [s < arch["height"] for s in range(5)], "level": block, "height": [True]}


@given(seed=st.integers(0, 10**9))
def test_codes_decode_to_the_architecture_they_came_from(seed):
    arch = NET.space.sample(random.Random(seed))
    codes = ENCODING.encode([arch])
    assert ENCODING.decode(codes) == [arch]
    assert (codes >= 0).all() and (codes <= ENCODING.upper).all()
    json.dumps(ENCODING.decode(codes))


@given(seed=st.integers(0, 10**9))
def test_the_active_entries_are_those_of_the_blocks_that_exist(seed):
    arch = NET.space.sample(random.Random(seed))
    active = ENCODING.active(ENCODING.encode([arch]))[0]
    expected = [flag for flags in reference_active(arch).values() for flag in flags]
    assert active.tolist() == expected


@given(seed=st.integers(0, 10**9))
def test_inactive_entries_do_not_distinguish_architectures_and_active_ones_do(seed):
    rng = np.random.default_rng(seed)
    code = rng.integers(0, ENCODING.upper + 1)
    canonical = ENCODING.canonical(code[None])[0]
    arch = ENCODING.decode(code[None])[0]
    assert built(ENCODING.decode(canonical[None])[0]) == built(arch)
    assert (ENCODING.canonical(canonical[None]) == canonical).all()
    other = code.copy()
    inactive = ~ENCODING.active(code[None])[0]
    other[inactive] = rng.integers(0, ENCODING.upper + 1)[inactive]
    assert (ENCODING.canonical(other[None]) == canonical).all()
    column = rng.choice(np.flatnonzero(~inactive))
    other[column] = (other[column] + 1) % (ENCODING.upper[column] + 1)
    assert (ENCODING.canonical(other[None]) != canonical).any()
    assert built(ENCODING.decode(other[None])[0]) != built(arch)


def test_only_unlocked_choices_are_encoded():
    space = NET.space.max_only().restrict({"ks": (5, 7), "level": (2, 3), "height": (3, 5)})
    encoding = Encoding(space)
    codes = encoding.sample(200, np.random.default_rng(0))
    archs = encoding.decode(codes)
    assert {k for arch in archs for k in arch["ks"]} == {5, 7}
    assert {arch["height"] for arch in archs} == {3, 5}
    assert {len(level) for arch in archs for level in arch["level"]} == {2, 3}
    assert {d for arch in archs for d in arch["d"]} == {4}
    assert (encoding.encode(archs) == codes).all()
    with pytest.raises(ValueError, match=r"ks\[0\] must be one of the unlocked \[5, 7\], but got 3"):
        encoding.encode([NET.space.min_arch()])


def test_many_architectures_at_once_are_as_one_by_one():
    codes = ENCODING.sample(50, np.random.default_rng(1))
    together = ENCODING.active(codes)
    assert all((ENCODING.active(code[None])[0] == row).all() for code, row in zip(codes, together, strict=True))
    assert len(np.unique(codes[:, ENCODING.column["height", 0]])) == 5


def test_features_mark_what_is_absent_and_spread_subsets_over_their_members():
    arch = NET.space.parse({"ks": 5, "e": 3, "d": 2, "level": ("conv1x1",), "height": 2})
    features = ENCODING.features(ENCODING.encode([arch]))[0]
    assert features.shape == (20 + 20 + 5 + 3 * 20 + 1,)
    assert (features[:40] == ABSENT).all()  # no MB block is active
    assert features[40:45].tolist() == [0, 0, ABSENT, ABSENT, ABSENT]
    assert features[45:48].tolist() == [0, 1, 0]  # mbconv, conv1x1, transform of the first position
    assert features[51:54].tolist() == [ABSENT] * 3  # the third block is beyond the depth
    assert features[-1] == 1


def test_requirements_of_any_space_chain_and_may_name_dimensions_that_are_absent():
    dims = (
        ElasticDim("size", (1, 2), 2, requires=((Requirement("on", 0, "a"),), (Requirement("on", 0, "b"),))),
        SubsetDim("on", (1, 2), 1, members=("a", "b"), requires=((Requirement("deep", 0, 2),),)),
        ElasticDim("deep", (1, 2), requires=((Requirement("absent", 0, 9),),)),
    )
    encoding = Encoding(SearchSpace(dims))
    arch = {"size": [2, 2], "on": [["a"]], "deep": 2}
    assert encoding.active(encoding.encode([arch])).tolist() == [[True, False, True, True]]
    arch["deep"] = 1
    assert encoding.active(encoding.encode([arch])).tolist() == [[False, False, False, True]]


def test_wrong_requirements_and_codes_are_errors():
    cycle = (
        ElasticDim("a", (1, 2), requires=((Requirement("b", 0, 2),),)),
        ElasticDim("b", (1, 2), requires=((Requirement("a", 0, 2),),)),
    )
    with pytest.raises(UserError, match="in a cycle"):
        Encoding(SearchSpace(cycle))
    with pytest.raises(UserError, match="requires must have 2 entries, but got 1"):
        ElasticDim("a", (1, 2), 2, requires=((),))
    with pytest.raises(UserError, match=r"b must name an entry in 0\.\.0, not 3"):
        Encoding(SearchSpace((ElasticDim("a", (1, 2), requires=((Requirement("b", 3, 2),),)), cycle[1])))
    with pytest.raises(ValueError, match=r"\[N, 66\], but got \[1, 2\]"):
        ENCODING.decode(np.zeros((1, 2), int))
    wrong = np.zeros((1, 66), int)
    wrong[0, 3] = 9
    with pytest.raises(ValueError, match=r"ks\[3\] must be in 0\.\.2, but got 9"):
        ENCODING.decode(wrong)
    arch = NET.space.max_arch()
    with pytest.raises(ValueError, match="'ks', but it is missing"):
        ENCODING.encode([{k: v for k, v in arch.items() if k != "ks"}])
    with pytest.raises(ValueError, match="ks must have 20 entries, but got 19"):
        ENCODING.encode([{**arch, "ks": [7] * 19}])
    with pytest.raises(ValueError, match=r"ks\[0\] must be one of \[3, 5, 7\], but got 4"):
        ENCODING.encode([{**arch, "ks": [4] * 20}])


def test_a_new_dimension_needs_no_change_here():
    space = SearchSpace((*NET.space.dims, ElasticDim("resolution", (16, 32))))
    encoding = Encoding(space)
    assert encoding.genes[-1] == ("resolution", 0)
    assert encoding.decode(encoding.sample(1, np.random.default_rng(0)))[0]["resolution"] in (16, 32)

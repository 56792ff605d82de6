"""Which networks are measured after the last step: the published grid, and draws of it that arms share."""

from __future__ import annotations

import pytest

import ofav2_plugins as ofav2
from ofav2_plugins.evaluation.candidates import Candidate, by_trunk, final_candidates
from ofav2_plugins.recipes.schema import load_recipe
from ofav2_plugins.space import SearchSpace

PAPER = load_recipe("paper")
assert PAPER.resolutions is not None


def space(supernet: str) -> SearchSpace:
    return ofav2.build_supernet(supernet, n_classes=3, width_mult=0.25).space


def trunks(listed: list[Candidate]) -> list[str]:
    """Kernel size, expand ratio, depth and resolution of each trunk, once."""
    return list(dict.fromkeys(f"{c.arch['ks'][0]} {c.arch['e'][0]} {c.arch['d'][0]} {c.resolution}" for c in listed))


@pytest.mark.parametrize(("supernet", "networks"), [("SE_B", 81), ("EE_B", 405), ("EE_DP", 2835)])
def test_the_final_grid_is_the_published_one(supernet, networks):
    listed = final_candidates(space(supernet), PAPER.resolutions)
    assert len({(*c.trunk, c.arch.get("height")) for c in listed}) == len(listed) == networks
    assert {c.resolution for c in listed} == {48, 56, 64}
    assert {c.arch["ks"][0] for c in listed} == {3, 5, 7} and {c.arch["d"][0] for c in listed} == {2, 3, 4}
    assert all(len({str(v) for v in values}) == 1 for c in listed for values in c.arch.values() if type(values) is list)
    assert len(by_trunk(listed)) == networks // len({c.arch.get("height") for c in listed})


@pytest.mark.parametrize("n", [1, 7, 30])
def test_arms_with_and_without_exits_measure_the_same_trunks_at_every_height(n):
    single, exits, parallel = (
        final_candidates(space(name), PAPER.resolutions, trunks=n, seed_parts=(3, "final"))
        for name in ("SE_B", "EE_D", "SE_P")
    )
    assert trunks(single) == trunks(exits)
    assert trunks(single)[-1] == "7 6 4 64", "the maximal network at the largest resolution"
    assert len(single) == len(trunks(single)) == len(parallel) == n
    assert [c.arch["height"] for c in exits] == [1, 2, 3, 4, 5] * n
    assert set(trunks(parallel)) <= set(trunks(single)), "a branch adds a dimension and changes no other"


def test_the_draw_depends_on_the_seed_and_takes_what_is_unlocked():
    whole = space("EE_B")
    unlocked = whole.max_only().restrict({"ks": [3, 5, 7], "height": [4, 5]})
    assert {c.arch["height"] for c in final_candidates(unlocked, [16])} == {4, 5}
    assert len(final_candidates(unlocked, [16])) == 6
    assert len(final_candidates(unlocked, [16], trunks=100)) == 6
    drawn = {tuple(trunks(final_candidates(whole, [16, 24], trunks=5, seed_parts=(seed,)))) for seed in range(4)}
    assert len(drawn) == 4

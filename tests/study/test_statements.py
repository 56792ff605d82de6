"""The paper's statements: decided by the intervals, on studies whose differences are known."""

from __future__ import annotations

import pytest
from support.result_rows import row

from ofav2_plugins.study.statements import CONFIRMED, CONTRADICTED, PUBLISHED, UNDECIDED, check_statements

NOISE = (-0.1, 0.0, 0.1)
"""Three seeds: the half width of the 95 % interval is 4.30 * 0.1 / sqrt(3) = 0.25 points."""


def runs(arm, supernet, teacher, end, full=30.0, kernel=35.0, noise=NOISE):
    """One run per value of the noise, which shifts every accuracy of an arm against the others'."""
    return [
        {**row(arm, seed, full=full + shift, kernel=kernel + shift, width_1=end + shift),
         "supernet": supernet, "teacher": teacher}
        for seed, shift in enumerate(noise)
    ]  # fmt: skip


STILL = (0.0, 0.0, 0.0)


def base(end=40.0, **more):
    return runs("OFA", "SE_B", "fixed", end, noise=STILL, **more)


def only(statements):
    (statement,) = statements
    return statement


def test_a_clear_gain_of_early_exits_confirms_the_first_statement():
    arms = runs("early", "EE_B", "fixed", 45.0, full=20.0, kernel=36.0)
    first, last = check_statements([*base(), *arms], {})
    assert first.text == "Early exits give the gain."
    assert first.verdict == CONFIRMED
    (finding,) = first.claims[0].findings
    assert (finding.arm, finding.other, finding.phase, finding.published) == ("early", "OFA", "width-1", 9.0)
    assert finding.difference.mean == pytest.approx(5.0)
    assert finding.difference.interval == pytest.approx((4.7516, 5.2484), abs=1e-4)
    assert last.text.startswith("Early exits lag after the full phase and overtake")
    assert [claim.verdict for claim in last.claims] == [CONFIRMED, CONFIRMED]


@pytest.mark.parametrize(
    ("end", "noise", "verdict"),
    [
        (45.0, NOISE[:2], UNDECIDED),  # no interval with two seeds, however large the difference
        (40.1, NOISE, UNDECIDED),  # the interval includes zero
        (35.0, NOISE, CONTRADICTED),
    ],
)
def test_the_interval_decides(end, noise, verdict):
    statement = check_statements([*base(), *runs("early", "EE_B", "fixed", end, noise=noise)], {})[0]
    assert (statement.verdict, statement.claims[0].findings[0].verdict) == (verdict, verdict)


def test_one_comparison_that_contradicts_outweighs_one_that_confirms():
    rows = [*base(), *runs("early", "EE_B", "fixed", 45.0), *runs("dense", "SE_D", "fixed", 41.0, noise=STILL),
            *runs("both", "EE_D", "fixed", 39.0)]  # fmt: skip
    statement = check_statements(rows, {})[0]
    assert [finding.verdict for finding in statement.claims[0].findings] == [CONFIRMED, CONTRADICTED]
    assert statement.verdict == CONTRADICTED


@pytest.mark.parametrize(("end", "verdict"), [(45.3, CONFIRMED), (46.0, UNDECIDED), (47.0, CONTRADICTED)])
def test_about_nothing_is_less_than_a_point_either_way(end, verdict):
    early = runs("early", "EE_B", "fixed", 45.0, noise=STILL)
    statement = only(check_statements([*early, *runs("both", "EE_D", "fixed", end)], {}))
    assert [claim.text for claim in statement.claims] == [
        "Dense skips change the accuracy of early-exit networks by less than 1 point"
    ]
    assert statement.verdict == verdict


def test_the_progressive_teacher_should_lower_only_single_exits_with_parallel_blocks():
    rows = [*base(), *runs("pet", "SE_B", "progressive", 42.0), *runs("P", "SE_P", "fixed", 38.0, noise=STILL),
            *runs("P-pet", "SE_P", "progressive", 36.0)]  # fmt: skip
    third = next(s for s in check_statements(rows, {}) if "progressive" in s.text)
    assert [[(f.arm, f.other, f.published, f.verdict) for f in claim.findings] for claim in third.claims] == [
        [("pet", "OFA", 2.4, CONFIRMED)],
        [("P-pet", "P", -1.8, CONFIRMED)],
    ]
    fourth = next(s for s in check_statements(rows, {}) if "Parallel" in s.text)
    assert [(f.arm, f.other) for f in fourth.claims[0].findings] == [("P", "OFA"), ("P-pet", "pet")]
    assert fourth.verdict == CONFIRMED


def test_the_phase_that_decides_whether_early_exits_lead_is_the_worst_one():
    rows = [*base(), *runs("early", "EE_B", "fixed", 45.0, full=20.0, kernel=34.0)]
    lead = check_statements(rows, {})[-1].claims[1]
    assert [(finding.phase, finding.verdict) for finding in lead.findings] == [("kernel", CONTRADICTED)]
    assert lead.verdict == CONTRADICTED


def test_only_arms_with_otherwise_equal_recipes_are_compared():
    rows = [*base(), *runs("early", "EE_B", "fixed", 45.0)]
    recipe = {"width_mult": 1.0, "teacher": "fixed", "description": "one"}
    same = {"OFA": recipe, "early": {**recipe, "teacher": "progressive", "description": "two"}}
    assert check_statements(rows, same) == check_statements(rows, {})
    assert check_statements(rows, {"OFA": recipe, "early": {**recipe, "width_mult": 1.2}}) == []


def test_arms_are_recognised_by_their_supernet_not_by_their_names():
    composed = runs("SE_B", "branches=conv1x1+transform,exits=every_stage", "fixed", 45.0)
    assert [f.arm for f in check_statements([*runs("EE_B", "SE_P", "fixed", 40.0, noise=STILL), *composed], {})[0]
            .claims[0].findings] == ["SE_B"]  # fmt: skip
    for supernet, teacher in (("skip=foreign", "fixed"), (None, "fixed"), ({"a": 1}, "fixed"), ("EE_B", "ema")):
        assert check_statements([*base(), *runs("other", supernet, teacher, 45.0)], {}) == []


def test_runs_that_have_not_finished_do_not_count_at_the_end():
    early = [{**each, "steps": [*each["steps"], "width-2"]} for each in runs("early", "EE_B", "fixed", 45.0)]
    statement = only(check_statements([*base(), *early], {}))
    assert statement.text.startswith("Early exits lag")


def test_the_full_phase_does_not_depend_on_the_teacher():
    rows = [*base(full=28.0), *runs("early-pet", "EE_B", "progressive", 45.0, full=18.0)]
    statement = only(check_statements(rows, {}))
    (claim,) = statement.claims
    assert [(f.arm, f.other, f.phase, f.verdict) for f in claim.findings] == [("early-pet", "OFA", "full", CONFIRMED)]
    assert claim.findings[0].difference.mean == pytest.approx(-10.0)


def test_the_published_values_are_within_the_statements_own_figures():
    fixed, progressive = PUBLISHED["fixed"], PUBLISHED["progressive"]
    added = {arm: round(progressive[arm] - fixed[arm], 1) for arm in fixed}
    assert {arm: value for arm, value in added.items() if value < 0} == {"SE_P": -1.8, "SE_DP": -2.5}
    assert (min(v for v in added.values() if v > 0), max(added.values())) == (1.6, 3.4)
    dense = [round(values["SE_D"] - values["SE_B"], 1) for values in (fixed, progressive)]
    assert dense == [1.1, 0.7]

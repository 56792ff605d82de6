"""The headline follows the intervals; without intervals it is undecided."""

from __future__ import annotations

import pytest
from support.report_samples import SE, results, row, seeds, shifted, two

from ofav2_plugins.report.headline import details, headline
from ofav2_plugins.study.summary import Summary


def said(value):
    summary = Summary(value)
    return headline(summary), " ".join(details(summary))


def test_a_difference_whose_interval_excludes_zero_is_stated_with_it():
    first, more = said(shifted(seeds(3), "OFAv2", 0.0, 1.0, -1.0))
    # 4.302653 * 1 / sqrt(3) = 2.48
    assert first == (
        "OFAv2 ends above the baseline OFA, by +5.50 points of top-1 accuracy (95 % interval +3.02 to +7.98, 3 seeds)."
    )
    assert more == ""


@pytest.mark.parametrize("n", [1, 2])
def test_below_three_seeds_a_large_difference_is_undecided_and_the_runs_are_shown(n):
    first, more = said(seeds(n))
    assert first == "Undecided: no arm shares 3 seeds with the baseline OFA, so no difference has an interval."
    assert f"OFAv2 {', '.join(['+5.50'] * n)}." in more
    assert "best at the end" not in first + more


def test_an_interval_that_includes_zero_is_undecided():
    first, more = said(shifted(seeds(3), "OFAv2", -5.0, 0.0, -10.0))
    assert first == "Undecided: no arm has a 95 % interval above zero for its difference from the baseline OFA."
    assert "Undecided, because the interval includes zero: OFAv2, +0.50 points" in more


def test_arms_below_the_baseline_are_named_as_such():
    value = shifted(seeds(3), "OFAv2", -15.0, -15.1, -14.9)
    first, more = said(value)
    assert first == "No arm ends above the baseline OFA: OFAv2 ends below it."
    assert "Below OFA: OFAv2, −9.50 points of top-1 accuracy (95 % interval −9.75 to −9.25, 3 seeds)." in more


def test_the_largest_of_several_gains_is_on_the_optimistic_side():
    value = seeds(3)
    value["rows"] += [row("more", seed, 73.0) for seed in range(3)]
    first, more = said(shifted(shifted(value, "more", 0.0, 0.1, -0.1), "OFAv2", 0.0, 0.1, -0.1))
    assert first.startswith("OFAv2 and more end above the baseline OFA; the largest difference is that of OFAv2, +5.50")
    assert "2 arms were compared, each at 95 %; the largest of several differences tends to be overestimated." in more


def test_means_over_different_numbers_of_seeds_are_not_compared():
    value = seeds(3)
    value["rows"].append(row("lucky", 0, base=99.0))
    first, more = said(value)
    assert first.startswith("OFAv2 ends above the baseline OFA")
    assert "lucky +29.00" in more
    assert "Arms have between 1 and 3 seeds: compare them by the differences" in more


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (results(row("OFA")), "OFA ends at 75.00 % top-1 accuracy."),
        (results(row("OFA"), row("OFA", 1)), "OFA ends at 75.06 % (mean of 2 seeds) top-1 accuracy."),
        (
            results(row("OFA"), row("X", names=SE[:3], steps=SE)),
            "Only OFA has finished so far (75.00 % top-1 accuracy)",
        ),
        (results(row("OFA", names=SE[:1], steps=SE), row("X"), row("Y")), "The baseline OFA has not finished, so"),
        (results(row("OFA"), row("X", 5)), "No finished arm shares a seed with the baseline OFA"),
        (results(), "No arm has finished yet"),
        (two(baseline="OFAv2"), "Undecided: no arm shares 3 seeds with the baseline OFAv2"),
    ],
)
def test_what_cannot_be_compared_is_not(value, expected):
    assert said(value)[0].startswith(expected)

"""The data of the charts: how arms look, which of them would flatten an axis, what the fronts are."""

from __future__ import annotations

import itertools
import json
import math

import pytest
from support.report_samples import results, row, seeds, shifted
from support.result_rows import subnet, with_subnets

from ofav2_plugins.report.chart_data import COLORS, SUBNET_COLUMNS, chart_data, outlying
from ofav2_plugins.study.summary import Summary


def linear(color):
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]


def oklab(color):
    """OKLab coordinates (Ottosson 2020), in which distances are about as large as they look."""
    r, g, b = linear(color)
    l_, m, s = (
        math.cbrt(x * r + y * g + z * b)
        for x, y, z in (
            (0.4122214708, 0.5363325363, 0.0514459929),
            (0.2119034982, 0.6806995451, 0.1073969566),
            (0.0883024619, 0.2817188376, 0.6299787005),
        )
    )
    return (
        0.2104542553 * l_ + 0.7936177850 * m - 0.0040720468 * s,
        1.9779984951 * l_ - 2.4285922050 * m + 0.4505937099 * s,
        0.0259040371 * l_ + 0.7827717662 * m - 0.8086757660 * s,
    )


def test_colors_are_distinct_and_visible_on_white_and_on_black():
    def contrast(color, other):
        luminances = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in (linear(color), linear(other))]
        return (max(luminances) + 0.05) / (min(luminances) + 0.05)

    for color in COLORS:
        assert min(contrast(color, "#ffffff"), contrast(color, "#14171b")) > 2
    nearest = [math.dist(oklab(a), oklab(b)) for a, b in itertools.combinations(COLORS[:12], 2)]
    assert min(nearest) > 0.12
    assert min(math.dist(oklab(a), oklab(b)) for a, b in itertools.combinations(COLORS, 2)) > 0.1


def test_nine_arms_differ_in_color_and_in_marker_and_a_hundred_in_their_combination():
    def looks(n):
        rows = [row("OFA", names=["full"]), *(row(f"arm {i}", names=["full"]) for i in range(n - 1))]
        return [(arm["color"], arm["marker"], arm["dash"]) for arm in chart_data(Summary(results(*rows)))["arms"]]

    for part in range(2):
        assert len({look[part] for look in looks(9)}) == 9
    assert len({color for color, *_ in looks(24)}) == 24
    assert len(set(looks(100))) == 100


def test_an_arm_that_would_flatten_the_others_is_outlying():
    close = {0: (36.0, 40.0), 1: (37.0, 41.0), 2: (36.5, 41.5)}
    assert outlying({**close, 3: (29.0, 39.0)}) == [3]
    assert outlying({**close, 3: (34.0, 39.0)}) == []
    assert outlying({**close, 3: (39.0, 60.0)}) == [3]
    assert outlying({**close, 3: (30.0, 31.0), 4: (29.0, 31.0), 5: (37.0, 38.0)}) == [3, 4]
    assert outlying({**close, 3: (30.0, 31.0), 4: (90.0, 91.0), 5: (37.0, 38.0)}) == [3, 4]


def test_at_most_a_third_of_the_arms_is_outlying_and_none_of_two():
    assert outlying({0: (10.0, 10.5), 1: (70.0, 71.0)}) == []
    assert outlying({0: (10.0, 11.0), 1: (12.0, 13.0), 2: (70.0, 71.0), 3: (71.0, 72.0)}) == []
    assert outlying({}) == []
    # differences of less than two points are not worth a closer look
    assert outlying({0: (70.0, 70.1), 1: (70.0, 70.2), 2: (70.1, 70.2), 3: (71.5, 71.6)}) == []


def test_a_bad_arm_is_outlying_in_every_chart_that_shows_it():
    rows = [row("OFA"), *(row(name, base=70.0 + i) for i, name in enumerate("abc")), row("bad", base=20.0)]
    data = chart_data(Summary(results(*rows)))
    bad = [arm["name"] for arm in data["arms"]].index("bad")
    assert data["accuracy"]["best_top1"]["outlying"] == [bad]
    assert data["outlying_subnets"] == [bad]
    assert [data["gains"][0]["rows"][i]["arm"] for i in data["gains"][0]["outlying"]] == [bad]


def test_fronts_are_chosen_on_validation():
    nets = [subnet(90.0, validation=50.0, macs=2), subnet(60.0, validation=60.0, macs=2), subnet(70.0, macs=5)]
    data = chart_data(Summary({"study": {"baseline": "a"}, "rows": [with_subnets("a", 0, "full", nets)]}))
    (front,) = data["fronts"]["macs"]
    top1 = SUBNET_COLUMNS.index("top1")
    assert [data["subnets"][i][top1] for i in front["rows"]] == [60.0, 70.0]
    assert data["costs"][0]["budgets"] == [2, 5]


def test_gains_can_be_seen_by_every_outcome_and_have_an_interval_from_three_seeds_on():
    for n in (1, 2, 3):
        groups = {group["key"]: group for group in chart_data(Summary(seeds(n)))["gains"]}
        assert next(iter(groups)) == "epochs"
        assert {"last_exit", "hypervolume"} <= set(groups)
        (gain,) = groups["epochs"]["rows"]
        assert gain["seeds"] == [[str(seed), 5.5] for seed in range(n)]
        assert gain["interval"] == (None if n < 3 else pytest.approx([5.5, 5.5]))


def test_the_legend_tells_the_numbers_of_seeds_if_they_differ():
    value = seeds(2)
    assert {arm["note"] for arm in chart_data(Summary(value))["arms"]} == {""}
    value["rows"].append(row("one"))
    assert [arm["note"] for arm in chart_data(Summary(value))["arms"]] == ["2 seeds", "2 seeds", "1 seed"]


def test_the_data_are_finite_json():
    data = chart_data(Summary(shifted(seeds(2), "OFAv2", math.inf, math.nan)))
    json.loads(json.dumps(data), parse_constant=pytest.fail)

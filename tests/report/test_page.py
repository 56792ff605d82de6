"""The page, parsed: it stands alone, its numbers are the input's, and names stay text."""

from __future__ import annotations

import json
import re

import pytest
from support.report_samples import EDGES, EE, NASTY, SE, page_of, printed, results, row, seeds, two, words

from ofav2_plugins.recipes.schema import load_recipe
from ofav2_plugins.study.results import load_results


def test_the_page_asks_for_nothing_outside_itself(tmp_path):
    page = page_of(seeds(), tmp_path)
    loading = (
        "src",
        "srcset",
        "href",
        "xlink:href",
        "action",
        "formaction",
        "poster",
        "data",
        "background",
        "ping",
    )
    for tag, attributes in page.tags:
        for name in loading:
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
    assert not re.search(r"https?:|//[a-z]|url\(|@import|\bimport\b|fetch\(|XMLHttp|WebSocket|sendBeacon", page.code)
    policy = [attributes["content"] for _, attributes in page.tags if "http-equiv" in attributes]
    assert policy[0].startswith("default-src 'none';")
    assert not page.open  # every tag is closed


def test_the_tables_of_the_page_are_the_input(tmp_path):
    value = two()
    page = page_of(value, tmp_path)
    accuracy = page.by_row("table-accuracy")
    assert list(page.tables["table-accuracy"][0]) == ["Arm", *EE]
    for each in value["rows"]:
        accuracies = {entry["name"]: f"{entry['best_top1']:.2f}" for entry in each["phases"]}
        assert accuracy[each["arm"]] == {name: accuracies.get(name, "–") for name in EE}
    assert page.by_row("table-ends")["OFAv2"] == {
        "Last phase": "width-2",
        "Seeds": "1",
        "Best": "80.50",
        "Mean": "78.50",
        "Worst": "76.50",
        "Gain": "+5.50",
    }
    assert page.by_row("table-exits")["OFAv2"] == {
        "After": "height-4",
        "Exit 1": "72.50",
        "Exit 3": "74.50",
        "Exit 5": "76.50",
    }
    assert page.by_row("table-time")["OFA"]["Total"] == "6.2"  # minutes
    data = json.loads(page.data)
    subnets = [
        [n, s["top1"], s["val_top1"], s["macs"]]
        for each in value["rows"]
        for n, entry in ((p["name"], p) for p in each["phases"])
        for s in entry["subnets"]
    ]
    assert [[data["phases"][s[2]], s[7], s[6], s[8]] for s in data["subnets"]] == subnets


def test_gains_over_several_seeds_have_an_interval(tmp_path):
    value = seeds()
    value["rows"][3]["phases"][-1]["best_top1"] += 1
    page = page_of(value, tmp_path)
    assert page.by_row("table-gains")["OFAv2"] == {
        "Compared at": "width-2",
        "Seeds": "2",
        "Mean gain": "6.00",
        "95 % from": "5.50",
        "95 % to": "6.50",
        "By seed": "+5.50, +6.50",
    }
    assert "the gain is +6.00 points, its 95 % interval +5.50 to +6.50 points" in words(page.text)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (
            two(),
            "OFAv2 is best at the end: 80.50 % top-1 accuracy, 5.50 points above the baseline OFA (75.00 %).",
        ),
        (two(), "Everything ran with one seed, so no interval can be given"),
        (
            two(baseline="OFAv2"),
            "No arm beats the baseline OFAv2 (80.50 %) at the end; OFA comes closest, 5.50 points",
        ),
        (
            results(row("OFA"), row("twin")),
            "No arm beats the baseline OFA (75.00 %) at the end; twin comes closest, with",
        ),
        (results(row("OFA")), "OFA ends at 75.00 % top-1 accuracy."),
        (
            results(row("OFA"), row("X", names=SE[:3], steps=SE)),
            "Only OFA has finished so far (75.00 % top-1 accuracy)",
        ),
        (
            results(row("OFA"), row("X", names=SE[:3], steps=SE)),
            "X is not finished: its last phase is depth-1, not width-2.",
        ),
        (results(row("OFA", base=60.0), row("X"), row("Y")), "X and Y are best at the end: 75.00 %"),
        (results(row("OFA", names=SE[:1], steps=SE), row("X"), row("Y")), "the baseline OFA has not finished"),
        (
            results({"arm": "OFA", "seed": 0, "error": "disk full"}, row("X")),
            "OFA, seed 0, failed: disk full",
        ),
        (results(), "No arm has a finished phase yet"),
        (results({"arm": "OFA", "seed": 3, "phases": []}), "OFA has no finished phase."),
    ],
)
def test_the_page_says_how_it_ended(tmp_path, value, expected):
    assert expected in words(page_of(value, tmp_path).text)


def test_the_page_says_whether_the_setting_is_the_papers(tmp_path):
    paper = load_recipe("paper", ["teacher=progressive"]).model_dump()
    own = {**paper, "width_mult": 0.5}
    warning = "not the paper’s numbers"
    assert warning in words(page_of(two(), tmp_path).text)
    assert warning in words(page_of(results(row("OFA"), dataset="tiny-imagenet"), tmp_path).text)
    assert warning in words(page_of(two(dataset="tiny-imagenet", recipes={"OFA": paper, "OFAv2": own}), tmp_path).text)
    assert warning in words(page_of(two(dataset="cifar10", recipes={"OFA": paper}), tmp_path).text)
    same = words(page_of(two(dataset="tiny-imagenet", recipes={"OFA": paper, "OFAv2": paper}), tmp_path).text)
    assert warning not in same
    assert "Dataset and training are the paper’s" in same


def test_names_are_text_wherever_they_appear(tmp_path):
    value = results(row("OFA"), *(row(name, names=[*EE, "</script><b>"]) for name in NASTY), description=NASTY[1])
    value["study"]["command"] = value["environment"]["machine"] = NASTY[0]
    value["rows"].append({"arm": "broken", "seed": NASTY[1], "error": NASTY[0]})
    page = page_of(value, tmp_path)
    plain = page_of(two(), tmp_path / "plain")
    assert {tag for tag, _ in page.tags} == {tag for tag, _ in plain.tags} | {"ul", "li"}
    assert sum(tag == "script" for tag, _ in page.tags) == sum(tag == "script" for tag, _ in plain.tags)
    assert page.code == plain.code
    assert [arm["name"] for arm in json.loads(page.data)["arms"]] == ["OFA", *NASTY, "broken"]
    assert set(page.by_row("table-accuracy")) == {"OFA", *NASTY, "broken"}


@pytest.mark.parametrize("value", EDGES.values(), ids=EDGES)
def test_nothing_breaks_the_report(tmp_path, value):
    (tmp_path / "results.json").write_text(json.dumps(value))
    page = page_of(load_results(tmp_path), tmp_path)
    json.loads(page.data, parse_constant=pytest.fail)  # NaN would stop the browser
    assert "nan" not in re.findall(r"\w+", page.text.lower())
    assert printed(value)
    for each in value["rows"]:
        assert each["arm"] in page.by_row("table-ends")

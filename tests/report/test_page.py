"""The page, parsed: it loads nothing, its numbers are the input's, and names stay text."""

from __future__ import annotations

import json
import re

import pytest
from support.report_samples import EDGES, EE, NASTY, SE, page_of, printed, results, row, seeds, shifted, two, words

from ofav2_plugins.recipes.schema import load_recipe
from ofav2_plugins.study.results import load_results


def test_the_page_loads_nothing_from_outside(tmp_path):
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
    assert not re.search(
        r"https?:|//[a-z]|url\((?!#)|@import|\bimport\b|fetch\(|XMLHttp|WebSocket|sendBeacon", page.code
    )
    policy = [attributes["content"] for _, attributes in page.tags if "http-equiv" in attributes]
    assert policy[0].startswith("default-src 'none';")
    assert not page.open  # every tag is closed


def test_the_tables_of_the_page_are_the_input(tmp_path):
    value = two()
    page = page_of(value, tmp_path)
    accuracy = page.by_row("table-accuracy")
    assert list(page.tables["table-accuracy"][0]) == ["Arm", "Seeds", *EE]
    for each in value["rows"]:
        accuracies = {entry["name"]: f"{entry['best_top1']:.2f}" for entry in each["phases"]}
        assert accuracy[each["arm"]] == {"Seeds": "1", **{name: accuracies.get(name, "–") for name in EE}}
    assert page.by_row("table-outcomes")["OFAv2"] == {
        "Seeds": "1",
        "Last phase": "width-2",
        "Best subnet": "80.50",
        "Last exit": "80.50",  # the subnet with the most MACs
        "Hypervolume": "44.80",  # (4.1 * 76.5 + 2.1 * 2 + 0.1 * 2) / 7.1
        "Compute": "–",
        "Difference": "1 seed: +5.50",
    }
    assert page.by_row("table-exits")["OFAv2"] == {
        "Seeds": "1",
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


def test_gains_have_an_interval_from_three_seeds_on(tmp_path):
    page = page_of(shifted(seeds(3), "OFAv2", 0.0, 1.0, -1.0), tmp_path)
    assert page.by_row("table-gains")["OFAv2"] == {
        "Compared at": "width-2",
        "Seeds": "3",
        "Mean": "5.50",
        "95 % from": "3.02",
        "95 % to": "7.98",
        "By seed": "0: +5.50, 1: +6.50, 2: +4.50",
    }
    assert page.by_row("table-outcomes")["OFAv2"]["Difference"] == "3 seeds: +5.50 (+3.02 to +7.98)"
    assert "by +5.50 points of top-1 accuracy (95 % interval +3.02 to +7.98, 3 seeds)" in words(page.text)
    few = page_of(seeds(2), tmp_path / "few").by_row("table-gains")["OFAv2"]
    assert [few[key] for key in ("Mean", "95 % from", "95 % to")] == ["–"] * 3
    assert few["By seed"] == "0: +5.50, 1: +5.50"


def test_every_table_that_shows_means_shows_their_numbers_of_seeds(tmp_path):
    value = seeds(2)
    value["rows"].append(row("once"))
    value["rows"][3]["phases"] = value["rows"][3]["phases"][:-1]  # OFAv2, seed 1, is still running
    page = page_of(value, tmp_path)
    seeds_of = {arm: cells["Seeds"] for arm, cells in page.by_row("table-accuracy").items()}
    assert seeds_of == {"OFA": "2", "OFAv2": "2", "once": "1"}
    assert page.by_row("table-accuracy")["OFAv2"]["width-2"] == "80.50 (1)"
    for table in ("outcomes", "budgets", "exits"):
        assert "Seeds" in page.tables[f"table-{table}"][0]
    assert "Arms have between 1 and 2 seeds" in words(page.text)


def test_a_failed_arm_shows_no_gain(tmp_path):
    failed = {**row("X", base=90.0, names=SE[:3], steps=SE), "error": "disk full"}
    never = {"arm": "Y", "seed": 0, "error": "no memory"}
    page = page_of(results(row("OFA"), row("Z"), failed, never), tmp_path)
    assert set(page.by_row("table-gains")) == {"Z"}
    outcomes = page.by_row("table-outcomes")
    assert (outcomes["X"]["Difference"], outcomes["X"]["Last phase"]) == ("–", "depth-1, failed")
    assert (outcomes["Y"]["Difference"], outcomes["Y"]["Last phase"]) == ("–", "failed")
    assert outcomes["Z"]["Difference"] == "1 seed: +0.00"
    running = page_of(results(row("OFA"), row("X", base=90.0, names=SE[:3], steps=SE)), tmp_path / "running")
    assert running.by_row("table-outcomes")["X"]["Difference"] == "–"
    assert running.by_row("table-outcomes")["X"]["Last phase"] == "depth-1, unfinished"


def test_the_page_says_what_the_arms_consist_of(tmp_path):
    value = results(row("OFA"), {**row("mine"), "supernet": "branches=avg_pool,skip=dense"})
    value["study"]["recipes"] = {
        "OFA": {"distillation": "kl", "kd_ratio": 1.0},
        "mine": {"distillation": {"name": "kl", "temperature": 4}, "kd_ratio": 1.0},
    }
    page = page_of(value, tmp_path)
    assert page.by_row("table-arms") == {
        "OFA": {"supernet": "SE_B", "branches": "none", "skip": "residual", "distillation": "kl"},
        "mine": {
            "supernet": "branches=avg_pool,skip=dense",
            "branches": "avg_pool",
            "skip": "dense",
            "distillation": "kl (temperature 4)",
        },
    }
    assert "kd_ratio1.0" in "".join(page.text.split())


def test_the_papers_statements_are_shown_if_there_are_arms_for_them(tmp_path):
    value = seeds(3)
    assert "statements" not in [a.get("id") for _, a in page_of(value, tmp_path / "without").tags]
    for each in value["rows"]:
        each["supernet"] = "EE_B" if each["arm"] == "OFAv2" else "SE_B"
    page = page_of(shifted(value, "OFAv2", 0.0, 0.1, -0.1), tmp_path)
    assert "1. Early exits give the gain. confirmed" in words(page.text)
    assert page.by_row("table-claim-1-1")["OFAv2 against OFA"] == {
        "Points": "+5.50 (+5.25 to +5.75)",
        "Verdict": "confirmed",
        "Seeds": "3",
        "After": "width-2",
        "Paper": "+9.0",
    }
    assert "contradicted" in words(page.text)  # they lead after the full phase already


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (two(), "Undecided: no arm shares 3 seeds with the baseline OFA"),
        (
            results(row("OFA"), row("X", names=SE[:3], steps=SE)),
            "X is not finished: its last phase is depth-1, not width-2.",
        ),
        (results({"arm": "OFA", "seed": 0, "error": "disk full"}, row("X")), "OFA, seed 0, failed: disk full"),
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
def test_edge_cases_give_a_report(tmp_path, value):
    (tmp_path / "results.json").write_text(json.dumps(value))
    page = page_of(load_results(tmp_path), tmp_path)
    json.loads(page.data, parse_constant=pytest.fail)  # NaN would stop the browser
    assert "nan" not in re.findall(r"\w+", page.text.lower())
    assert printed(value)
    for each in value["rows"]:
        assert each["arm"] in page.by_row("table-outcomes")

"""The format of results.json: loading and merging."""

from __future__ import annotations

import copy
import json
import math
import re

import pytest
from support.report_samples import EE, SE, results, row, two

from ofav2_plugins.errors import UserError
from ofav2_plugins.study.results import load_results, merge_results


def test_results_are_read_from_a_folder_and_from_a_file(tmp_path):
    (tmp_path / "results.json").write_text(json.dumps(two()))
    assert load_results(tmp_path) == load_results(tmp_path / "results.json") == two()


def changed(**entries):
    return json.dumps({**two(), **entries})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "damaged"),
        ('{"study": ', "damaged"),
        ("[1, 2]", "the whole"),
        ("{}", "study: Field required"),
        (changed(rows=None), "rows: "),
        (changed(rows=[{"arm": "OFA"}, {"seed": 1}]), r"rows\[1\].arm: Field required"),
        (
            changed(rows=[{"arm": "A", "phases": [{"name": "full", "best_top1": "7"}]}]),
            r"phases\[0\].best_top1: ",
        ),
        (changed(study={"baseline": 3}), "study.baseline: "),
        (changed(format="ofav2-results-9"), "ofav2-results-9"),
    ],
)
def test_a_file_that_is_not_a_results_file_is_named(tmp_path, text, problem):
    file = tmp_path / "results.json"
    file.write_text(text)
    with pytest.raises(UserError, match=problem) as caught:
        load_results(tmp_path)
    assert str(file) in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=re.escape(str(tmp_path / "results.json"))):
        load_results(tmp_path)
    with pytest.raises(UserError, match="nowhere"):
        load_results(tmp_path / "nowhere")


def test_merging_joins_rows_recipes_and_commands():
    first, second = results(row("OFA")), results(row("OFAv2", names=EE), row("OFA", 1))
    second["study"]["command"] = "ofav2 ablate mine.yaml --out y"
    second["environment"]["torch"] = "2.6.0"
    untouched = copy.deepcopy((first, second))
    merged = merge_results([first, second])
    assert (first, second) == untouched
    assert merged["rows"] == [row("OFA"), row("OFAv2", names=EE), row("OFA", 1)]
    assert set(merged["study"]["recipes"]) == {"OFA", "OFAv2"}
    assert merged["study"]["command"].splitlines() == [
        "ofav2 ablate quick --out x",
        "ofav2 ablate mine.yaml --out y",
    ]
    assert merged["environment"] == {**first["environment"], "torch": "2.5.1; 2.6.0"}
    assert merge_results([first]) == first


def test_a_row_that_is_there_twice_counts_once_if_equal_and_is_an_error_if_not():
    value = two()
    value["rows"][0]["phases"][0]["mean_top1"] = math.nan
    assert len(merge_results([value, copy.deepcopy(value)])["rows"]) == 2
    other = two()
    other["rows"][1]["phases"][0]["seconds"] = 1e6
    assert merge_results([two(), other])["rows"] == two()["rows"]
    other["rows"][1]["phases"][0]["best_top1"] += 1
    with pytest.raises(UserError, match="'OFAv2' with seed 0"):
        merge_results([two(), other])


def test_a_row_that_failed_gives_way_to_one_that_did_not():
    failed = {**row("OFA", names=SE[:2], steps=SE), "error": "out of memory"}
    earlier = {**failed, "phases": failed["phases"][:1]}
    for parts in ([failed], [earlier, failed], [failed, earlier]):
        for runs in ([*parts, row("OFA")], [row("OFA"), *parts]):
            assert merge_results([results(run) for run in runs])["rows"] == [row("OFA")]
        assert merge_results([results(run) for run in parts])["rows"] == [failed]
    begun = row("OFA", names=SE[:1], steps=SE)
    for runs, kept in (([begun, failed], failed), ([row("OFA"), begun], row("OFA")), ([begun, row("OFA")], row("OFA"))):
        assert merge_results([results(run) for run in runs])["rows"] == [kept]


def test_runs_that_cannot_be_compared_are_not_merged():
    assert merge_results([two(), two(baseline="other")])["study"]["baseline"] == "OFA"
    with pytest.raises(UserError, match="agree in dataset, but got 'fashion-mini' and 'cifar10'"):
        merge_results([two(), two(dataset="cifar10")])
    with pytest.raises(UserError, match="'OFA' has different recipes"):
        merge_results([two(), two(recipes={"OFA": {"width_mult": 1.0}})])
    with pytest.raises(UserError, match="at least one"):
        merge_results([])

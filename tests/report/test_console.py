"""Results files, merging, the console table, and the files beside the page."""

from __future__ import annotations

import copy
import csv
import json
import math
import re

import pytest
from support.report_samples import EE, SE, printed, results, row, seeds, two

from ofav2_plugins.errors import UserError
from ofav2_plugins.report.page import write_report
from ofav2_plugins.study.results import load_results, merge_results


def test_results_are_read_from_a_folder_and_from_a_file(tmp_path):
    (tmp_path / "results.json").write_text(json.dumps(two()))
    assert load_results(tmp_path) == load_results(tmp_path / "results.json") == two()


def changed(**entries):
    return json.dumps({**two(), **entries})


@pytest.mark.parametrize(
    ("text", "where"),
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
def test_what_is_no_results_file_is_refused_by_name(tmp_path, text, where):
    file = tmp_path / "results.json"
    file.write_text(text)
    with pytest.raises(UserError, match=where) as caught:
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


def test_the_console_table_has_every_number():
    text = printed(two())
    assert re.search(r"^OFA +70.00 +71.00 +– +– +– +– +72.00 +73.00 +74.00 +75.00 *$", text, re.M)
    assert re.search(r"^OFA +width-2 +1 +75.00 +73.00 +71.00 +baseline *$", text, re.M)
    assert re.search(r"^OFAv2 +width-2 +1 +80.50 +78.50 +76.50 +\+5.50 *$", text, re.M)


@pytest.mark.parametrize("width", [60, 100, 200])
def test_the_console_table_fits_and_cuts_nothing_off(width):
    names = [
        "OFA",
        "[red]no markup[/red]",
        "branches=conv1x1+transform,skip=dense,exits=every_stage",
        "日本語" * 9,
    ]
    phases = [*SE[:2], "level-1", "level-2", *EE[2:], "an-extremely-long-phase-of-a-plugin"]
    text = printed(results(*(row(name, names=phases) for name in names)), width)
    assert max(len(line) for line in text.splitlines()) <= min(width, 100)
    assert "…" not in text
    squeezed = re.sub(r"\s", "", text)
    for name in ("[red]nomarkup[/red]",):
        assert squeezed.count(name) >= 2
    for i in range(len(phases)):
        assert f"{70 + i:.2f}" in text


def test_the_same_results_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_report(seeds(), tmp_path / name)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert {str(file) for file in files} >= {
        "report.html",
        "charts/accuracy-by-phase.png",
        "charts/accuracy-by-macs.png",
        "charts/accuracy-by-exit.png",
        "charts/accuracy-by-parameters.png",
        "charts/gains.png",
        "tables/accuracy.csv",
        "tables/gains.tex",
    }
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_csv_has_the_numbers_and_quotes_the_names(tmp_path):
    value = results(row("OFA"), row('a,"b"\nc', base=70.123456789))
    write_report(value, tmp_path)
    with open(tmp_path / "tables" / "runs.csv", newline="", encoding="utf-8") as file:
        found = [(line["arm"], line["phase"], float(line["best_top1"])) for line in csv.DictReader(file)]
    assert found == [(each["arm"], p["name"], p["best_top1"]) for each in value["rows"] for p in each["phases"]]
    with open(tmp_path / "tables" / "subnets.csv", newline="", encoding="utf-8") as file:
        subnets = list(csv.DictReader(file))
    assert len(subnets) == 2 * 6 * 3
    assert subnets[0] == {
        "arm": "OFA",
        "seed": "0",
        "phase": "full",
        "d": "4",
        "ks": "3",
        "e": "6",
        "level": "",
        "height": "",
        "other": "",
        "resolution": "32",
        "ensemble": "False",
        "val_top1": "66.25",
        "top1": "66.0",
        "macs": "3000005",
        "params": "300000",
        "latency_ms": "",
    }


def test_tex_escapes_what_tex_would_take_for_commands(tmp_path):
    write_report(results(row("OFA"), row(r"50 % of \SE_B & {x} #1 $~^")), tmp_path)
    lines = (tmp_path / "tables" / "accuracy.tex").read_text(encoding="utf-8").splitlines()
    assert lines[1] == r"\begin{tabular}{lrrrrrr}"
    assert lines[-2].startswith(
        r"50 \% of \textbackslash{}SE\_B \& \{x\} \#1 \$\textasciitilde{}\textasciicircum{} & 70.00 & 71.00 &"
    )
    assert all(line.endswith(r"\\") for line in [lines[2], *lines[4:-1]])

"""The `search:` section of a study: every arm is searched under the same budgets, and the report begins with them."""

from __future__ import annotations

import json
import shutil

import pytest
from support.report_samples import page_of
from support.study_samples import RECIPE, STUDY
from typer.testing import CliRunner

from ofav2_plugins.cli.main import app
from ofav2_plugins.errors import RunError, UserError
from ofav2_plugins.execution.open_run import open_run
from ofav2_plugins.search.session import Search
from ofav2_plugins.study.results import load_results
from ofav2_plugins.study.schema import load_study, study_arms
from ofav2_plugins.utils.files import write_record
from ofav2_plugins.utils.tensor_files import load_checkpoint, save_checkpoint

SEARCH = "search: {samples: 20, evaluations: 200, front_size: 3%s}\n"


def ablate(folder, *arguments: object) -> str:
    command = ["ablate", folder / "study.yaml", "--out", folder / "out", "--threads", "1", "--device", "cpu"]
    result = CliRunner().invoke(app, list(map(str, [*command, *arguments])), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def written(folder, more: str = ""):
    (folder / "mine.yaml").write_text(
        RECIPE.replace("max_subnets: 2, final_trunks: 2", "max_subnets: 1, final_trunks: 1")
    )
    (folder / "study.yaml").write_text(STUDY.replace("b, supernet: SE_D", "b, supernet: EE_B") + SEARCH % more)
    return folder


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = written(tmp_path_factory.mktemp("study"))
    return folder, ablate(folder)


def test_every_arm_is_searched_under_the_budgets_of_the_baseline(searched):
    folder, _ = searched
    results = load_results(folder / "out")
    base, exits = (row["search"] for row in results["rows"])
    budgets = [each["budget"] for each in base["budgets"]]
    assert budgets == [each["budget"] for each in exits["budgets"]] == results["study"]["search"]["budgets"]
    assert budgets == sorted(budgets) and budgets[-1] == pytest.approx(base["max_cost"], rel=0.01)
    assert base["max_cost"] == exits["max_cost"]
    for found in (base, exits):
        own = folder / "out" / found["folder"]
        front = json.loads((own / "search.json").read_text())["front"]
        for each in found["budgets"]:
            within = [net for net in front if net["macs"] <= each["budget"]]
            assert ("arch" in each) == bool(within)
            if within:
                assert each["val_top1"] == max(net["val_top1"] for net in within)
                assert json.loads((own / each["file"]).read_text())["arch"] == each["arch"]


def test_the_reports_first_table_is_the_accuracy_within_each_budget(searched, tmp_path):
    folder, output = searched
    results = load_results(folder / "out")
    page = page_of(results, tmp_path)
    assert next(iter(page.tables)) == "table-searched"
    best = results["rows"][1]["search"]["budgets"][-1]["top1"]
    row = page.by_row("table-searched")["b"]
    assert f"{best:.2f}" in row.values() and set(row) >= {"Seeds", "Hypervolume"}
    assert set(page.by_row("table-searched-differences")) == {"b"}
    assert "The selected subnet within each budget" in output


def test_a_resumed_study_keeps_finished_searches_and_repeats_lost_ones(searched):
    folder, _ = searched
    before = load_results(folder / "out")
    kept, lost = (folder / "out" / row["search"]["folder"] / "search.json" for row in before["rows"])
    times = kept.stat().st_mtime_ns
    lost.unlink()
    (folder / "out" / "results.json").unlink()
    ablate(folder, "--resume")
    after = load_results(folder / "out")
    assert kept.stat().st_mtime_ns == times
    for old, new in zip(before["rows"], after["rows"], strict=True):
        assert (new["search"]["budgets"], new["search"]["hypervolume"]) == (
            old["search"]["budgets"],
            old["search"]["hypervolume"],
        )


def test_results_of_another_run_are_rejected_and_rebuilt(searched, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(searched[0], folder)
    before = load_results(folder / "out")
    other = {**before, "study": {**before["study"], "identity": "another"}}
    for row in other["rows"]:
        row["phases"][0]["best_top1"] = 99.0
    write_record(folder / "out" / "results.json", other)
    with pytest.raises(RunError, match=r"results.json is of another run than the run.json next to it"):
        load_results(folder / "out")
    assert "is of another run" in ablate(folder, "--resume")
    assert load_results(folder / "out")["rows"] == load_results(searched[0] / "out")["rows"]


def test_a_search_of_another_arm_or_of_earlier_weights_is_not_published(searched, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(searched[0], folder)
    before = [row["search"] for row in load_results(folder / "out")["rows"]]
    a, b = (folder / "out" / found["folder"] / "search.json" for found in before)
    shutil.copy(a, b)
    run = open_run(folder / "out", "a")
    best = run.step_folder(run.finished_steps[-1]) / "best.safetensors"
    tensors, meta = load_checkpoint(best)
    save_checkpoint(best, {name: value * 0.5 for name, value in tensors.items()}, meta)
    ablate(folder, "--resume")
    after = [row["search"] for row in load_results(folder / "out")["rows"]]
    assert after[0]["folder"] != before[0]["folder"]
    assert (after[1]["folder"], after[1]["budgets"]) == (before[1]["folder"], before[1]["budgets"])


def test_an_unexpected_failure_of_one_search_is_recorded_and_the_others_continue(searched, tmp_path, monkeypatch):
    folder = tmp_path / "copy"
    shutil.copytree(searched[0], folder)
    for row in load_results(folder / "out")["rows"]:
        (folder / "out" / row["search"]["folder"] / "search.json").unlink()
    fit = Search.fit

    def fail_for_the_first_arm(search, samples):
        if search.run.config.name == "a":
            raise ZeroDivisionError("a defect of a predictor")
        return fit(search, samples)

    monkeypatch.setattr(Search, "fit", fail_for_the_first_arm)
    command = [
        "ablate",
        folder / "study.yaml",
        "--out",
        folder / "out",
        "--threads",
        "1",
        "--device",
        "cpu",
        "--resume",
    ]
    done = CliRunner().invoke(app, list(map(str, command)))
    assert "search of a, seed 0 failed: ZeroDivisionError: a defect of a predictor" in done.output
    broken, other = (row["search"] for row in load_results(folder / "out")["rows"])
    assert broken["error"].endswith("(traceback in logs/search-a-0.txt)")
    assert "fail_for_the_first_arm" in (folder / "out" / "logs" / "search-a-0.txt").read_text()
    assert other["budgets"] and "error" not in other


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (", objectives: [top1]", "objectives must include a cost"),
        (", objectives: [top1, latency]", "a study cannot search by latency_ms"),
        (", objectives: [top1, expected_macs]", "a study cannot search by expected_macs"),
        (", searcher: magic", "unknown plugin 'magic' in ofav2.searchers"),
        (", sample: 3", "search.sample"),
    ],
)
def test_a_wrong_section_is_an_error_of_the_file(tmp_path, more, words):
    with pytest.raises(UserError, match=words):
        study_arms(load_study(str(written(tmp_path, more) / "study.yaml")))


def test_limits_that_no_architecture_of_an_arm_satisfies_are_an_error_before_the_training(tmp_path):
    with pytest.raises(
        UserError, match=r"search of arm 'a': no architecture has MACs of at most 1000.*raise the limit"
    ):
        ablate(written(tmp_path, ", limits: {macs: 1000}"))
    assert not (tmp_path / "out").exists()

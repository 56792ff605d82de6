"""`ofav2 train`, then `ofav2 search`, on the embedded photographs; resume after a kill; bad input."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from support import commands
from support.study_samples import RECIPE
from typer.testing import CliRunner

import ofav2_plugins as ofav2
from ofav2_plugins.cli.main import app
from ofav2_plugins.errors import UserError
from ofav2_plugins.evaluation.accuracy import Evaluator
from ofav2_plugins.evaluation.candidates import Candidate
from ofav2_plugins.evaluation.latency_table import FORMAT, Correction, LatencyTable, Validation, write_table
from ofav2_plugins.executors.serial import Serial
from ofav2_plugins.search.results import search_content
from ofav2_plugins.search.session import Search, SearchContext
from ofav2_plugins.search.settings import SearchSettings
from ofav2_plugins.search.workers import MeterSource
from ofav2_plugins.utils.distributed import make_fabric
from ofav2_plugins.utils.progress import Reporter
from ofav2_plugins.utils.signals import StopRequest
from ofav2_plugins.utils.tensor_files import load_checkpoint, save_checkpoint

SMALL = ["--samples", "20", "--evaluations", "300", "--front-size", "4", "--threads", "1", "--device", "cpu"]


def call(*arguments: object) -> str:
    """Run a command in this process; its error is raised."""
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    recipe = folder / "tiny.yaml"
    recipe.write_text(RECIPE.replace("max_subnets: 2, final_trunks: 2", "max_subnets: 1, final_trunks: 1"))
    call("train", "--supernet", "EE_D", "--recipe", recipe, "--out", folder / "run", "--threads", "1")
    return folder / "run"


@pytest.fixture(scope="module")
def found(trained):
    out = trained.parent / "search"
    output = call("search", trained, "--out", out, *SMALL, "--budgets", "2e5,4e5,1e6")
    return json.loads((out / "search.json").read_text()), out, output


def test_with_json_standard_output_is_the_content_of_search_json(found, trained):
    content, out, _ = found
    options = ["--out", out, *SMALL, "--budgets", "2e5,4e5,1e6", "--resume", "--json"]
    result = CliRunner().invoke(app, list(map(str, ["search", trained, *options])), catch_exceptions=False)
    shown = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert shown["front"] == content["front"]


def test_search_finds_a_front_and_prints_the_table_and_the_next_command(found, trained):
    content, out, output = found
    assert content["predictor"]["samples"] >= 20 and content["evaluations"] == 300
    assert 0 < content["random_hypervolume"] <= 1 and 0 < content["hypervolume"] <= 1
    macs = [row["macs"] for row in content["front"]]
    top1 = [row["val_top1"] for row in content["front"]]
    assert macs == sorted(macs) and top1 == sorted(top1)
    assert [row["budget"] for row in content["budgets"]] == [2e5, 4e5, 1e6]
    for row in content["budgets"]:
        best = [net["val_top1"] for net in content["front"] if net["macs"] <= row["budget"]]
        assert (row["front"] is None) == (not best)
        assert not best or content["front"][row["front"]]["val_top1"] == max(best)
    assert "ofav2 export" in output and "archs/" in output
    assert (out / "front.png").stat().st_size > 10_000 and "data:image/png" in (out / "report.html").read_text()
    assert len(list((out / "archs").iterdir())) == len(content["front"])


def test_the_front_is_measured_for_real_and_costs_what_it_says(found, trained):
    _, out, _ = found
    run = ofav2.open_run(trained)
    net, evaluator = run.supernet(), Evaluator(run.data(), run.config.recipe, make_fabric("cpu"), run.config.seed)
    row = json.loads((out / "archs" / "00.json").read_text())
    measured = evaluator.measure(net, Candidate(row["arch"], row["resolution"]))
    assert (measured.val_top1, measured.top1) == pytest.approx((row["val_top1"], row["top1"]))
    assert (measured.macs, measured.params) == (row["macs"], row["params"])
    unlocked = run.unlocked_space()
    assert set(row["arch"]["e"]) <= set(unlocked.unlocked_values("e")) == {6}  # no width phase was trained


def test_a_search_that_was_cut_off_continues_to_the_same_result(found, trained, tmp_path):
    content, out, _ = found
    again = tmp_path / "again"
    shutil.copytree(out, again)
    lines = (again / "samples.jsonl").read_text().splitlines(keepends=True)
    (again / "samples.jsonl").write_text("".join(lines[:3]) + lines[3][:50])
    for name in ("candidates.jsonl", "search.json"):
        (again / name).unlink()
    with pytest.raises(UserError, match="add --resume"):
        call("search", trained, "--out", again, *SMALL, "--budgets", "2e5,4e5,1e6")
    call("search", trained, "--out", again, *SMALL, "--budgets", "2e5,4e5,1e6", "--resume")
    repeated = json.loads((again / "search.json").read_text())
    assert [row["arch"] for row in repeated["front"]] == [row["arch"] for row in content["front"]]
    assert repeated["front"][0]["top1"] == content["front"][0]["top1"]


@pytest.mark.slow
def test_a_search_that_is_killed_at_random_moments_ends_like_one_that_is_not(found, trained, tmp_path):
    content, _, _ = found
    out, rng = tmp_path / "killed", random.Random(0)
    command = [sys.executable, "-m", "ofav2_plugins", "search", str(trained), "--out", str(out), *SMALL]
    command += ["--budgets", "2e5,4e5,1e6", "--resume"]
    for file, lines in (("samples.jsonl", 2), ("samples.jsonl", 4), ("candidates.jsonl", 3)):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while process.poll() is None and _lines(out / file) < lines:
            time.sleep(0.05)
        time.sleep(rng.uniform(0, 0.3))
        process.kill()
        process.wait()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    repeated = json.loads((out / "search.json").read_text())
    for key in ("front", "budgets", "hypervolume", "measured_hypervolume", "predictor", "points"):
        assert repeated[key] == content[key], key


def _lines(path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_test_images_change_nothing_but_the_reported_accuracy(found, trained, tmp_path):
    """The same search with shuffled labels of the test images."""
    right, _, _ = found
    settings = SearchSettings(samples=20, evaluations=300, front_size=4, budgets=[2e5, 4e5, 1e6])
    search = Search(MeterSource(trained, None, None, "kernel", None, "cpu", 0.8, 1), settings)
    evaluator = search.meter.evaluator
    order = np.random.default_rng(0).permutation(len(evaluator.data.test))
    test = replace(evaluator.data.test, labels=evaluator.data.test.labels[order])
    evaluator.data = replace(evaluator.data, test=test)
    result = search.result(SearchContext(tmp_path, Reporter(Console(quiet=True), 1), StopRequest(), Serial()))
    wrong = json.loads(json.dumps(search_content(result, {})))
    assert '"val_top1"' in (samples := (tmp_path / "samples.jsonl").read_text()) and '"top1"' not in samples
    assert [row["top1"] for row in right["front"]] != [row["top1"] for row in wrong["front"]]
    for key in ("budgets", "predictor", "hypervolume", "measured_hypervolume", "points"):
        assert right[key] == wrong[key], key
    for ours, theirs in zip(right["front"], wrong["front"], strict=True):
        assert {**ours, "top1": None} == {**theirs, "top1": None}


def test_a_limit_on_the_accuracy_that_nothing_reaches_names_the_closest(trained, found, tmp_path):
    words = r"top-1 accuracy in % at least 99.*the closest has top-1 accuracy in % [\d.]+, by \{.*relax a limit"
    with pytest.raises(UserError, match=words):
        call("search", trained, "--out", tmp_path / "x", *SMALL, "--min-top1", "99", "--samples-from", found[1])


def test_weights_and_measurements_of_another_training_are_rejected(trained, found, tmp_path):
    other = tmp_path / "run"
    shutil.copytree(trained, other)
    full, kernel = (next((other / "steps").glob(f"{name}-*")) for name in ("full", "kernel"))
    shutil.copy(full / "best.safetensors", kernel / "best.safetensors")
    with pytest.raises(UserError, match=r"best.safetensors"):
        call("search", other, "--out", tmp_path / "x", *SMALL)
    with pytest.raises(UserError, match=r"samples.jsonl was measured on another run or with other settings: step was"):
        call("search", trained, "--out", tmp_path / "y", *SMALL, "--step", "full", "--samples-from", found[1])


def test_measurements_of_earlier_weights_of_the_same_step_are_rejected(found, trained, tmp_path):
    retrained, out = tmp_path / "run", tmp_path / "search"
    shutil.copytree(trained, retrained)
    shutil.copytree(found[1], out)
    again = ["search", retrained, *SMALL, "--budgets", "2e5,4e5,1e6"]
    call(*again, "--out", out, "--resume")
    [best] = retrained.glob("steps/kernel-*/best.safetensors")
    tensors, meta = load_checkpoint(best)
    save_checkpoint(best, {name: value * 0.5 for name, value in tensors.items()}, meta)
    with pytest.raises(UserError, match=r"contains another run: measured.weights was .*choose another --out"):
        call(*again, "--out", out, "--resume")
    with pytest.raises(UserError, match=r"samples.jsonl was measured on another run.*weights was"):
        call(*again, "--out", tmp_path / "y", "--samples-from", out)


def test_measurements_of_the_front_are_not_taken_for_samples(found, trained, tmp_path):
    out = tmp_path / "search"
    shutil.copytree(found[1], out)
    shutil.copy(out / "samples.jsonl", out / "candidates.jsonl")
    with pytest.raises(UserError, match=r"candidates.jsonl was measured .*splits was \['validation'\]"):
        call("search", trained, "--out", out, *SMALL, "--budgets", "2e5,4e5,1e6", "--resume")


def test_doctor_checks_the_files_of_a_search(found, tmp_path):
    out = tmp_path / "search"
    shutil.copytree(found[1], out)
    assert commands.ofav2("doctor", "--run", out).returncode == 0
    archs = out / "archs"
    shutil.copy(archs / "00.json", archs / "01.json")
    samples = (out / "samples.jsonl").read_text()
    (out / "samples.jsonl").write_text(samples.replace('"val_top1": ', '"val_top1": 1', 1))
    done = commands.ofav2("doctor", "--run", out)
    wrong = [line for line in done.stdout.splitlines() if line.startswith("wrong")]
    assert done.returncode == 1 and len(wrong) == 2
    assert "samples.jsonl: 1 damaged line: --resume" in wrong[0]
    assert "01.json is not the architecture 1 of search.json; --resume" in wrong[1]
    assert (out / "samples.jsonl").read_text() != samples
    for name in ("samples.jsonl", "candidates.jsonl"):
        (out / name).unlink()
    (out / "search.json").write_text("{}")
    assert "search.json is damaged: it has no digest" in commands.ofav2("doctor", "--run", out).stdout


def test_the_folder_of_a_search_is_not_a_training(found, tmp_path):
    with pytest.raises(UserError, match="contains a search, not a training; give the folder of its training"):
        call("search", found[1], "--out", tmp_path / "x", *SMALL)
    assert not (tmp_path / "x").exists()


def test_a_latency_table_of_another_machine_or_supernet_is_rejected(trained, tmp_path):
    table = LatencyTable(
        format=FORMAT, machine={"processor": "Z80"}, backend="torch", version="2", device="cpu", threads=1,
        supernet="SE_B", resolutions=[16], parts={}, correction=Correction(), date="",
        validation=Validation(networks=50, kendall_tau=1, mape=1, mape_of_sum=1, corrected=False),
    )  # fmt: skip
    write_table(tmp_path / "table.json", table)
    arguments = ["search", trained, "--out", tmp_path / "x", *SMALL, "--latency", tmp_path / "table.json"]
    with pytest.raises(UserError, match=r"another machine: processor must be .*but got 'Z80'.*--allow-other-machine"):
        call(*arguments, "--objectives", "top1,latency")
    with pytest.raises(UserError, match=r"on another supernet \(SE_B\).*create a table for this training"):
        call(*arguments, "--objectives", "top1,latency", "--allow-other-machine")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--max-macs", "1000"], r"at most 1000: the smallest possible is [\d,]+, by \{.*raise the limit"),
        (["--objectives", "top1,speed"], "an objective must be one of top1, macs"),
        (["--objectives", "macs"], "must include one of top1"),
        (["--objectives", "top1,latency"], "create one with `ofav2 profile`"),
        (["--searcher", "magic"], "unknown plugin 'magic' in ofav2.searchers"),
        (["--step", "width-2"], "step must be one of"),
        (["--budgets", "a"], "numbers separated by commas"),
        (["--min-top1", "101"], "must be at most 100, but got 101"),
        (["--seed", "-1"], "seed.*greater than or equal to 0, but got -1"),
    ],
)
def test_bad_input_is_one_clear_line_before_anything_is_measured(trained, tmp_path, arguments, words):
    with pytest.raises(UserError, match=words):
        call("search", trained, "--out", tmp_path / "x", *SMALL, *arguments)
    assert not (tmp_path / "x").exists()


def test_an_unfinished_training_is_refused_with_the_remedy(trained, tmp_path):
    unfinished = tmp_path / "run"
    shutil.copytree(trained, unfinished)
    last = sorted((unfinished / "steps").glob("kernel*"))[0]
    (last / "trained.json").unlink()
    with pytest.raises(UserError, match=r"is not finished .*--resume, or search its last finished step with --step"):
        call("search", unfinished, "--out", tmp_path / "x", *SMALL)

"""Nothing damaged becomes a result: a changed digit in any file is found, named, and computed or written again."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from support.commands import SMALL, ofav2, overrides

from ofav2_plugins.errors import RunError
from ofav2_plugins.execution.open_run import open_run
from ofav2_plugins.execution.records import read_measured, read_trained
from ofav2_plugins.utils.files import read_json, write_record

TRAIN = ["train", "--supernet", "EE_B", "--threads", "1",
         *overrides(*SMALL, "phases={full: {epochs: 1, lr: 0.05}, kernel: {epochs: 1, warmup_epochs: 0}}")]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    done = ofav2(*TRAIN, "--out", out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture
def run(finished, tmp_path) -> Path:
    """A copy of a finished run."""
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def file_of(run: Path, name: str) -> Path:
    return run / name if (run / name).exists() else next(iter(run.glob(f"steps/full-*/{name}")))


def change_a_number(path: Path, key: str) -> None:
    """Another first digit of the first number under `key`: the file stays valid."""
    text = path.read_text()
    changed = re.sub(rf'("{key}": )(\d)', lambda m: m[1] + str((int(m[2]) + 1) % 10), text, count=1)
    assert changed != text
    path.write_text(changed)


def numbers(run: Path) -> list[dict]:
    """The results without what they cost, which differs from run to run."""
    [row] = json.loads((run / "results.json").read_text())["rows"]
    costs = ("seconds", "images_per_second", "peak_memory_mib")
    return [{key: value for key, value in phase.items() if key not in costs} for phase in row["phases"]]


@pytest.mark.parametrize(
    ("name", "key", "remedy"),
    [
        ("measured.json", "top1", "measured again"),
        ("measured.json", "height", "measured again"),
        ("trained.json", "val_top1", "trained again"),
        ("metrics.jsonl", "val_top1", "written again"),
        ("results.json", "best_top1", "rebuilt"),
        ("results.json", "seed", "rebuilt"),
    ],
)
def test_a_changed_digit_is_found_and_what_it_damaged_is_made_again(finished, run, name, key, remedy):
    path = file_of(run, name)
    change_a_number(path, key)
    doctor = ofav2("doctor", "--run", run)
    assert doctor.returncode == 1
    assert any(line.startswith("wrong") and name in line for line in doctor.stdout.splitlines()), doctor.stdout
    report = ofav2("report", run)
    if name == "results.json":
        assert str(path) in report.error and "--resume" in report.error
    else:
        assert report.returncode == 0
    done = ofav2(*TRAIN, "--out", run, "--resume")
    assert done.returncode == 0, done.stderr
    assert any(name in line and remedy in line for line in done.stdout.splitlines()), done.stdout
    assert numbers(run) == numbers(finished)
    assert ofav2("doctor", "--run", run).returncode == 0


@pytest.mark.parametrize("name", ["measured.json", "trained.json", "results.json"])
def test_a_record_without_its_digest_is_damaged(finished, run, name):
    path = file_of(run, name)
    content = read_json(path)
    del content["digest"]
    path.write_text(json.dumps(content))
    assert any(name in line and "no digest" in line for line in ofav2("doctor", "--run", run).stdout.splitlines())
    assert ofav2(*TRAIN, "--out", run, "--resume").returncode == 0
    assert "digest" in read_json(path)
    assert numbers(run) == numbers(finished)


def test_a_record_of_another_step_is_not_taken(finished, run):
    [full], [kernel] = run.glob("steps/full-*"), run.glob("steps/kernel-*")
    for name, read in (("measured.json", read_measured), ("trained.json", read_trained)):
        shutil.copy(full / name, kernel / name)
        with pytest.raises(RunError, match=f"{name} is of step '{full.name}', not of '{kernel.name}'"):
            read(kernel)
    assert ofav2(*TRAIN, "--out", run, "--resume").returncode == 0
    assert numbers(run) == numbers(finished)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("subnets", 3, "subnets: .*list.*but got 3"),
        ("subnets", [{}], r"subnets\[0\].arch: Field required"),
        ("seconds", -1.0, "seconds: .*0.*but got -1.0"),
        ("seconds", "1", "seconds: .*number"),
        ("exits", [{"height": 1, "val_top1": 20.0, "top1": 100.5}], r"exits\[0\].top1: .*100.*but got 100.5"),
        ("ensemble_top1", -0.5, "ensemble_top1: .*but got -0.5"),
    ],
)
def test_a_valid_digest_over_a_wrong_value_is_no_pass(run, field, value, words):
    [full] = run.glob("steps/full-*")
    write_record(full / "measured.json", {**read_json(full / "measured.json"), field: value})
    with pytest.raises(RunError, match=rf"measured\.json is damaged: {words}"):
        read_measured(full)


def test_an_accuracy_outside_0_to_100_is_refused_in_results(run):
    results = read_json(run / "results.json")
    del results["digest"]
    for phase, key in (
        (results["rows"][0]["phases"][0], "best_top1"),
        (results["rows"][0]["phases"][1]["exits"][0], "top1"),
    ):
        right, phase[key] = phase[key], 170.5
        (run / "results.json").write_text(json.dumps(results))
        assert "an accuracy must be in 0..100 percent, but got 170.5" in ofav2("report", run).error
        phase[key] = right
    (run / "results.json").write_text(json.dumps(results))
    report = ofav2("report", run)  # merged by hand, or of a third party
    assert report.returncode == 0 and "warning: " in report.stdout and "no digest" in report.stdout


def test_a_damaged_run_file_is_named_and_written_again_on_request(run):
    change_a_number(run / "run.json", "seed")
    assert "run.json is damaged: its digest" in ofav2("doctor", "--run", run).stdout
    with pytest.raises(RunError, match=r"run\.json is damaged: its digest does not match"):
        open_run(run)
    before = (run / "run.json").read_bytes()
    assert "--resume --accept-changes" in ofav2(*TRAIN, "--out", run, "--resume").error
    assert "run.json is damaged" in ofav2(*TRAIN, "--out", run, "--accept-changes").error
    assert (run / "run.json").read_bytes() == before
    assert ofav2(*TRAIN, "--out", run, "--resume", "--accept-changes").returncode == 0
    assert open_run(run).is_finished


def test_a_report_of_several_runs_can_be_written_again(run, tmp_path):
    merged = tmp_path / "merged"
    for _ in range(2):
        assert ofav2("report", run, run, "--out", merged).returncode == 0
    (merged / "report.html").write_text("<html>a thesis</html>")
    assert "that was not written by ofav2" in ofav2("report", run, run, "--out", merged).error


def test_nothing_to_resume_is_said(tmp_path):
    done = ofav2(*TRAIN, "--out", tmp_path / "new", "--resume", "--phases", "full")
    assert done.returncode == 0
    assert f"{tmp_path / 'new'} contains no run yet: nothing to resume" in done.stdout

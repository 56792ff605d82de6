"""The progress of runs: read from files that a process of its own has written."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from support.commands import SMALL, ofav2, overrides

from ofav2_plugins.errors import RunError
from ofav2_plugins.execution.progress import progress_of, run_folders

STUDY = """\
dataset: fashion-mini
recipe: quick
baseline: OFA
arms:
  - {name: OFA, supernet: SE_B, overrides: ["phases={full: {epochs: 1, lr: 0.05}, kernel: {epochs: 2, lr: 0.01}}"]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with one finished run, written by another process."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "study.yaml").write_text(STUDY)
    command = ["ablate", folder / "study.yaml", "--out", folder / "one", "--threads", 1, *overrides(*SMALL)]
    subprocess.run([sys.executable, "-m", "ofav2_plugins", *map(str, command)], check=True, capture_output=True)
    return folder


def test_a_finished_run_has_the_accuracies_of_its_results(folder):
    assert run_folders(folder) == [folder / "one"]
    assert run_folders(folder / "one") == [folder / "one"]
    [run] = progress_of(folder / "one")
    [row] = json.loads((folder / "one" / "results.json").read_text())["rows"]
    assert (run.arm, run.seed, run.state, run.step, run.done, run.steps) == ("OFA", 0, "finished", None, 2, 2)
    assert run.top1 == row["phases"][-1]["best_top1"]
    assert run.left_seconds == 0
    done = ofav2("watch", folder, "--once")
    assert done.returncode == 0
    assert "finished" in done.stdout and f"{run.top1:.1f} %" in done.stdout
    [shown] = json.loads(ofav2("watch", folder, "--json").stdout)
    assert shown == json.loads(json.dumps(run.to_dict()))
    assert "finished" in ofav2("watch", folder / "one").stdout  # the live view ends by itself


def test_a_run_in_the_middle_of_a_step(folder):
    [kernel] = (folder / "one" / "steps").glob("kernel-*")
    kept = {path: path.read_bytes() for path in kernel.iterdir()}
    try:
        (kernel / "measured-final.json").unlink()
        assert progress_of(folder / "one")[0].state == "measuring"
        (kernel / "trained.json").unlink()
        lines = (kernel / "metrics.jsonl").read_text().splitlines()
        (kernel / "metrics.jsonl").write_text(lines[0] + "\n")
        [run] = progress_of(folder / "one")
        assert (run.state, run.step, run.epoch, run.epochs, run.done) == ("training", "kernel", 1, 2, 1)
        first = json.loads(lines[0])
        assert run.val_top1 == first["val_top1"]
        assert run.left_seconds == pytest.approx(first["seconds"])
        assert 0 <= run.idle_seconds < 600
        for path in kernel.iterdir():
            path.unlink()
        assert progress_of(folder / "one")[0].state == "waiting"
    finally:
        for path, content in kept.items():
            path.write_bytes(content)


def test_failures_and_damaged_files_are_shown(folder, tmp_path):
    run_file = folder / "one" / "run.json"
    kept = run_file.read_text()
    try:
        run_file.write_text(kept.replace('"seed": 0', '"seed": 1'))
        [run] = progress_of(folder / "one")
        assert run.state == "damaged" and "digest" in run.problem
        assert "digest" in " ".join(ofav2("watch", folder, "--once").stdout.split())
    finally:
        run_file.write_text(kept)
    with pytest.raises(RunError, match="is not a folder"):
        run_folders(tmp_path / "none")
    assert "no run yet" in ofav2("watch", tmp_path, "--once").stdout


def test_the_module_imports_no_torch():
    code = "import sys, ofav2_plugins.execution.progress; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

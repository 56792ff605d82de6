"""The progress of runs: read from files that a process of its own has written."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from rich.console import Console
from support.commands import SMALL, ofav2, overrides

from ofav2_plugins.cli import watch
from ofav2_plugins.errors import RunError
from ofav2_plugins.execution.progress import progress_of, run_folders

STUDY = """\
dataset: fashion-mini
recipe: quick
baseline: OFA
arms:
  - name: OFA
    supernet: SE_B
    overrides: ["phases={full: {epochs: 1, lr: 0.05}, kernel: {epochs: 1, lr: 0.01, warmup_epochs: 1}}"]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with one finished run, written by another process."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "study.yaml").write_text(STUDY)
    command = ["ablate", folder / "study.yaml", "--out", folder / "one", "--threads", 1, *overrides(*SMALL)]
    command = [sys.executable, "-m", "ofav2_plugins", *command]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
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


def test_several_runs_are_followed_while_other_processes_write_them(folder, tmp_path):
    runs = tmp_path / "runs"
    shutil.copytree(folder / "one", runs / "done")
    command = ["train", "--supernet", "SE_B", "--out", runs / "live", "--threads", 1, *overrides(*SMALL),
               "--set", "phases={full: {epochs: 2}, kernel: {epochs: 1, warmup_epochs: 0}}"]  # fmt: skip
    log = tmp_path / "log"
    with open(log, "wb") as file:
        trainer = subprocess.Popen(
            [sys.executable, "-m", "ofav2_plugins", *map(str, command)], stdout=file, stderr=subprocess.STDOUT
        )
    seen: list[str] = []
    try:
        while trainer.poll() is None:
            states = {run.folder.name: run.state for found in run_folders(runs) for run in progress_of(found)}
            assert states["done"] == "finished"
            assert states.get("live") != "damaged"
            if "live" in states and (not seen or seen[-1] != states["live"]):
                seen.append(states["live"])
            time.sleep(0.02)
    finally:
        trainer.kill()
    assert trainer.returncode == 0, log.read_text()
    assert not set("\x1b\r") & set(log.read_text())  # no progress bar, which is for terminals
    assert "training" in seen
    [run] = progress_of(runs / "live")
    assert (run.state, run.done, run.steps) == ("finished", 2, 2)
    shown = ofav2("watch", runs, "--once").stdout
    assert "2 runs: 2 finished" in shown


def test_the_view_fits_into_80_columns(folder):
    run = replace(
        progress_of(folder / "one")[0],
        arm="EE_DP, progressive teacher, width 1.2", state="training", step="height-4", epoch=105, epochs=125,
        left_seconds=359000.0, idle_seconds=700.0,
    )  # fmt: skip
    failed = replace(run, state="failed", problem="the disk is full; free some space and continue with --resume")
    console = Console(width=80, file=io.StringIO(), color_system=None)
    console.print(watch._view(folder, [run, failed]))
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    table = "\n".join(lines)
    assert "height-4 105/125" in table and "99 h 43 min" in table and "training" in table
    assert "no new file for 11 min 40 s" in " ".join(table.split())
    assert "the disk is full" in table
    assert "2 runs: 1 training, 1 failed" in table


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
    assert "no run yet" in " ".join(ofav2("watch", tmp_path, "--once").stdout.split())


def test_the_module_imports_no_torch():
    code = "import sys, ofav2_plugins.execution.progress; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

"""Arms in processes of their own: the same results, stopped with the first process, within the memory limit."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console
from support.study_samples import STUDY

from ofav2_plugins.execution.training_run import TrainingRun
from ofav2_plugins.executors import processes as workers
from ofav2_plugins.executors.processes import WorkerSetup, _fits, run_in_workers
from ofav2_plugins.study.results_writer import StudyResults
from ofav2_plugins.study.schema import load_study, study_arms
from ofav2_plugins.training.context import LoggingOptions, RunContext
from ofav2_plugins.utils.distributed import make_fabric
from ofav2_plugins.utils.progress import Reporter
from ofav2_plugins.utils.signals import stop_on_signals


def wait_for(found, seconds=120):
    deadline = time.monotonic() + seconds
    while not found() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert found(), "not within the time"


def test_workers_give_what_one_process_gives(study, tmp_path):
    ablate = [sys.executable, "-m", "ofav2_plugins", "ablate", str(study), "--threads", "1", "--out"]
    for out, more in (("one", []), ("two", ["--workers", "2", "--memory", "16"])):
        done = subprocess.run([*ablate, str(tmp_path / out), *more], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    rows = [json.loads((tmp_path / out / "results.json").read_text())["rows"] for out in ("one", "two")]
    for row in (row for listed in rows for row in listed):
        for phase in row["phases"]:
            for cost in ("seconds", "images_per_second", "peak_memory_mib"):
                del phase[cost]
    assert [row["arm"] for row in rows[0]] == ["a", "b"]
    assert all(phase["training_macs"] > 1e9 for row in rows[0] for phase in row["phases"])
    assert rows[0] == rows[1]


SHARING = (
    STUDY
    + """  - {name: c, supernet: SE_B, teacher: progressive}
seeds: [0, 1]
"""
)


def test_arms_that_share_steps_do_not_run_together_and_a_killed_worker_is_one_failed_arm(study, tmp_path):
    study.write_text(SHARING + "overrides: [phases.full.epochs=3]\n")
    out = tmp_path / "out"
    ablate = [sys.executable, "-m", "ofav2_plugins", "ablate", str(study), "--threads", "1", "--workers", "3",
              "--out", str(out)]  # fmt: skip
    process = subprocess.Popen(ablate, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    wait_for(lambda: len(list(out.glob("steps/full-*/metrics.jsonl"))) == 3)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    started = [child for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
    os.kill(int(started[0]), signal.SIGKILL)
    output, errors = process.communicate()
    assert process.returncode == 1 and "1 of 6 arms failed" in errors
    assert "ended with code -9" in output
    assert subprocess.run([*ablate, "--resume"], capture_output=True).returncode == 0
    rows = json.loads((out / "results.json").read_text())["rows"]
    assert [(row["arm"], row["seed"]) for row in rows] == [(arm, seed) for seed in (0, 1) for arm in "abc"]
    assert all(len(row["phases"]) == 2 and "error" not in row for row in rows)
    assert len(list(out.glob("steps/*"))) == 8  # c has the steps of a
    assert all(rows[i]["phases"] == rows[i + 2]["phases"] for i in (0, 3))


@pytest.mark.parametrize(
    ("n_running", "largest_mib", "limit_gib", "fits"),
    [
        (0, 0, 1, True),
        (1, 0, 100, False),
        (1, 1024, 100, True),
        (1, 1024, 2, False),
        (3, 1024, 4, False),
        (3, 9, None, True),
    ],
)
def test_a_worker_starts_where_all_of_them_fit(n_running, largest_mib, limit_gib, fits):
    # this process takes something too, so 2 GiB are too little for it and two workers of 1 GiB
    assert _fits([None] * n_running, largest_mib, limit_gib) is fits


def test_workers_that_grow_beyond_the_limit_wait_and_lose_nothing(study, data, tmp_path, monkeypatch):
    study.write_text(STUDY + "overrides: [phases.full.epochs=3]\n")
    loaded, fabric = load_study(str(study)), make_fabric("cpu")
    rows, stopped, peaks = [], [], []
    monkeypatch.setattr(workers, "peak_memory_mib", lambda device: 0.0)  # this process has grown in other tests

    def stop(worker, reporter, really=workers._put_back):
        run = really(worker, reporter)
        stopped.append((run.config.name, worker.work > 0, worker.process.exitcode))
        return run

    def that_tell(running, really=workers._that_tell):
        peaks.extend(worker.peak for worker in running)
        return really(running)

    monkeypatch.setattr(workers, "_put_back", stop)
    monkeypatch.setattr(workers, "_that_tell", that_tell)
    for out in (tmp_path / "free", tmp_path / "tight"):
        limit_gib = 1.3 * max(peaks) / 1024 if peaks else None  # one has room enough, two have not
        out.mkdir()
        before = iter([True, True])  # as if both had been small when they started
        monkeypatch.setattr(workers, "_fits", lambda *state, before=before: next(before, None) or _fits(*state))
        runs = [TrainingRun(arm, data, out / "steps", fabric) for arm in study_arms(loaded)]
        console = Console(file=io.StringIO())
        reporter = Reporter(console, sum(run.work() for run in runs))
        results = StudyResults(runs, out, fabric, {"baseline": "a"}, reporter)
        setup = WorkerSetup("fashion-mini", None, out, "cpu", "32-true", 1, LoggingOptions())
        with stop_on_signals(lambda _: None) as request:
            run_in_workers(runs, results, RunContext(reporter, request, setup.logging), setup, 2, limit_gib)
        assert stopped == ([] if limit_gib is None else [("b", True, 0)])  # it had worked, saved, and ended well
        waits = "b, seed 0, waits: all workers together took more than --memory"
        assert (waits in console.file.getvalue()) == bool(stopped)
        assert reporter.done == pytest.approx(reporter.total)
        rows.append([[phase["best_top1"] for phase in row["phases"]] for row in results.content["rows"]])
    assert rows[0] == rows[1] and [len(row) for row in rows[0]] == [2, 2]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there are no such signals")
@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
def test_workers_stop_with_the_first_process_and_are_resumed(study, tmp_path, how):
    study.write_text(STUDY + "overrides: [phases.full.epochs=40]\n")
    out = tmp_path / "out"
    ablate = [sys.executable, "-m", "ofav2_plugins", "ablate", str(study), "--threads", "1", "--workers", "2",
              "--save-every", "0", "--out", str(out)]  # fmt: skip
    process = subprocess.Popen(ablate, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    wait_for(lambda: len(list(out.glob("steps/*/state.safetensors"))) == 2)
    started = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(started) >= 2
    process.send_signal(getattr(signal, how))
    errors = process.communicate()[1]
    if how == "SIGTERM":
        wait_for(lambda: not any(Path(f"/proc/{each}").exists() for each in started))
        assert process.returncode == 130
        assert "--resume" in errors and "Traceback" not in errors
    shorter = subprocess.run([*ablate, "--resume", "--set", "phases.full.epochs=1"], capture_output=True, text=True)
    assert shorter.returncode == 1 and "another run" in shorter.stderr
    states = {path: path.stat().st_mtime_ns for path in out.glob("steps/*/state.safetensors")}
    again = subprocess.Popen([*ablate, "--resume"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    wait_for(lambda: all(path.stat().st_mtime_ns > before for path, before in states.items()))
    again.terminate()
    again.communicate()
    assert len(list(out.glob("steps/full-*"))) == 2  # the same steps, gone on with


def test_limits_that_cannot_be_kept_are_refused_before_anything_is_made(study, tmp_path):
    out = tmp_path / "out"
    ablate = [sys.executable, "-m", "ofav2_plugins", "ablate", str(study), "--out", str(out)]
    for wrong, words in (
        (["--workers", "2", "--memory", "0.1"], "--memory must be at least"),
        (["--workers", "2", "--memory", "nan"], "--memory must be at least"),
        (["--workers", "0"], "workers"),
    ):
        done = subprocess.run([*ablate, *wrong], capture_output=True, text=True)
        assert done.returncode != 0
        assert words in done.stderr and "Traceback" not in done.stderr
        assert not out.exists()

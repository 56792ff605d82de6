"""Runs in processes of their own: equal results, stopped with the first process, within limits of memory."""

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
from support.commands import ofav2
from support.study_samples import STUDY
from support.waiting import wait_for

from ofav2_plugins.errors import RunError
from ofav2_plugins.execution.run_folder import locked
from ofav2_plugins.execution.training_run import TrainingRun
from ofav2_plugins.executors import processes
from ofav2_plugins.executors.base import RunSetup
from ofav2_plugins.executors.devices import Accelerator, choose_accelerator, cuda_devices
from ofav2_plugins.executors.messages import Returned
from ofav2_plugins.executors.process_pool import map_in_processes
from ofav2_plugins.executors.processes import ActiveProcess, ProcessBackend
from ofav2_plugins.executors.scheduling import Schedule
from ofav2_plugins.executors.serial import Serial
from ofav2_plugins.study.results_writer import StudyResults
from ofav2_plugins.study.schema import load_study, study_arms
from ofav2_plugins.training.context import LoggingOptions, RunContext
from ofav2_plugins.utils.distributed import make_fabric
from ofav2_plugins.utils.progress import Reporter
from ofav2_plugins.utils.signals import StopRequest


def test_workers_give_what_one_process_gives(study, tmp_path):
    for out, more in (("one", []), ("two", ["--workers", "2", "--memory", "16"])):
        done = ofav2("ablate", study, "--threads", "1", "--out", tmp_path / out, *more)
        assert done.returncode == 0, done.stderr
    rows = [json.loads((tmp_path / out / "results.json").read_text())["rows"] for out in ("one", "two")]
    for row in (row for listed in rows for row in listed):
        for phase in row["phases"]:
            for cost in ("seconds", "images_per_second", "peak_memory_mib"):
                del phase[cost]
    assert [row["arm"] for row in rows[0]] == ["a", "b"]
    assert all(phase["training_macs"] > 1e9 for row in rows[0] for phase in row["phases"])
    assert rows[0] == rows[1]


def fail_at_once():
    raise RunError("the images are missing")


def exit_at_once():
    return lambda item: os._exit(1)


@pytest.mark.parametrize(
    ("make", "words"), [(fail_at_once, "the images are missing"), (exit_at_once, "a worker process ended unexpectedly")]
)
def test_a_pool_reports_why_it_fails(make, words):
    with pytest.raises(RunError, match=words):
        list(map_in_processes(make, [1, 2], 1, 1, StopRequest()))


AT_IMPORT = signal.getsignal(signal.SIGINT)
"""In a worker: the handler of Ctrl-C while it starts."""


def handler_at_import():
    return lambda item: AT_IMPORT


def test_ctrl_c_does_not_reach_the_workers_of_a_pool_while_they_start():
    found = list(map_in_processes(handler_at_import, [1], 1, 1, StopRequest()))
    assert found == [(1, signal.SIG_IGN)]
    assert signal.getsignal(signal.SIGINT) != signal.SIG_IGN


SHARING = (
    STUDY
    + """  - {name: c, supernet: SE_B, teacher: progressive}
"""
)


@pytest.mark.slow
def test_runs_that_share_steps_are_not_executed_together_and_a_killed_worker_is_one_failed_run(study, tmp_path):
    study.write_text(SHARING + "overrides: [phases.full.epochs=3]\n")
    out = tmp_path / "out"
    ablate = [sys.executable, "-m", "ofav2_plugins", "ablate", str(study), "--threads", "1", "--workers", "3",
              "--out", str(out)]  # fmt: skip
    process = subprocess.Popen(ablate, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    wait_for(lambda: len(list(out.glob("steps/full-*/metrics.jsonl"))) == 2)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    started = [child for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
    os.kill(int(started[0]), signal.SIGKILL)
    output, errors = process.communicate()
    assert process.returncode == 1 and "1 of 3 arms failed" in errors
    assert "ended with code -9" in output
    assert ofav2(*ablate[3:], "--resume").returncode == 0
    rows = json.loads((out / "results.json").read_text())["rows"]
    assert [row["arm"] for row in rows] == ["a", "b", "c"]
    assert all(len(row["phases"]) == 2 and "error" not in row for row in rows)
    assert len(list(out.glob("steps/*"))) == 4  # c has the steps of a
    assert rows[0]["phases"] == rows[2]["phases"]


@pytest.mark.parametrize(
    ("n_active", "largest_mib", "limit_gib", "has_room"),
    [
        (0, 0, 1, True),
        (1, 0, 100, False),
        (1, 1024, 100, True),
        (1, 1024, 2, False),
        (3, 1024, 4, False),
        (3, 9, None, True),
    ],
)
def test_a_worker_starts_if_all_of_them_have_room(n_active, largest_mib, limit_gib, has_room):
    # this process takes memory too, so 2 GiB are too little for it and two workers of 1 GiB
    backend = ProcessBackend(setup_of(Path("out")), 4, limit_gib)
    backend.largest_mib = largest_mib
    assert backend._has_room(n_active) is has_room


def setup_of(out: Path) -> RunSetup:
    return RunSetup("fashion-mini", None, out, "cpu", "32-true", 1, LoggingOptions())


class Tightened(ProcessBackend):
    """Has no limit until two workers have trained, then one with room for a single worker."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.waited = []

    def poll(self, active):
        for process, message in super().poll(active):
            if isinstance(message, Returned):
                self.waited.append((process.run.config.name, process.work > 0, process.process.exitcode))
            yield process, message
        peaks = [process.peak_mib for process in active if process.work > 0]
        if len(peaks) == 2:
            self.memory_gib = 1.3 * max(peaks) / 1024


@pytest.mark.slow
def test_workers_that_grow_beyond_the_limit_wait_and_lose_nothing(study, data, tmp_path, monkeypatch):
    study.write_text(STUDY + "overrides: [phases.full.epochs=3]\n")
    arms, fabric, rows = study_arms(load_study(str(study))), make_fabric("cpu"), []
    monkeypatch.setattr(processes, "peak_memory_mib", lambda device: 0.0)  # this process has grown in other tests
    for name in ("serial", "processes"):
        out = tmp_path / name
        out.mkdir()
        runs = [TrainingRun(arm, data, out / "steps", fabric) for arm in arms]
        console = Console(file=io.StringIO())
        reporter = Reporter(console, sum(run.work() for run in runs))
        results = StudyResults(runs, out, fabric, {"baseline": "a"}, reporter)
        context, setup = RunContext(reporter, StopRequest(), LoggingOptions()), setup_of(out)
        if name == "serial":
            Serial().execute(runs, results, context, setup)
        else:
            backend = Tightened(setup, 2, None)
            Schedule(runs, results, context, backend).execute()
            assert backend.waited == [("b", True, 0)]  # it had worked, saved, and exited
            assert "b, seed 0: waits, because all workers together exceeded --memory" in console.file.getvalue()
        assert reporter.done == pytest.approx(reporter.total)
        rows.append([[phase["best_top1"] for phase in row["phases"]] for row in results.content["rows"]])
    assert rows[0] == rows[1] and [len(row) for row in rows[0]] == [2, 2]


TWO_GPUS = [Accelerator("0", 8000), Accelerator("GPU-b", 4000)]


@pytest.mark.parametrize(
    ("occupied", "largest_mib", "chosen"),
    [
        ([], 0, "0"),
        (["0"], 0, "GPU-b"),  # before the first measurement each device gets a single worker
        (["0", "GPU-b"], 0, None),
        (["0", "GPU-b"], 2500, "0"),  # two workers of 2500 MiB fit into 8000, not into 4000
        (["0", "0", "GPU-b"], 2500, "0"),
        (["0", "0", "0", "GPU-b"], 2500, None),
        (["0", "0", "GPU-b"], 2000, "GPU-b"),
    ],
)
def test_a_worker_gets_the_device_with_the_fewest_workers_and_enough_memory(occupied, largest_mib, chosen):
    found = choose_accelerator(TWO_GPUS, occupied, largest_mib)
    assert (found.name if found else None) == chosen


def test_no_worker_starts_without_a_device_for_it(data, tmp_path):
    backend = ProcessBackend(setup_of(tmp_path), 3, None, TWO_GPUS[:1])
    occupied = ActiveProcess.__new__(ActiveProcess)
    occupied.device = "0"
    assert backend.start(None, [occupied]) is None


def test_a_worker_process_sees_only_its_device(study, data, tmp_path):
    run = TrainingRun(study_arms(load_study(str(study)))[0], data, tmp_path / "steps", make_fabric("cpu"))
    process = ActiveProcess(run, setup_of(tmp_path), "GPU-b")
    try:
        environment = Path(f"/proc/{process.process.pid}/environ")  # empty until the new program has started
        wait_for(lambda: environment.read_bytes())
        assert b"CUDA_VISIBLE_DEVICES=GPU-b" in environment.read_bytes().split(b"\0")
    finally:
        process.process.kill()
        process.process.join()


def test_devices_are_those_that_this_process_sees(monkeypatch):
    class Properties:
        total_memory = 8 * 2**30

    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda number: Properties)
    assert cuda_devices({}) == [Accelerator("0", 8192), Accelerator("1", 8192)]
    assert cuda_devices({"CUDA_VISIBLE_DEVICES": "3,GPU-b"}) == [Accelerator("3", 8192), Accelerator("GPU-b", 8192)]


def is_newer(path: Path, before: int) -> bool:
    """Whether a file was written after `before`; False at the moment at which it is replaced."""
    try:
        return path.stat().st_mtime_ns > before
    except FileNotFoundError:
        return False


@pytest.fixture
def two_workers(study, tmp_path):
    """A first process whose two workers have saved their first states, its command, and its run folder."""
    study.write_text(STUDY + "overrides: [phases.full.epochs=200]\n")
    out = tmp_path / "out"
    ablate = [sys.executable, "-m", "ofav2_plugins", "ablate", str(study), "--threads", "1", "--workers", "2",
              "--save-every", "0", "--out", str(out)]  # fmt: skip
    process = subprocess.Popen(ablate, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    wait_for(lambda: len(list(out.glob("steps/*/state.safetensors"))) == 2)
    yield process, ablate, out
    process.kill()
    process.communicate()


def test_workers_save_if_the_first_process_stops_and_are_resumed(two_workers):
    process, ablate, out = two_workers
    started = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(started) >= 2
    process.terminate()
    _, errors = process.communicate()
    wait_for(lambda: not any(Path(f"/proc/{each}").exists() for each in started))
    assert process.returncode == 130
    assert "--resume" in errors and "Traceback" not in errors
    assert "another run" in ofav2(*ablate[3:], "--resume", "--set", "phases.full.epochs=1").error
    states = {path: path.stat().st_mtime_ns for path in out.glob("steps/*/state.safetensors")}
    again = subprocess.Popen([*ablate, "--resume"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    wait_for(lambda: all(is_newer(path, before) for path, before in states.items()))
    again.terminate()
    again.communicate()
    assert len(list(out.glob("steps/full-*"))) == 2  # the same steps, continued


def test_workers_save_and_exit_if_the_first_process_is_killed(two_workers):
    process, _, out = two_workers
    process.kill()
    process.wait()
    with locked(out):  # waits for the workers
        states = {path: path.stat().st_mtime_ns for path in out.glob("steps/*/state.safetensors")}
        assert len(states) == 2
        time.sleep(1)
        assert not any(is_newer(path, before) for path, before in states.items())

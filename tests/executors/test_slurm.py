"""Runs as jobs of submitit's local executor: equal to `serial`, saved and queued again at the time limit, stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.commands import ofav2
from support.study_samples import STUDY
from support.waiting import wait_for

from ofav2_plugins.execution.run_folder import locked
from ofav2_plugins.execution.training_run import TrainingRun
from ofav2_plugins.executors import messages
from ofav2_plugins.executors.base import RunSetup
from ofav2_plugins.executors.slurm import SlurmTask
from ofav2_plugins.executors.worker import RunTask
from ofav2_plugins.study.schema import load_study, study_arms
from ofav2_plugins.testing import check_plugin
from ofav2_plugins.training.context import LoggingOptions
from ofav2_plugins.utils.distributed import make_fabric

pytest.importorskip("submitit", reason="needs pip install 'ofav2-plugins[slurm]'")

from submitit.core.utils import DelayedSubmission

SHARING = STUDY.replace("{name: b, supernet: SE_D}", "{name: b, supernet: SE_B, teacher: progressive}")
LOCAL = ["--executor", "slurm", "--set", "executor.cluster=local", "--save-every", "0"]


def accuracies(out: Path) -> list:
    found = json.loads((out / "results.json").read_text())["rows"]
    return [[(phase["name"], phase["subnets"]) for phase in row["phases"]] for row in found]


def job_processes() -> list[int]:
    """The processes in which submitit executes jobs."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"submitit.core._submit" in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="finds processes by /proc")
def test_a_job_is_queued_again_at_its_time_limit_and_a_stopped_study_is_resumed(study, tmp_path):
    study.write_text(SHARING + "overrides: [phases.full.epochs=4]\n")
    out = tmp_path / "slurm"
    ablate = [sys.executable, "-m", "ofav2_plugins", "ablate", str(study), *LOCAL, "--out", str(out)]
    saved = lambda: list(out.glob("steps/full-*/state.safetensors"))  # noqa: E731

    first = subprocess.Popen(ablate, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(saved)
    before, own = saved()[0].stat().st_mtime_ns, job_processes()
    [file] = out.glob("slurm/*.messages")
    for process in own:
        os.kill(process, signal.SIGUSR2)  # what Slurm sends before the time limit
    wait_for(lambda: file.read_text().count('"Started"') == 2 and saved()[0].stat().st_mtime_ns > before)
    first.send_signal(signal.SIGINT)
    output, errors = first.communicate(timeout=900)
    assert first.returncode == 130 and "--resume" in errors and "Traceback" not in output + errors
    wait_for(lambda: not job_processes())
    assert saved() and not list(out.glob("steps/*/trained.json"))

    again = subprocess.run([*ablate, "--resume"], capture_output=True, text=True)
    assert again.returncode == 0, again.stdout + again.stderr
    assert ofav2("ablate", study, "--threads", "1", "--out", tmp_path / "serial").returncode == 0
    assert accuracies(out) == accuracies(tmp_path / "serial")
    assert len(list(out.glob("steps/full-*"))) == 1


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="finds processes by /proc")
def test_jobs_of_a_killed_first_process_stop_if_another_one_takes_over(study, tmp_path):
    study.write_text(STUDY.replace("  - {name: b, supernet: SE_D}\n", "") + "overrides: [phases.full.epochs=200]\n")
    out = tmp_path / "slurm"
    ablate = [sys.executable, "-m", "ofav2_plugins", "ablate", str(study), *LOCAL, "--out", str(out)]
    first = subprocess.Popen(ablate, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: list(out.glob("steps/full-*/state.safetensors")))
    first.kill()
    first.wait()
    assert job_processes()
    with locked(out):  # as a process that resumes does
        wait_for(lambda: not job_processes())
    [file] = out.glob("slurm/*.messages")
    sent = file.read_text()
    assert '"Ended"' in sent.splitlines()[-1] and '"PhaseFinished"' not in sent
    [queued] = out.glob("slurm/*_submitted.pkl")  # what Slurm would execute later
    DelayedSubmission.load(queued).result()
    assert file.read_text() == sent


def test_a_job_that_must_stop_is_not_queued_again(study, data, tmp_path):
    study.write_text(STUDY)
    (tmp_path / "slurm").mkdir()
    run = TrainingRun(study_arms(load_study(str(study)))[0], data, tmp_path / "steps", make_fabric("cpu"))
    setup = RunSetup("fashion-mini", None, tmp_path, "cpu", "32-true", 1, LoggingOptions())
    task = SlurmTask(RunTask.of(run, setup), tmp_path / "slurm" / "1.messages")
    requeued = []
    before = signal.signal(signal.SIGUSR2, lambda *_: requeued.append(task.stop_file.exists()))
    try:
        for must_stop in (False, True):
            at_start = lambda: '"Started"' in task.file.read_text() if task.file.exists() else False  # noqa: E731

            def limit(must_stop=must_stop, at_start=at_start):
                wait_for(at_start)
                if must_stop:
                    task.stop_file.touch()
                os.kill(os.getpid(), signal.SIGUSR2)

            thread = threading.Thread(target=limit)
            thread.start()
            task()
            thread.join()
            assert ('"Ended"' in task.file.read_text()) is must_stop
            task.file.unlink()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert requeued == [False]


def test_the_debug_executor_keeps_the_contract():
    check_plugin("ofav2.executors", {"name": "slurm", "cluster": "debug"})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--set", "executor.cluster=cloud"], ["'cluster'", "'slurm', 'local' or 'debug'"]),
        (["--set", "executor.hours=0"], ["hours must be above 0, but got 0"]),
        (["--address", "auto"], ["no setting 'address'"]),
    ],
)
def test_wrong_settings_are_one_line_and_nothing_is_written(study, tmp_path, options, words):
    done = ofav2("ablate", study, "--executor", "slurm", "--out", tmp_path / "out", *options)
    for word in words:
        assert word in done.error
    assert not (tmp_path / "out").exists()


def test_without_submitit_or_slurm_the_remedy_is_one_line(study, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    ablate = ("ablate", study, "--executor", "slurm", "--out", tmp_path / "out")
    assert "sbatch, which is not installed here: run on a login node" in ofav2(*ablate).error
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert "pip install 'ofav2-plugins[slurm]'" in ofav2(*ablate).error
    assert not (tmp_path / "out").exists()


def test_a_search_refuses_slurm(tmp_path):
    error = ofav2("search", tmp_path, "--executor", "slurm", "--out", tmp_path / "out").error
    assert "executor 'slurm' cannot measure subnets; choose serial, processes or ray" in error


def test_every_message_survives_the_file():
    sent = [
        messages.Started({"torch": "2"}),
        messages.Advanced(1.5, "full", "epoch 1", 100.25),
        messages.PhaseFinished({"name": "full", "subnets": [{"top1": 0.1 + 0.2}]}),
        messages.Failed("reason", None),
    ]
    for message in sent:
        copy = json.loads(json.dumps(vars(message)))
        assert type(message)(**copy) == message

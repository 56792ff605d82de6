"""Whole runs: the same numbers twice, the same weights after being killed, shared steps, foreign folders."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.commands import Finished, ofav2

from ofav2_plugins.execution.records import FINAL, read_measured, write_measured
from ofav2_plugins.execution.run_folder import locked
from ofav2_plugins.utils.files import read_json, write_record
from ofav2_plugins.utils.tensor_files import load_checkpoint

FAST = [
    "width_mult=0.25", "resolutions=[16]", "batch_size=256", "evaluation.bn_images=64",
    "evaluation.selection_draws=1", "evaluation.max_subnets=2", "evaluation.final_trunks=2",
    "evaluation.batch_size=500",
    "phases={full: {epochs: 2, lr: 0.05}, height: {epochs: 1, warmup_epochs: 0}, width: {epochs: 1, warmup_epochs: 0}}",
]  # fmt: skip


def command(out: Path, *more: str) -> list[str]:
    overrides = [part for override in FAST for part in ("--set", override)]
    return [sys.executable, "-m", "ofav2_plugins", "train", "--supernet", "EE_D", "--teacher", "progressive",
            "--out", str(out), "--threads", "1", *overrides, *more]  # fmt: skip


def train(out: Path, *more: str) -> Finished:
    return ofav2(*command(out, *more)[3:])


def weights(out: Path) -> dict[tuple[str, str], bytes]:
    """The bits of every tensor of every step; the files' own bytes vary by the order of safetensors' metadata."""
    loaded = {path.parent.name: load_checkpoint(path)[0] for path in out.glob("steps/*/best.safetensors")}
    return {(step, name): tensor.numpy().tobytes() for step, net in loaded.items() for name, tensor in net.items()}


def phases(out: Path) -> list[dict]:
    [row] = json.loads((out / "results.json").read_text())["rows"]
    return [without_cost(phase) for phase in row["phases"]]


def metrics(out: Path) -> dict[str, list[dict]]:
    return {
        path.parent.name: [without_cost(json.loads(line)) for line in path.read_text().splitlines()]
        for path in out.glob("steps/*/metrics.jsonl")
    }


def without_cost(entry: dict) -> dict:
    """What must be the same in every run: all but time and memory."""
    return {k: v for k, v in entry.items() if k not in ("seconds", "images_per_second", "peak_memory_mib")}


def assert_same(out: Path, expected: Path) -> None:
    made, wanted = weights(out), weights(expected)
    assert len(wanted) > 1000
    assert sorted(made) == sorted(wanted)
    differ = {(step, name): step for (step, name), content in wanted.items() if made[step, name] != content}
    assert not differ, f"{len(differ)} tensors differ, in {sorted(set(differ.values()))}: {list(differ)[:3]}"
    assert metrics(out) == metrics(expected)
    assert phases(out) == phases(expected)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    done = train(out)
    assert done.returncode == 0, done.stderr
    return out


def test_phases_come_in_order_and_files_are_written(uninterrupted):
    names = [phase["name"] for phase in phases(uninterrupted)]
    assert names == ["full", "height-1", "height-2", "height-3", "height-4", "width-1", "width-2"]
    assert "<svg" in (uninterrupted / "report.html").read_text()
    for phase in phases(uninterrupted):
        tops = [subnet["top1"] for subnet in phase["subnets"]]
        best = max(phase["subnets"], key=lambda subnet: subnet["val_top1"])
        assert phase["best_top1"] == best["top1"]
        assert (phase["test_max_top1"], phase["min_top1"]) == (max(tops), min(tops))
        assert phase["mean_top1"] == pytest.approx(sum(tops) / len(tops))
    last = [dict(subnet["arch"]) for subnet in phases(uninterrupted)[-1]["subnets"]]
    assert [arch.pop("height") for arch in last] == [1, 2, 3, 4, 5] * 2, "every height of both trunks"
    assert len({json.dumps(arch) for arch in last}) == 2


def kill_at_random_moments(out: Path, seed: int, kills: int) -> int:
    """Start the run and SIGKILL it, again and again; the state is saved after every batch, so within epochs too.

    The moments count from the first saved state, because a busy machine may take longer to start than to train; for
    one kill of three they count from the start.

    Returns how many of the kills left a step in training.
    """
    within = 0
    rng, log = random.Random(seed), (out.parent / "log").open("w")
    for kill in range(kills):
        started, deadline = time.time(), time.monotonic() + 120
        process = subprocess.Popen(command(out, "--resume", "--save-every", "0"), stdout=log, stderr=log)
        while kill % 3 < 2 and process.poll() is None and not saved_since(out, started) and time.monotonic() < deadline:
            time.sleep(0.02)
        try:
            process.wait(timeout=rng.uniform(0, 4))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            within += bool(list(out.glob("steps/*/state.safetensors")))
    return within


def saved_since(out: Path, moment: float) -> bool:
    """Whether a state or a finished step was saved after a moment."""
    files = [*out.glob("steps/*/state.safetensors"), *out.glob("steps/*/best.safetensors")]
    with contextlib.suppress(FileNotFoundError):  # replaced or removed at this moment
        return any(path.stat().st_mtime > moment for path in files)
    return False


@pytest.mark.slow
def test_killed_at_random_moments_and_resumed_equals_uninterrupted(uninterrupted, tmp_path):
    within = sum(kill_at_random_moments(tmp_path / "run", seed=seed, kills=3) for seed in range(1, 3))
    assert within, "no kill met a step in training"
    done = train(tmp_path / "run", "--resume")
    assert done.returncode == 0, done.stderr
    assert_same(tmp_path / "run", uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_killed_many_times_and_resumed_equals_uninterrupted(uninterrupted, tmp_path, seed):
    kill_at_random_moments(tmp_path / "run", seed=seed, kills=8)
    assert train(tmp_path / "run", "--resume").returncode == 0
    assert_same(tmp_path / "run", uninterrupted)


def stopped_within_a_phase(out: Path, step: str, *more: str) -> Path:
    """A run that SIGTERM has stopped while `step` was training; the step's folder."""
    process = subprocess.Popen(command(out, "--save-every", "0", *more), stderr=subprocess.PIPE, stdout=subprocess.PIPE,
                               text=True)  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(out.glob(f"steps/{step}-*/state.previous.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.terminate()
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert "--resume" in errors and "Traceback" not in errors
    [folder] = out.glob(f"steps/{step}-*")
    return folder


def test_a_killed_run_with_adamw_and_a_teacher_that_follows_equals_an_uninterrupted_one(tmp_path):
    """The state of both is in the checkpoint: the running means of AdamW, the moving average of the teacher."""
    phases_ = "phases={full: {epochs: 1, lr: 0.002}, kernel: {epochs: 2, lr: 0.002, warmup_epochs: 0}}"
    more = ["--supernet", "EE_B", "--teacher", "ema", "--set", "teacher.decay=0.9", "--set", "optimizer=adamw",
            "--set", "idle_parameters=momentum", "--set", phases_, "--save-every", "0"]  # fmt: skip
    assert train(tmp_path / "whole", *more).returncode == 0
    process = subprocess.Popen(command(tmp_path / "run", *more), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not list(tmp_path.glob("run/steps/kernel-*/state.previous.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    [state] = tmp_path.glob("run/steps/kernel-*/state.safetensors")
    saved = load_checkpoint(state)[0]
    assert any(name.startswith("optimizer.exp_avg_sq.") for name in saved)
    assert any(name.startswith("teacher.") for name in saved)
    done = train(tmp_path / "run", *more, "--resume")
    assert done.returncode == 0, done.stderr
    assert_same(tmp_path / "run", tmp_path / "whole")


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("step", ["height-2", "width-1"])
def test_a_stopped_run_goes_on_from_its_last_good_state(uninterrupted, tmp_path, step):
    folder = stopped_within_a_phase(tmp_path / "run", step)
    flip_a_bit(folder / "state.safetensors")
    stale = read_measured(uninterrupted / "steps" / folder.name)
    for subnet in stale["subnets"]:
        subnet["top1"] = 100.0
    write_measured(folder, stale)  # of weights that no longer exist
    done = train(tmp_path / "run", "--resume")
    assert done.returncode == 0, done.stderr
    assert step in done.stdout and "state.safetensors is damaged" in done.stdout
    assert_same(tmp_path / "run", uninterrupted)


@pytest.mark.slow
def test_damaged_and_foreign_checkpoints_are_named_and_made_again(uninterrupted, tmp_path):
    out = tmp_path / "run"
    folder = stopped_within_a_phase(out, "height-1")
    [full] = out.glob("steps/full-*")
    for name in ("state.safetensors", "best.safetensors"):
        shutil.copy(full / "best.safetensors", folder / name)  # whole, but no state, and another step's
    best = (full / "best.safetensors").read_bytes()
    (full / "best.safetensors").write_bytes(best[: len(best) // 2])
    done = train(out, "--resume")
    assert done.returncode == 0, done.stderr
    for words in (
        "full",
        "truncated",
        "this step is trained again",
        "must contain a state",
        "was written by step 'full-",
    ):
        assert words in done.stdout
    assert_same(out, uninterrupted)


def test_a_full_disk_stops_with_a_word_and_the_run_goes_on_when_there_is_room(uninterrupted, make_disk):
    out = make_disk("24m") / "run"
    full = train(out, "--save-every", "0")
    assert full.returncode == 1
    assert "the disk is full" in full.stderr and "Traceback" not in full.stderr
    assert list(out.glob("steps/full-*/trained.json")), "it was full at once: nothing was tried"
    assert not list(out.rglob("*.tmp"))
    make_disk("200m")
    done = train(out, "--resume")
    assert done.returncode == 0, done.stderr
    assert "damaged" not in done.stdout
    assert_same(out, uninterrupted)


def test_other_code_is_noticed_at_resume(uninterrupted, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(uninterrupted, out)
    content = read_json(out / "run.json")
    content["provenance"]["threads"] = "7"
    write_record(out / "run.json", content)
    assert "restore the earlier value by --threads 7, choose" in train(out, "--resume").stderr
    content["provenance"]["ofa"] = "0.0.1"
    (out / "results.json").write_text('{"form')  # derived: rebuilt
    write_record(out / "run.json", content)
    refused = train(out, "--resume")
    assert refused.returncode == 1
    assert "ofa was '0.0.1'" in refused.stderr and "--accept-changes" in refused.stderr
    done = train(out, "--resume", "--accept-changes")
    assert done.returncode == 0 and "rebuilt from the finished steps" in done.stdout
    assert_same(out, uninterrupted)


def test_two_processes_do_not_work_in_one_folder(uninterrupted):
    with locked(uninterrupted):
        refused = train(uninterrupted, "--resume")
    assert refused.returncode == 1
    assert "another process is working in" in refused.stderr


@pytest.mark.parametrize("content", ["null", "{}", "[", '{"settings": 1, "subnets": [{}], "seconds": 0}'])
def test_damaged_records_of_a_step_are_made_again(uninterrupted, tmp_path, content):
    out = tmp_path / "run"
    shutil.copytree(uninterrupted, out)
    [last], [full] = out.glob("steps/width-2-*"), out.glob("steps/full-*")
    (full / "measured.json").write_text(content)
    (last / "measured-final.json").write_text(content)
    (last / "trained.json").write_text(content)
    shutil.copy(full / "best.safetensors", last / "state.safetensors")
    done = train(out, "--resume")
    assert done.returncode == 0, done.stderr
    assert "this step is trained again" in done.stdout
    assert_same(out, uninterrupted)


def test_a_partly_measured_last_step_continues_with_the_next_trunk(uninterrupted, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(uninterrupted, out)
    [path] = out.glob("steps/width-2-*/measured-final.json")
    record = read_measured(path.parent, FINAL)
    assert len(record["subnets"]) == 10
    write_measured(path.parent, {**record, "subnets": record["subnets"][:5], "seconds": 1e6}, FINAL)
    assert train(out, "--resume").returncode == 0
    assert_same(out, uninterrupted)
    assert 1e6 < read_measured(path.parent, FINAL)["seconds"] < 1e6 + 60, "the earlier measurements count"


def test_a_finished_run_is_not_computed_again_nor_overwritten(uninterrupted):
    before = {path: path.stat().st_mtime_ns for path in uninterrupted.glob("steps/*/*")}
    refused = train(uninterrupted)
    assert refused.returncode == 1
    assert "add --resume" in refused.stderr
    changed = train(uninterrupted, "--resume", "--set", "label_smoothing=0")
    assert changed.returncode == 1
    assert "recipe" in changed.stderr
    assert train(uninterrupted, "--resume").returncode == 0
    assert {path: path.stat().st_mtime_ns for path in uninterrupted.glob("steps/*/*")} == before

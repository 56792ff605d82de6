"""Whole runs: the same numbers twice, the same weights after being killed, shared steps, foreign folders."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ofav2_plugins.checkpoint import load_checkpoint

FAST = [
    "width_mult=0.25", "resolutions=[16]", "batch_size=256", "evaluation.bn_images=64",
    "evaluation.selection_draws=1", "evaluation.max_subnets=2", "evaluation.batch_size=500",
    "phases={full: {epochs: 2, lr: 0.05}, height: {epochs: 1, warmup_epochs: 0}, width: {epochs: 1, warmup_epochs: 0}}",
]  # fmt: skip


def command(out: Path, *more: str) -> list[str]:
    overrides = [part for override in FAST for part in ("--set", override)]
    return [sys.executable, "-m", "ofav2_plugins", "train", "--supernet", "EE_D", "--teacher", "progressive",
            "--out", str(out), "--threads", "1", *overrides, *more]  # fmt: skip


def train(out: Path, *more: str) -> subprocess.CompletedProcess:
    return subprocess.run(command(out, *more), capture_output=True, text=True)


def weights(out: Path) -> dict[tuple[str, str], bytes]:
    """The bits of every tensor of every step; the files' own bytes vary by the order of safetensors' metadata."""
    held = {path.parent.name: load_checkpoint(path)[0] for path in out.glob("steps/*/best.safetensors")}
    return {(step, name): tensor.numpy().tobytes() for step, net in held.items() for name, tensor in net.items()}


def phases(out: Path) -> list[dict]:
    [row] = json.loads((out / "results.json").read_text())["rows"]
    return [{key: value for key, value in phase.items() if key != "seconds"} for phase in row["phases"]]


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


def test_killed_at_any_moment_and_resumed_equals_uninterrupted(uninterrupted, tmp_path):
    out = tmp_path / "killed"
    log = (tmp_path / "log").open("w")
    for seconds in (7, 9, 12):
        process = subprocess.Popen(command(out, "--resume"), stdout=log, stderr=log)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = train(out, "--resume")
    assert done.returncode == 0, done.stderr
    assert phases(out) == phases(uninterrupted)
    expected = weights(uninterrupted)
    assert len(expected) > 1000
    assert weights(out) == expected


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


def test_sigterm_stops_with_a_word_and_130(tmp_path):
    process = subprocess.Popen(command(tmp_path / "run"), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "run").glob("steps/*/state.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.terminate()
    _, errors = process.communicate()
    assert process.returncode == 130
    assert "--resume" in errors
    assert "Traceback" not in errors
    assert os.listdir(tmp_path / "run")

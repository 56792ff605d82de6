"""`ofav2 doctor` finds what was broken on purpose; what training shows besides its results."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import ofav2, overrides

from ofav2_plugins.utils.files import read_json, write_record

SMALL = ["width_mult=0.25", "resolutions=[16]", "batch_size=512", "evaluation.bn_images=64", "evaluation.max_subnets=1",
         "evaluation.final_trunks=1",
         "phases={full: {epochs: 2}, sandwich: {epochs: 1}}"]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    seen = ("--tensorboard", "--energy", "DEU")
    done = ofav2("train", "--supernet", "EE_B", "--out", out, "--threads", 1, *seen, *overrides(*SMALL))
    assert done.returncode == 0, done.stderr
    return out


def test_a_healthy_machine_dataset_and_run(run):
    done = ofav2("doctor", "--dataset", "fashion-mini", "--run", run)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "wrong" not in done.stdout
    for words in ("upstream patches", "plugins: ", "2550 training", "step full-", "trained"):
        assert words in done.stdout


def test_what_is_broken_is_named_with_its_remedy(run, tmp_path):
    broken = tmp_path / "run"
    shutil.copytree(run, broken)
    [best] = broken.glob("steps/sandwich-*/best.safetensors")
    best.write_bytes(best.read_bytes()[:-10])
    (broken / ".results.json.4194305.tmp").write_text("a part")
    content = read_json(broken / "run.json")
    content["provenance"]["device"] = "cuda"
    write_record(broken / "run.json", content)
    done = ofav2("doctor", "--dataset", "tiny-imagenet", "--root", tmp_path / "none", "--run", broken)
    assert done.returncode == 1
    wrong = [line for line in done.stdout.splitlines() if line.startswith("wrong")]
    for words in (str(tmp_path / "none"), "sandwich-", "rm ", "device was 'cuda', but got 'cpu'"):
        assert any(words in line for line in wrong), words
    assert "4 problems found" in done.stdout
    assert "is it the folder of a run?" in ofav2("doctor", "--run", tmp_path / "none").stdout


def test_metrics_come_as_lines_and_as_tensorboard(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    [folder] = run.glob("steps/full-*")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1]
    events = EventAccumulator(str(folder))
    events.Reload()
    for key in ("loss", "lr", "val_top1", "images_per_second", "peak_memory_mib", "energy_kwh", "co2_kg"):
        assert [scalar.value for scalar in events.Scalars(key)] == pytest.approx([line[key] for line in lines])
        assert all(line[key] > 0 for line in lines if key != "lr")


def test_each_phase_has_its_cost(run):
    [row] = json.loads((run / "results.json").read_text())["rows"]
    for phase in row["phases"]:
        assert phase["images_per_second"] > 0 and phase["seconds"] > 0 and phase["energy_kwh"] > 0
        assert 100 < phase["peak_memory_mib"] < 20_000
    assert "Wh" in (run / "report.html").read_text()


PEAK = """
import torch
from ofav2_plugins.utils.memory import peak_memory_mib, reset_peak_memory
cpu = torch.device("cpu")
reset_peak_memory(cpu)
before = peak_memory_mib(cpu)
tensor = torch.ones(100 * 2**18)  # 100 MiB
during = peak_memory_mib(cpu)
del tensor
reset_peak_memory(cpu)
print(during - before, peak_memory_mib(cpu) - before)
"""


def test_peak_memory_sees_an_allocation_and_forgets_it():
    """In a process of its own: the commands, which other tests run in this one, keep what is freed."""
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    during, afterwards = map(float, done.stdout.split())
    assert 90 < during < 150
    assert afterwards < 50 or sys.platform != "linux"


def test_the_plan_estimates_hours(run):
    plan = ["plan", "--supernet", "EE_B", "--recipe", "quick", "--dataset", "fashion-mini", "--json"]
    done = ofav2(*plan, *overrides(*SMALL))
    assert done.returncode == 0, done.stderr
    estimated = sum(entry["hours"] for entry in json.loads(done.stdout)) * 3600
    [row] = json.loads((run / "results.json").read_text())["rows"]
    taken = sum(phase["seconds"] for phase in row["phases"])
    assert (
        math.isfinite(estimated) and taken / 20 < estimated < taken * 20
    )  # the unit is right; how near it is depends on what else runs

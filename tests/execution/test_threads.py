"""The number of threads: as many as there are idle CPUs, and that of the earlier call if a run is resumed."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest
import torch
from rich.console import Console
from support.commands import SMALL, ofav2, overrides

from ofav2_plugins.execution.threads import idle_threads, set_threads

MANY = (os.cpu_count() or 1) + 2
"""More threads than there can be idle CPUs."""


@pytest.fixture(autouse=True)
def threads_restored():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("default", "cpus", "busy", "expected"),
    [(2, 2, 0.0, 2), (2, 2, 0.3, 2), (2, 2, 1.0, 1), (2, 2, 2.0, 1), (4, 8, 3.0, 4), (4, 8, 5.0, 3), (1, 8, 0.0, 1)],
)
def test_a_thread_for_each_idle_cpu_up_to_the_default(default, cpus, busy, expected):
    assert idle_threads(default, cpus, busy) == expected


def test_a_busy_machine_leaves_one_thread_and_the_user_is_told(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(2)
    shown = io.StringIO()
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        set_threads(None, tmp_path / "new", Console(file=shown))
    finally:
        for process in others:
            process.kill()
            process.wait()
    assert torch.get_num_threads() == 1
    assert "other processes use" in shown.getvalue() and "1 of 2 threads; --threads N" in shown.getvalue()


@pytest.mark.parametrize(("chosen", "expected"), [(None, MANY), (3, 3)])
def test_the_users_choice_is_kept(tmp_path, monkeypatch, chosen, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", str(MANY))
    torch.set_num_threads(MANY)
    set_threads(chosen, tmp_path / "new", Console(file=io.StringIO()))
    assert torch.get_num_threads() == expected


def test_a_resumed_run_keeps_its_number(tmp_path):
    train = ["train", "--supernet", "SE_B", "--out", tmp_path / "run",
             *overrides(*SMALL, "phases={full: {epochs: 1, lr: 0.05}}")]  # fmt: skip
    assert ofav2(*train, "--threads", 2).returncode == 0
    torch.set_num_threads(1)
    resumed = ofav2(*train, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert torch.get_num_threads() == 2
    assert "restore the earlier value by --threads 2" in ofav2(*train, "--resume", "--threads", 1).error

"""The number of CPU threads of a command."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import torch
from rich.console import Console

from ..errors import RunError
from ..utils.progress import say
from .run_folder import read_run_file

SAMPLE_SECONDS = 0.3
"""How long the use of the CPUs is measured."""


def set_threads(chosen: int | None, out: Path, console: Console) -> None:
    """Set torch's number of threads in this process.

    In this order: `chosen`; the number of the run in `out`, because its results depend on it; OMP_NUM_THREADS; as many
    as there are idle CPUs. Threads wait for each other, so one that another process delays makes all of them slow
    (benchmarks/under_load.py).
    """
    chosen = chosen or _earlier(out)
    if chosen is None and "OMP_NUM_THREADS" not in os.environ:
        default, cpus = torch.get_num_threads(), psutil.cpu_count() or 1
        busy = psutil.cpu_percent(SAMPLE_SECONDS) / 100 * cpus
        chosen = idle_threads(default, cpus, busy)
        if chosen < default:
            say(
                console,
                f"other processes use {busy:.1f} of {cpus} CPUs, so this command uses {chosen} of {default} threads; "
                "--threads N chooses another number",
                "yellow",
            )
    if chosen is not None:
        torch.set_num_threads(chosen)


def idle_threads(default: int, cpus: int, busy: float) -> int:
    """Threads for a machine of which other processes use `busy` CPUs: at least one, at most `default`."""
    return max(1, min(default, round(cpus - busy)))


def _earlier(out: Path) -> int | None:
    """The threads of the run in a folder; None if there is no readable run."""
    try:
        return int(read_run_file(out)["provenance"]["threads"])
    except (RunError, KeyError, ValueError):
        return None

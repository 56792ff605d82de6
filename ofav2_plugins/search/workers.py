"""Measuring trunks in this process, or in several."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..evaluation.accuracy import Evaluator
from ..execution.open_run import OpenRun, open_run
from ..utils.distributed import make_fabric
from ..utils.memory import keep_freed_memory
from ..utils.signals import StopRequest
from .measure import TrunkMeter
from .samples import Trunk

WAIT_SECONDS = 0.5
"""How often it is checked whether someone asked to stop."""


@dataclass(frozen=True)
class MeterSource:
    """From what a process makes its own `TrunkMeter`.

    Args:
        run: The run folder.
        arm: For a study: the arm.
        seed: For a study: the seed of the training.
        step: The step whose weights are measured.
        root: Where the dataset is; None: where it was.
        device: "auto", "cpu", "cuda" or "mps".
        threshold: Of the early exits, see `TrunkMeter`.
        threads: CPU threads of each process.
    """

    run: Path
    arm: str | None
    seed: int | None
    step: str
    root: Path | None
    device: str
    threshold: float
    threads: int

    def open(self) -> OpenRun:
        """The training."""
        return open_run(self.run, self.arm, self.seed)

    def meter(self) -> TrunkMeter:
        """The meter, with the network and the data loaded."""
        run, fabric = self.open(), make_fabric(self.device)
        evaluator = Evaluator(run.data(self.root), run.config.recipe, fabric, run.config.seed)
        net = run.supernet(self.step).to(fabric.device).to(memory_format=torch.channels_last)
        return TrunkMeter(net.eval(), evaluator, self.threshold)


@dataclass(frozen=True)
class Job:
    """A trunk and the parts of the data on which it is measured."""

    trunk: Trunk
    splits: tuple[str, ...] = ("validation",)

    def run(self, meter: TrunkMeter) -> list[dict[str, Any]]:
        """What `TrunkMeter.measure` gives."""
        return meter.measure(self.trunk.arch, self.trunk.resolution, self.trunk.heights, self.splits)


def run_jobs(
    source: MeterSource, meter: TrunkMeter, jobs: Sequence[Job], workers: int, stop: StopRequest
) -> Iterator[tuple[Job, list[dict[str, Any]]]]:
    """The jobs as they are done, with what was measured.

    Args:
        source: From what each further process makes its meter.
        meter: This process's.
        jobs: What to measure.
        workers: Number of processes; 1 measures in this one.
        stop: Asks to stop.

    Raises:
        KeyboardInterrupt: `stop` asked to.
    """
    if workers == 1 or len(jobs) < 2:
        for job in jobs:
            if stop.asked:
                raise KeyboardInterrupt
            yield job, job.run(meter)
        return
    workers = min(workers, len(jobs))
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_start, initargs=(replace(source, device="cpu"),)
    )
    with pool:
        left: dict[Future[Any], Job] = {pool.submit(_measured, job): job for job in jobs}
        try:
            while left:
                done, _ = wait(left, timeout=WAIT_SECONDS, return_when=FIRST_COMPLETED)
                for future in done:
                    yield left.pop(future), future.result()
                if stop.asked:
                    raise KeyboardInterrupt
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_meter: TrunkMeter


def _start(source: MeterSource) -> None:
    """Prepare a worker process."""
    global _meter
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the first process, which shuts the pool down
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    keep_freed_memory()
    torch.set_num_threads(source.threads)
    _meter = source.meter()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _measured(job: Job) -> list[dict[str, Any]]:
    return job.run(_meter)

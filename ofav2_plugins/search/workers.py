"""Measuring trunks, in this process or by the workers of an executor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..evaluation.accuracy import Evaluator
from ..execution.open_run import OpenRun, open_run
from ..executors.base import Executor
from ..utils.distributed import make_fabric
from ..utils.signals import StopRequest
from .measure import TrunkMeter
from .samples import Trunk


@dataclass(frozen=True)
class MeterSource:
    """The arguments from which each process creates its own `TrunkMeter`.

    Args:
        run: The run folder.
        arm: For a study: the arm.
        seed: For a study: the seed of the training.
        step: The step whose weights are measured.
        root: The folder of the dataset; None: the one of the training.
        device: "auto", "cpu", "cuda" or "mps".
        threshold: Confidence of the early exits, see `TrunkMeter`.
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
        """The measurements, see `TrunkMeter.measure`."""
        return meter.measure(self.trunk.arch, self.trunk.resolution, self.trunk.heights, self.splits)


@dataclass(frozen=True)
class _MeasureFactory:
    """Creates the worker's function, which maps a job to its measurements."""

    source: MeterSource

    def __call__(self) -> Callable[[Job], list[dict[str, Any]]]:
        meter = self.source.meter()
        return lambda job: job.run(meter)


def run_jobs(
    source: MeterSource,
    meter: TrunkMeter,
    jobs: Sequence[Job],
    executor: Executor,
    stop: StopRequest,
    say: Callable[[str], None],
) -> Iterator[tuple[Job, list[dict[str, Any]]]]:
    """Execute jobs; yields each with its measurements as soon as it is finished.

    Args:
        source: The source from which each worker creates its meter.
        meter: The meter of this process.
        jobs: The jobs.
        executor: Executes the jobs, unless there is only one.
        stop: Whether the user requested a stop.
        say: Receives a line for the user.

    Raises:
        KeyboardInterrupt: The user requested a stop.
    """
    if executor.in_process or len(jobs) < 2:
        for job in jobs:
            if stop.requested:
                raise KeyboardInterrupt
            yield job, job.run(meter)
        return
    workers_source = replace(source, device=executor.measuring_device(source.device))
    yield from executor.map(_MeasureFactory(workers_source), jobs, source.threads, stop, say)

"""The worker's side of every parallel executor: executes one run and sends messages about it."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from ..errors import DiskError, RunError, UserError
from ..execution.provenance import code_versions, environment
from ..execution.run_folder import difference
from ..execution.training_run import TrainingRun, load_data
from ..registry import explain
from ..training.context import RunContext
from ..training.run_config import RunConfig
from ..utils.distributed import make_fabric
from ..utils.files import write_atomically
from ..utils.memory import keep_freed_memory, peak_memory_mib
from ..utils.progress import Reporter
from ..utils.signals import StopRequest
from .base import ResultSink, RunSetup
from .messages import Advanced, DiskFailed, Ended, Failed, Line, Message, PhaseFinished, Skipped, Started

CPU = torch.device("cpu")

SEND_SECONDS = 0.5
"""Minimum interval between two progress messages."""

Send = Callable[[Message], None]


@dataclass(frozen=True)
class RunTask:
    """A run that a worker executes.

    Args:
        config: The run.
        setup: Data, folder, device and so on.
        steps: The names of its step folders in the first process; the worker must compute the same names.
        code: The versions of the code in the first process.
    """

    config: RunConfig
    setup: RunSetup
    steps: tuple[str, ...]
    code: dict[str, str]

    @classmethod
    def of(cls, run: TrainingRun, setup: RunSetup) -> RunTask:
        """The task of executing `run` elsewhere."""
        return cls(run.config, setup, tuple(folder.name for folder in run.folders.values()), code_versions())


def execute_run(task: RunTask, send: Send, stop: StopRequest, on_phase: Callable[[], None] = lambda: None) -> None:
    """Execute a run and send messages about it; a failure is sent as a message, not raised.

    Args:
        task: The run.
        send: Sends a message to the first process.
        stop: A request to save and stop.
        on_phase: Called after each finished step, before its message is sent.

    Raises:
        KeyboardInterrupt: `stop` was set; the state is saved.
    """
    setup, reporter = task.setup, WorkerReporter(send)
    keep_freed_memory()
    torch.set_num_threads(setup.threads)
    try:
        _check_code(task.code)
        fabric = make_fabric(setup.device, setup.precision)
        data = load_data(setup.dataset, setup.root, task.config.recipe.validation_fraction)
        run = TrainingRun(task.config, data, setup.out / "steps", fabric)
        if tuple(folder.name for folder in run.folders.values()) != task.steps:
            raise RunError("the images on this worker's machine differ from those of the first process")
        reporter.device, reporter.total = fabric.device, run.work()
        send(Started(environment(fabric)))
        for phase in run.run(RunContext(reporter, stop, setup.logging)):
            reporter.flush()
            on_phase()
            send(PhaseFinished(phase))
        send(Ended())
    except DiskError as error:
        send(DiskFailed(str(error)))
    except (Exception, SystemExit) as error:
        send(failure(error))


def _check_code(expected: dict[str, str]) -> None:
    changed = difference(expected, code_versions())
    if changed:
        raise RunError(f"this worker's machine has different code installed: {changed}; install the same versions")


class WorkerReporter(Reporter):
    """A worker's progress: sent to the first process, which shows it."""

    def __init__(self, send: Send):
        super().__init__(Console(quiet=True), 0)
        self.device = CPU
        self._send = send
        self._unsent, self._sent_at, self._current = 0.0, 0.0, ("", "")

    def advance(self, work: float, description: str, note: str = "") -> None:
        self.done += work
        self._unsent += work
        self._current = description, note
        if time.monotonic() - self._sent_at > SEND_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send the work since the last message, with the memory used."""
        if self._unsent:
            reserved = torch.cuda.max_memory_reserved(self.device) / 2**20 if self.device.type == "cuda" else 0.0
            self._send(Advanced(self._unsent, *self._current, peak_memory_mib(CPU), reserved))
        self._unsent, self._sent_at = 0.0, time.monotonic()

    def skip(self, work: float) -> None:
        super().skip(work)
        self._send(Skipped(work))

    def line(self, text: str) -> None:
        self._send(Line(text))


def failure(error: BaseException) -> Failed:
    """An exception as a message, with the traceback if it may be a defect of a plugin."""
    unexpected = not isinstance(error, UserError)
    return Failed(explain(error), "".join(traceback.format_exception(error)) if unexpected else None)


def logged_reason(failed: Failed, out: Path, name: str) -> str:
    """The reason of a failure; a traceback is written to a file of this name in the run folder's `logs`."""
    if not failed.traceback:
        return failed.reason
    readable = "".join(c if c.isalnum() or c == "_" else "-" for c in name)
    log = out / "logs" / f"{readable}.txt"
    write_atomically(log, failed.traceback.encode())
    return f"{failed.reason} (traceback in {log.relative_to(out)})"


def record_failure(run: TrainingRun, failed: Failed, results: ResultSink) -> None:
    """Record the reason of a failed run."""
    results.add_failure(run, logged_reason(failed, results.out, f"{run.config.name}-{run.config.seed}"))

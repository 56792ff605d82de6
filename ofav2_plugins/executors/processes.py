"""Running a study's arms in several processes of one machine, within a memory limit.

A worker trains one arm. Arms that share a step which is not finished are never run at the same time: the second one
waits and then finds it. Only the first process writes results; workers write steps, each its own.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from ..errors import DiskError, UserError
from ..execution.run_folder import working_in
from ..execution.training_run import TrainingRun, load_data
from ..training.context import LoggingOptions, RunContext
from ..training.run_config import RunConfig
from ..utils.distributed import make_fabric
from ..utils.memory import keep_freed_memory, peak_memory_mib
from ..utils.progress import Reporter
from ..utils.signals import StopRequest, stop_on_signals
from .base import ResultSink
from .serial import failure

CPU = torch.device("cpu")
TELL_SECONDS = 0.5
"""How often a worker tells how far it is."""


@dataclass(frozen=True)
class WorkerSetup:
    """What every worker needs besides its arm.

    Args:
        dataset: A plugin of `ofav2.datasets`.
        root: Where it is.
        out: The run folder.
        device: As for `make_fabric`.
        precision: As for `make_fabric`.
        threads: CPU threads of each worker.
        logging: Saving, TensorBoard, energy.
    """

    dataset: Any
    root: Path | None
    out: Path
    device: str
    precision: str
    threads: int
    logging: LoggingOptions


def check_memory(limit_gib: float | None) -> None:
    """Raises UserError for a limit that one worker cannot keep: it begins with what this process has now."""
    least = 2 * peak_memory_mib(CPU) / 1024
    if limit_gib is not None and not limit_gib >= least:
        raise UserError(
            f"--memory must be at least {least:.1f} GiB here, for this process and one worker, but got {limit_gib:g}"
        )


def run_in_workers(
    runs: Sequence[TrainingRun],
    results: ResultSink,
    context: RunContext,
    setup: WorkerSetup,
    workers: int,
    memory_gib: float | None = None,
) -> None:
    """Run arms in up to `workers` processes; an arm that fails does not stop the others.

    Args:
        runs: What to run.
        results: Where it goes.
        context: Progress and stopping, of all of them together.
        setup: What the workers need.
        workers: At most so many at once.
        memory_gib: No worker starts that would, by the peaks so far, need more with all others, and where they have
            grown beyond it the youngest one saves and waits; None: no limit.

    Raises:
        KeyboardInterrupt: Somebody asked to stop; every worker has saved.
        DiskError: Nothing can be written any more.
    """
    pending, running, largest = list(runs), list[_Worker](), 0.0
    try:
        while pending or running:
            if context.stop.asked:
                raise KeyboardInterrupt
            chosen = next((run for run in pending if not any(other.shares_work(run) for other in running)), None)
            if chosen and len(running) < workers and _fits(running, largest, memory_gib):
                pending.remove(chosen)
                running.append(_Worker(chosen, setup))
            for worker in _that_tell(running):
                if context.stop.asked:  # by a signal to all of them: that they end is no failure
                    raise KeyboardInterrupt
                worker.listen(results, context.reporter)
                largest = max(largest, worker.peak)
            running = [worker for worker in running if not worker.ended]
            if len(running) > 1 and not _within(memory_gib, sum(worker.peak for worker in running)):
                pending.insert(0, _put_back(running[-1], context.reporter))
                running.pop()
    finally:
        try:
            for worker in running:
                worker.ask_to_stop()
            for worker in running:
                worker.process.join()
        except KeyboardInterrupt:  # once more: at once
            for worker in running:
                worker.process.kill()
            raise


def _fits(running: Sequence[_Worker], largest: float, limit_gib: float | None) -> bool:
    """Whether one worker more stays within the limit; how much one takes is known once the first has trained."""
    if limit_gib is None or not running:
        return True
    return largest > 0 and _within(limit_gib, (len(running) + 1) * largest)


def _within(limit_gib: float | None, workers_mib: float) -> bool:
    """Whether this process and workers of so much in all are within the limit."""
    return limit_gib is None or peak_memory_mib(CPU) + workers_mib <= limit_gib * 1024


def _put_back(worker: _Worker, reporter: Reporter) -> TrainingRun:
    """Stop a worker; gives its arm back, of which nothing is lost."""
    worker.ask_to_stop()
    worker.process.join()
    reporter.skip(-worker.work)  # it will be told again
    arm = worker.run.config
    reporter.line(f"{arm.name}, seed {arm.seed}, waits: all workers together took more than --memory")
    return worker.run


def _that_tell(running: Sequence[_Worker]) -> Iterator[_Worker]:
    """The workers that have something to say, within a moment."""
    ready = wait([worker.connection for worker in running], timeout=TELL_SECONDS)
    return (worker for worker in running if worker.connection in ready)


class _Worker:
    """A process that runs one arm, as the first process sees it."""

    def __init__(self, run: TrainingRun, setup: WorkerSetup):
        self.run, self.ended, self.peak, self.work = run, False, 0.0, 0.0
        self._left = list(run.folders.values())
        spawn = multiprocessing.get_context("spawn")
        self.connection, theirs = spawn.Pipe(duplex=False)
        self.process = spawn.Process(target=_work, args=(theirs, run.config, setup), daemon=True)
        with _environment(OMP_NUM_THREADS=str(setup.threads)), _ignoring(signal.SIGINT):
            self.process.start()  # Ctrl-C reaches this process; the worker is told by SIGTERM
        theirs.close()

    def shares_work(self, run: TrainingRun) -> bool:
        """Whether a step that this worker has not finished is also one of `run`'s."""
        return bool(set(self._left) & set(run.folders.values()))

    def ask_to_stop(self) -> None:
        """It saves and ends; what it has to say nobody hears any more."""
        self.connection.close()
        self.process.terminate()

    def listen(self, results: ResultSink, reporter: Reporter) -> None:
        """Take in one message."""
        try:
            kind, *content = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            killed = ", perhaps out of memory" if self.process.exitcode == -signal.SIGKILL else ""
            kind, content = "failed", [f"its process ended with code {self.process.exitcode}{killed}"]
        match kind:
            case "advance":
                work, description, note, self.peak = content
                self.work += work
                reporter.advance(work, f"{self.run.config.name} {description}", note)
            case "skip":
                self.work += content[0]
                reporter.skip(*content)
            case "line":
                reporter.line(f"{self.run.config.name}: {content[0]}")
            case "phase":
                self._left.pop(0)
                results.add_phase(self.run, *content)
            case "failed":
                results.add_failure(self.run, *content)
            case "disk":
                raise DiskError(*content)
        if kind in ("failed", "end"):
            self.ended = True
            self.process.join()


class _Telling(Reporter):
    """A worker's progress: sent to the first process, which shows it."""

    def __init__(self, connection: Connection, total: float, stop: StopRequest):
        super().__init__(Console(quiet=True), total)
        self._connection, self._stop = connection, stop
        self._untold, self._told, self._doing = 0.0, 0.0, ("", "")

    def tell(self, *message: Any) -> None:
        """Send a message; without anybody to hear it, stop."""
        try:
            self._connection.send(message)
        except OSError:
            self._stop.asked = True

    def advance(self, work: float, description: str, note: str = "") -> None:
        self.done += work
        self._untold += work
        self._doing = description, note
        if time.monotonic() - self._told > TELL_SECONDS:
            self.catch_up()

    def catch_up(self) -> None:
        """Tell what was done since the last time; how much memory that took is not known before something was."""
        if self._untold:
            self.tell("advance", self._untold, *self._doing, peak_memory_mib(CPU))
        self._untold, self._told = 0.0, time.monotonic()

    def skip(self, work: float) -> None:
        super().skip(work)
        self.tell("skip", work)

    def line(self, text: str) -> None:
        self.tell("line", text)


def _work(connection: Connection, arm: RunConfig, setup: WorkerSetup) -> None:
    """A worker's process."""
    keep_freed_memory()
    torch.set_num_threads(setup.threads)
    with stop_on_signals(lambda _: None, (signal.SIGTERM,), patient=True) as stop:
        telling = _Telling(connection, 0, stop)
        try:
            with working_in(setup.out):
                _stop_with_parent(stop)
                fabric = make_fabric(setup.device, setup.precision)
                data = load_data(setup.dataset, setup.root, arm.recipe.validation_fraction)
                run = TrainingRun(arm, data, setup.out / "steps", fabric)
                telling.total = run.work()
                for phase in run.run(RunContext(telling, stop, setup.logging)):
                    telling.catch_up()
                    telling.tell("phase", phase)
                telling.tell("end")
        except KeyboardInterrupt:
            telling.tell("failed", "it was stopped from outside; what it had done is saved")
        except DiskError as error:
            telling.tell("disk", str(error))
        except (Exception, SystemExit) as error:
            telling.tell("failed", failure(arm, error, setup.out))


def _stop_with_parent(stop: StopRequest) -> None:
    """Stop when the first process is there no more, at whatever this one is then."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    if not parent.is_alive():
        raise KeyboardInterrupt

    def watch() -> None:
        parent.join()
        stop.asked = True

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Environment variables for a process that is started within it."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


@contextmanager
def _ignoring(number: int) -> Iterator[None]:
    """A process that is started within it never gets this signal."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)


def check_workers(workers: int, world_size: int) -> None:
    """Raises UserError where several processes already share one arm."""
    if workers > 1 and world_size > 1:
        raise UserError(
            f"--workers {workers} runs arms beside each other, torchrun one arm over processes: use one of them"
        )

"""The first process's side of every parallel executor: schedules runs and processes messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Generic, Protocol, TypeVar

from ..errors import DiskError
from ..execution.training_run import TrainingRun
from ..training.context import RunContext
from ..utils.progress import Reporter
from .base import ResultSink
from .messages import Advanced, DiskFailed, Ended, Failed, Line, Message, PhaseFinished, Returned, Skipped, Started
from .worker import record_failure

POLL_SECONDS = 0.5
"""The interval between two checks for a stop request."""


class ActiveRun:
    """The first process's view of a run that a worker executes.

    Args:
        run: The run.
    """

    def __init__(self, run: TrainingRun):
        self.run = run
        self.ended = False
        """Whether its worker will send no more messages."""
        self.returned = False
        """Whether another worker must continue the run."""
        self.peak_mib, self.device_peak_mib = 0.0, 0.0
        self.work = 0.0
        self.reported = 0
        """Number of the run's steps whose results have been recorded, including by earlier workers."""
        self._unfinished = list(run.folders.values())

    @property
    def label(self) -> str:
        """The arm and the seed, for messages."""
        return f"{self.run.config.name}, seed {self.run.config.seed}"

    def shares_work(self, run: TrainingRun) -> bool:
        """Whether a step that this run has not finished is also one of `run`'s."""
        return bool(set(self._unfinished) & set(run.folders.values()))

    def receive(self, message: Message, results: ResultSink, reporter: Reporter) -> None:
        """Process a message of the worker.

        Args:
            message: The message.
            results: Receives the results.
            reporter: Shows the progress.

        Raises:
            DiskError: Files cannot be written.
        """
        match message:
            case Started():
                self._forget(reporter)  # the progress of this worker before it was restarted
                results.add_environment(message.environment)
            case Advanced():
                self.work += message.work
                self.peak_mib = max(self.peak_mib, message.peak_mib)
                self.device_peak_mib = max(self.device_peak_mib, message.device_peak_mib)
                reporter.advance(message.work, f"{self.run.config.name} {message.description}", message.note)
            case Skipped():
                self.work += message.work
                reporter.skip(message.work)
            case Line():
                reporter.line(f"{self.run.config.name}: {message.text}")
            case PhaseFinished():
                self._unfinished.pop(0)
                if len(self.run.folders) - len(self._unfinished) > self.reported:
                    results.add_phase(self.run, message.phase)
                    self.reported += 1
            case Failed():
                self.ended = True
                record_failure(self.run, message, results)
            case Returned():
                self.ended = self.returned = True
                self._forget(reporter)
                reporter.line(f"{self.label}: {message.reason}")
            case Ended():
                self.ended = True
            case DiskFailed():
                raise DiskError(message.reason)

    def _forget(self, reporter: Reporter) -> None:
        """Discard the work so far, because a worker that starts or continues reports it again."""
        reporter.skip(-self.work)
        self.work = 0.0
        self._unfinished = list(self.run.folders.values())


Active = TypeVar("Active", bound=ActiveRun)


class Backend(Protocol[Active]):
    """The interface through which workers are started, stopped and polled."""

    def start(self, run: TrainingRun, active: Sequence[Active]) -> Active | None:
        """Start a worker for a run; None if no resources are free."""

    def poll(self, active: Sequence[Active]) -> Iterable[tuple[Active, Message]]:
        """The messages that have arrived; waits up to `POLL_SECONDS` for the first one."""

    def stop(self, active: Sequence[Active]) -> None:
        """Ask workers to save and exit, and wait for them; their later messages are dropped."""

    def kill(self, active: Sequence[Active]) -> None:
        """End workers at once."""


class Schedule(Generic[Active]):
    """Executes runs with the workers of a backend.

    Runs that share an unfinished step are never executed at the same time: the second one waits until the first one
    has finished the step, and then loads it. Runs with the most remaining work start first, because the last runs would
    otherwise wait for a long one that started late.

    Args:
        runs: The runs.
        results: Receives the results.
        context: Progress and stopping.
        backend: Starts the workers.
    """

    def __init__(self, runs: Sequence[TrainingRun], results: ResultSink, context: RunContext, backend: Backend[Active]):
        self.results, self.context, self.backend = results, context, backend
        self._pending = sorted(runs, key=lambda run: -run.remaining_work())
        self._active = list[Active]()
        self._reported = {id(run): 0 for run in runs}

    def execute(self) -> None:
        """Execute all runs.

        Raises:
            KeyboardInterrupt: The user stopped; every worker has saved.
            DiskError: Files cannot be written.
        """
        try:
            while self._pending or self._active:
                self._check_stop()
                self._start()
                for active, message in self.backend.poll(self._active):
                    self._check_stop()  # after a signal to all processes, the end of a worker is no failure
                    active.receive(message, self.results, self.context.reporter)
                self._collect()
        finally:
            try:
                self.backend.stop(self._active)
            except KeyboardInterrupt:  # a second Ctrl-C
                self.backend.kill(self._active)
                raise

    def _check_stop(self) -> None:
        if self.context.stop.requested:
            raise KeyboardInterrupt

    def _start(self) -> None:
        for run in list(self._pending):
            if any(active.shares_work(run) for active in self._active):
                continue
            started = self.backend.start(run, self._active)
            if started is None:
                return
            started.reported = self._reported[id(run)]
            self._pending.remove(run)
            self._active.append(started)

    def _collect(self) -> None:
        """Remove the workers that have ended; runs that must be continued are the next to start."""
        ended = [active for active in self._active if active.ended]
        self._active = [active for active in self._active if not active.ended]
        for active in ended:
            self._reported[id(active.run)] = active.reported
        self._pending[:0] = [active.run for active in ended if active.returned]

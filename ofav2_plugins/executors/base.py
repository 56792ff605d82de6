"""The contract of executors: they execute the independent runs of a study, and the measurements of a search.

An executor decides where and when the runs are executed. It never influences their results: on the same kind of
processor with the same number of threads, they are bitwise equal.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ..plugin import Plugin

if TYPE_CHECKING:
    from ..execution.training_run import TrainingRun
    from ..training.context import LoggingOptions, RunContext
    from ..utils.signals import StopRequest

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class RunSetup:
    """The inputs of a worker, in addition to the configuration of its run.

    Args:
        dataset: A plugin of `ofav2.datasets`.
        root: The folder of the dataset.
        out: The run folder.
        device: As for `make_fabric`.
        precision: As for `make_fabric`.
        threads: CPU threads of torch in each worker.
        logging: Checkpoint interval, TensorBoard, energy.
    """

    dataset: Any
    root: Path | None
    out: Path
    device: str
    precision: str
    threads: int
    logging: LoggingOptions

    def absolute(self) -> RunSetup:
        """The same setup for workers in other working directories."""
        return replace(self, out=self.out.resolve(), root=self.root.resolve() if self.root else None)


class ResultSink(Protocol):
    """Receives the results of runs while they are executed."""

    out: Path
    """The run folder."""

    def add_environment(self, environment: dict[str, Any]) -> None:
        """Record a machine on which runs are executed."""

    def add_phase(self, run: TrainingRun, phase: dict[str, Any]) -> None:
        """Record one finished entry of `phases` of a run's results row."""

    def add_failure(self, run: TrainingRun, reason: str) -> None:
        """Record that a run has ended early, with the reason."""


class Executor(Plugin, abc.ABC):
    """Executes the runs of a study."""

    in_process = False
    """Whether runs are executed in this process, which is required for several processes under `torchrun`."""

    remote = False
    """Whether runs may be executed on other machines, so that this machine does not need their device."""

    measures = True
    """Whether `map` is implemented, so that a search can use the executor."""

    def check(self) -> None:
        """Acquire what the executor needs; called before anything is written.

        Raises:
            UserError: The executor cannot be used; the message contains the remedy.
        """

    def close(self) -> None:
        """Release what `check` has acquired."""

    def threads(self, available: int) -> int:
        """CPU threads of each run if the user does not choose, given the number of threads of this process."""
        return available

    def device(self, chosen: str) -> str:
        """The device of the workers, given the user's choice ("auto" if there is none)."""
        return chosen

    def measuring_device(self, chosen: str) -> str:
        """The device of the workers of `map`, given the user's choice."""
        return self.device(chosen)

    @abc.abstractmethod
    def execute(self, runs: Sequence[TrainingRun], results: ResultSink, context: RunContext, setup: RunSetup) -> None:
        """Execute runs. A failed run is recorded in `results` and does not stop the others.

        Runs that share a step (the same folder) must not execute it at the same time: the second one waits for the
        first one and then loads the finished step.

        Args:
            runs: The runs of the study. If there is only one and it fails in this process, its exception is raised.
            results: Receives the results as they arrive.
            context: Progress, stopping and logging.
            setup: The inputs of the workers.

        Raises:
            KeyboardInterrupt: The user stopped; every run has saved its state.
            DiskError: Files cannot be written.
        """

    def map(
        self,
        make: Callable[[], Callable[[Item], Result]],
        items: Sequence[Item],
        threads: int,
        stop: StopRequest,
        say: Callable[[str], None],
    ) -> Iterator[tuple[Item, Result]]:
        """Apply a function to items in parallel; yields (item, result) pairs as they finish.

        Args:
            make: Called once in each worker; returns the function. It must be picklable.
            items: The arguments.
            threads: CPU threads of torch in each worker.
            stop: A request to stop.
            say: Receives a line for the user, such as the reason for a long wait.

        Raises:
            KeyboardInterrupt: The user stopped.
        """
        raise NotImplementedError(f"executor {self.name!r} executes runs only")

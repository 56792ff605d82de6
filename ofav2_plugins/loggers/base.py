"""Contract of `ofav2.loggers`, and the group of a run's loggers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import registry
from ..errors import DiskError, UserError, error_message
from ..plugin import Plugin

ALWAYS = ("jsonl",)
"""Loggers of every run: `ofav2 watch` reads their output."""


@dataclass(frozen=True)
class RunInfo:
    """The run (one arm with one seed) that events belong to.

    Args:
        name: Name of the arm.
        seed: Its seed.
        settings: Everything that identifies the run, as JSON-able values.
        folder: The run folder; the runs of a study share it.
    """

    name: str
    seed: int
    settings: Mapping[str, Any]
    folder: Path


@dataclass(frozen=True)
class StepInfo:
    """The step of the plan that events belong to.

    Args:
        name: Name of the step: "kernel", "height-3".
        folder: Its folder.
        epochs: Epochs, warm-up included.
        history: Records of the epochs that earlier sessions have finished.
    """

    name: str
    folder: Path
    epochs: int
    history: Sequence[Mapping[str, Any]]


class Logger(Plugin):
    """Receives the events of a run; every method does nothing by default.

    Only the first of several processes logs. Results never depend on loggers: a logger that raises is reported once and
    disabled, and the run continues.
    """

    def check(self) -> None:
        """Called before any work starts. Raises UserError, with a remedy, if the logger cannot run here."""

    def run_started(self, run: RunInfo) -> None:
        """A run starts or is resumed."""

    def step_started(self, step: StepInfo) -> None:
        """The training of a step starts or is resumed."""

    def epoch_started(self, epoch: int) -> None:
        """An epoch (from 0) starts or is resumed."""

    def measurements(self) -> Mapping[str, float]:
        """The logger's own numbers of the epoch that just ended, for the epoch's record (energy, for example)."""
        return {}

    def epoch_finished(self, record: Mapping[str, Any]) -> None:
        """An epoch is finished.

        Args:
            record: "step", "epoch", "loss", "lr", "val_top1" (%), "seconds", "images_per_second", "peak_memory_mib",
                and the measurements of all loggers.
        """

    def step_finished(self) -> None:
        """The training of the step has ended: finished, stopped or failed."""

    def evaluated(self, step: str, result: Mapping[str, Any]) -> None:
        """Subnets were measured after a step.

        Args:
            step: Name of the step.
            result: Its entry of `phases` in results.json: "best_top1", "subnets" and so on.
        """

    def run_finished(self, status: str) -> None:
        """The run has ended: "finished", "stopped" or "failed"."""


class Loggers:
    """The group of a run's loggers. A logger that raises is reported in one line and receives no more events.

    Args:
        loggers: The loggers.
        report: Receives the line.
    """

    def __init__(self, loggers: Sequence[Logger], report: Callable[[str], None]):
        self._active, self._report = list(loggers), report

    def emit(self, event: str, *arguments: Any) -> None:
        """Call the method `event` of every logger.

        Raises:
            DiskError: The disk is full; this always stops the run.
        """
        for logger in list(self._active):
            self._call(logger, event, *arguments)

    def measurements(self) -> dict[str, float]:
        """The measurements of all loggers."""
        merged: dict[str, float] = {}
        for logger in list(self._active):
            merged.update(self._call(logger, "measurements", checked=finite_numbers) or {})
        return merged

    def _call(
        self, logger: Logger, event: str, *arguments: Any, checked: Callable[[Any], Any] = lambda result: None
    ) -> Any:
        try:
            return checked(getattr(logger, event)(*arguments))
        except DiskError:
            raise
        except (Exception, SystemExit) as error:
            self._active.remove(logger)
            self._report(
                f"logger {logger.name!r} failed in {event} and is switched off; the run continues without it: "
                f"{error_message(error)}"
            )
            return None


def finite_numbers(measurements: Mapping[str, Any]) -> dict[str, float]:
    """Measurements as floats. Raises ValueError or TypeError if one is not a finite number."""
    numbers = {str(name): float(value) for name, value in measurements.items()}
    for name, value in numbers.items():
        if not math.isfinite(value):
            raise ValueError(f"measurement {name!r} must be a finite number, but got {value}")
    return numbers


def load_loggers(plugins: Sequence[Any]) -> list[Logger]:
    """The loggers of every run, then the given ones.

    Raises:
        UserError: A logger cannot be loaded or is given twice.
    """
    given = [registry.load(registry.LOGGERS, plugin) for plugin in plugins]
    names = [logger.name for logger in given]
    if duplicated := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"logger {duplicated[0]!r} is given more than once; give each logger once")
    always = [registry.load(registry.LOGGERS, name) for name in ALWAYS if name not in names]
    return always + given

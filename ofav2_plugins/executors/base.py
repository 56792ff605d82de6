"""What an executor reports to: the results of a study as they arrive."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from ..execution.training_run import TrainingRun


class ResultSink(Protocol):
    """Receives the results of runs while they are executed."""

    out: Path
    """The run folder."""

    def add_phase(self, run: TrainingRun, phase: dict[str, Any]) -> None:
        """Record one finished entry of `phases` of a run's results row."""

    def add_failure(self, run: TrainingRun, reason: str) -> None:
        """Record that a run ended early, and why."""

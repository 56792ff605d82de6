"""Logger `jsonl`: the records of a step's epochs as lines of JSON in its folder. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..utils.files import write_atomically
from .base import Logger, StepInfo

METRICS = "metrics.jsonl"


class JsonLines(Logger):
    """One line of JSON per epoch in `steps/STEP/metrics.jsonl`; part of every run."""

    def __init__(self) -> None:
        self._path, self._records = Path(METRICS), list[Mapping[str, Any]]()

    def step_started(self, step: StepInfo) -> None:
        """Rewrite the earlier epochs: a killed process may have logged epochs that it did not save."""
        self._path, self._records = step.folder / METRICS, list(step.history)
        if self._records or self._path.exists():
            write_metrics(self._path, self._records)

    def epoch_finished(self, record: Mapping[str, Any]) -> None:
        self._records.append(record)
        write_metrics(self._path, self._records)


def write_metrics(path: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Write the record of each epoch as one line of JSON, atomically."""
    write_atomically(path, "".join(json.dumps(dict(record)) + "\n" for record in history).encode())


def read_metrics(path: Path) -> list[Any] | None:
    """The records written by `write_metrics`; None if the file is missing or not JSON."""
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError, RecursionError):
        return None

"""The protocol between a worker, which executes one run, and the first process, which collects the results.

A worker sends any number of `Started`, `Advanced`, `Skipped`, `Line` and `PhaseFinished`, and then one of `Ended`,
`Failed` and `DiskFailed`. `Returned` is sent by an executor on behalf of a lost worker.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Started:
    """The worker has loaded the data and starts the run; `environment` is its machine and versions."""

    environment: dict[str, Any]


@dataclass(frozen=True)
class Advanced:
    """Work done since the last message.

    Args:
        work: In image passes.
        description: The current step.
        note: Details of the step.
        peak_mib: Peak memory of the worker's process.
        device_peak_mib: Peak memory that it reserved on its accelerator; 0 on a CPU.
    """

    work: float
    description: str
    note: str
    peak_mib: float
    device_peak_mib: float = 0.0


@dataclass(frozen=True)
class Skipped:
    """Work done by an earlier session."""

    work: float


@dataclass(frozen=True)
class Line:
    """A line for the user."""

    text: str


@dataclass(frozen=True)
class PhaseFinished:
    """A step is trained and measured; `phase` is its entry in the results row."""

    phase: dict[str, Any]


@dataclass(frozen=True)
class Ended:
    """All steps of the run are finished."""


@dataclass(frozen=True)
class Failed:
    """The run has failed.

    Args:
        reason: One line.
        traceback: The traceback of an unexpected exception; None for an error written for the user.
    """

    reason: str
    traceback: str | None = None


@dataclass(frozen=True)
class DiskFailed:
    """Files cannot be written, which concerns all runs."""

    reason: str


@dataclass(frozen=True)
class Returned:
    """The worker is lost; another one must continue the run from its last checkpoint."""

    reason: str


Message = Started | Advanced | Skipped | Line | PhaseFinished | Ended | Failed | DiskFailed | Returned

"""What surrounds a training: progress, stopping, saving, logging. No result depends on it."""

from __future__ import annotations

from dataclasses import dataclass

from ..utils.meters import EnergyMeter, require_tensorboard
from ..utils.progress import Reporter
from ..utils.signals import StopRequest


@dataclass(frozen=True)
class LoggingOptions:
    """What a user chooses about saving and watching; no result depends on it.

    Args:
        save_seconds: At most so much training is lost when the process is killed.
        tensorboard: Write TensorBoard scalars.
        energy: Country code for the energy estimate; None estimates nothing.
    """

    save_seconds: float = 300.0
    tensorboard: bool = False
    energy: str | None = None

    def check(self) -> None:
        """Raises UserError where something asked for is not installed, before any work starts."""
        EnergyMeter(self.energy)
        if self.tensorboard:
            require_tensorboard()


@dataclass(frozen=True)
class RunContext:
    """Who watches a training: progress, and whether somebody wants it to stop."""

    reporter: Reporter
    stop: StopRequest
    options: LoggingOptions

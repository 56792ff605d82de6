"""The surroundings of a training: progress, stopping, checkpoints, loggers. No result depends on them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..loggers.base import Loggers, load_loggers
from ..utils.progress import Reporter
from ..utils.signals import StopRequest

NO_LOGGERS = Loggers((), print)


@dataclass(frozen=True)
class LoggingOptions:
    """Checkpoints and loggers; no result depends on them.

    Args:
        save_seconds: Seconds between checkpoints within an epoch: at most this much is lost if the process is killed.
        loggers: Plugins of `ofav2.loggers`, in addition to those of every run.
    """

    save_seconds: float = 300.0
    loggers: tuple[Any, ...] = ()

    def check(self) -> None:
        """Raise UserError if a logger is unknown or cannot be used; called before any work starts."""
        for logger in load_loggers(self.loggers):
            logger.check()


@dataclass(frozen=True)
class RunContext:
    """Progress, the user's request to stop, and logging.

    Args:
        reporter: Shows the progress.
        stop: Whether the run should save and exit.
        options: Checkpoints and loggers.
        loggers: The loggers of the current run; see `for_run`.
    """

    reporter: Reporter
    stop: StopRequest
    options: LoggingOptions
    loggers: Loggers = NO_LOGGERS

    def for_run(self, first: bool) -> RunContext:
        """A copy of this context with new loggers for one run; only the run's first process has loggers."""
        loggers = load_loggers(self.options.loggers) if first else []
        return replace(self, loggers=Loggers(loggers, self.reporter.line))

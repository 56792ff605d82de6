"""Progress of long-running work: a live bar with an ETA on a terminal, plain lines otherwise."""

from __future__ import annotations

import math
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

QUIET_SECONDS = 60
"""Without a terminal, the maximum time between two progress lines."""

SURE_SECONDS = 10
"""Delay before the first estimate of the remaining time; before that, the measured speed is too inaccurate."""


def say(console: Console, text: str, style: str = "") -> None:
    """Print a line unchanged: brackets are not markup, and the line is not wrapped at the console's width."""
    console.print(Text(text, style), soft_wrap=True)


class Reporter:
    """Progress of a whole plan, measured in image passes, with a line per finished step.

    Args:
        console: The console.
        total: The work of the whole plan.
    """

    def __init__(self, console: Console, total: float):
        self.console = console
        self.total = total
        self.done = 0.0
        self._skipped = 0.0
        self._started: float | None = None
        self._last_line = time.monotonic()
        self._live = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%", markup=False),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("{task.fields[eta]}", style="cyan", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._live.add_task("starting", total=total, note="", eta="")

    def __enter__(self) -> Reporter:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def advance(self, work: float, description: str, note: str = "") -> None:
        """Count finished work."""
        if self._started is None:  # not earlier, to exclude loading data and finding finished steps
            self._started = time.monotonic()
        self.done += work
        self._update(description, note)
        if not self.console.is_terminal and time.monotonic() - self._last_line > QUIET_SECONDS:
            self.line(f"{description}: {note}{self.eta()}")

    def skip(self, work: float) -> None:
        """Count work of an earlier session, which does not affect the measured speed."""
        self.done += work
        self._skipped += work

    @property
    def worked(self) -> bool:
        """Whether this session has done any work."""
        return self.done > self._skipped

    def line(self, text: str) -> None:
        """Print a permanent line."""
        self._last_line = time.monotonic()
        say(self.console, text)

    def time_for(self, work: float) -> str:
        """The time for this much work at the current speed, as text; "" if the speed is not known yet."""
        fresh, seconds = self.done - self._skipped, time.monotonic() - (self._started or math.inf)
        return duration(max(work, 0) * seconds / fresh) if fresh > 0 and seconds > SURE_SECONDS else ""

    def eta(self) -> str:
        """The remaining time, as a suffix of a line."""
        left = self.time_for(self.total - self.done)
        return left and f"; {left} left"

    def _update(self, description: str, note: str) -> None:
        self._live.update(
            self._task,
            completed=self.done,
            total=self.total,
            description=description,
            note=note,
            eta=self.eta().removeprefix("; "),
        )


def duration(seconds: float) -> str:
    """Seconds as "42 s", "3 min 20 s" or "5 h 7 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"

"""What one sees while long work runs: a live bar with an ETA on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

QUIET_SECONDS = 60
"""Where there is no terminal, and so no bar, a line says at least so often how far the work is."""

SURE_SECONDS = 10
"""Before that the speed is not known well enough to say how long the rest takes."""


class Reporter:
    """Progress over a whole plan in work of work (images through a network), with a line per finished step.

    Args:
        console: Where it is printed.
        total: Units of the whole plan.
    """

    def __init__(self, console: Console, total: float):
        self.console = console
        self.total = total
        self.done = 0.0
        self._skipped = 0.0
        self._started: float | None = None
        self._last_line = time.monotonic()
        self._live = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("[cyan]{task.fields[eta]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._live.add_task("starting", total=total, note="", eta="")

    def __enter__(self) -> Reporter:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self._live.stop()

    def advance(self, work: float, description: str, note: str = "") -> None:
        """Count work that was done now."""
        if self._started is None:  # not sooner: loading and looking for finished steps is not this work
            self._started = time.monotonic()
        self.done += work
        self._update(description, note)
        if not self.console.is_terminal and time.monotonic() - self._last_line > QUIET_SECONDS:
            self.line(f"{description}: {note}{self.eta()}")

    def skip(self, work: float) -> None:
        """Count work that an earlier run has done: it says nothing about the speed of this one."""
        self.done += work
        self._skipped += work

    @property
    def worked(self) -> bool:
        """Whether any work was done now, not only by earlier runs."""
        return self.done > self._skipped

    def line(self, text: str) -> None:
        """A line that stays."""
        self._last_line = time.monotonic()
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)

    def time_for(self, work: float) -> str:
        """How long that much work takes at the speed so far, for people; "" until it can be told."""
        fresh, seconds = self.done - self._skipped, time.monotonic() - (self._started or math.inf)
        return duration(max(work, 0) * seconds / fresh) if fresh > 0 and seconds > SURE_SECONDS else ""

    def eta(self) -> str:
        """How long it takes to the end, as the end of a line."""
        left = self.time_for(self.total - self.done)
        return left and f"; {left} left"

    def _update(self, description: str, note: str) -> None:
        self._live.update(
            self._task,
            completed=self.done,
            total=self.total,
            description=escape(description),
            note=escape(note),
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

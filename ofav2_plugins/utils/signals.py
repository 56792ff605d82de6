"""Stopping long work between two batches: Ctrl-C and SIGTERM ask, the loop saves and stops. No torch here."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any


class StopRequest:
    """Whether somebody has asked this process to stop."""

    def __init__(self) -> None:
        self.asked = False


@contextmanager
def stop_on_signals(
    say: Callable[[str], None], signals: Sequence[int] = (signal.SIGINT, signal.SIGTERM), patient: bool = False
) -> Iterator[StopRequest]:
    """Within it the first Ctrl-C or SIGTERM only sets `asked`; a second one raises KeyboardInterrupt at once.

    Args:
        say: Told, for the user, that the wish was heard.
        signals: What counts as the wish.
        patient: A second wish changes nothing; for processes whose first process can kill them.
    """
    request = StopRequest()

    def on_signal(_signal: int, _frame: Any) -> None:
        if request.asked and not patient:
            raise KeyboardInterrupt
        request.asked = True
        say("stopping after this batch, with everything saved; once more stops at once")

    previous = [signal.signal(number, on_signal) for number in signals]
    try:
        yield request
    finally:
        for number, handler in zip(signals, previous, strict=True):
            signal.signal(number, handler)

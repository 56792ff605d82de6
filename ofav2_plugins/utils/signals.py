"""Graceful stops: Ctrl-C and SIGTERM set a flag; the loop saves and exits after the batch. Does not import torch."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any


class StopRequest:
    """Whether this process should save and exit (`requested`)."""

    def __init__(self) -> None:
        self.requested = False


@contextmanager
def ignored(number: int) -> Iterator[None]:
    """A process that is started within this context never receives this signal."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)


@contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """Within this context, SIGTERM raises KeyboardInterrupt, as Ctrl-C does."""
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def stop_on_signals(
    say: Callable[[str], None], signals: Sequence[int] = (signal.SIGINT, signal.SIGTERM), patient: bool = False
) -> Iterator[StopRequest]:
    """Within this context, the first Ctrl-C or SIGTERM only sets `requested`; a second one raises KeyboardInterrupt.

    Args:
        say: Receives a line for the user when the signal arrives.
        signals: The signals.
        patient: Ignore further signals; for workers, which their parent process can kill.
    """
    request = StopRequest()

    def on_signal(_signal: int, _frame: Any) -> None:
        if request.requested and not patient:
            raise KeyboardInterrupt
        request.requested = True
        say("stopping after this batch; everything will be saved; press Ctrl-C again to stop at once")

    previous = [signal.signal(number, on_signal) for number in signals]
    try:
        yield request
    finally:
        for number, handler in zip(signals, previous, strict=True):
            signal.signal(number, handler)

"""Worker processes that prepare batches. Their number changes the speed, never the batches or their order."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from .. import registry
from ..errors import RunError, UserError

Batch = TypeVar("Batch")

VARIABLE = "OFAV2_DATA_WORKERS"
MOST = 16
"""Default maximum number of worker processes."""


def worker_count() -> int:
    """Number of worker processes per training process: `$OFAV2_DATA_WORKERS`, or its number of CPUs, at most 16.

    0 in a daemonic process (a worker of `ofav2 ablate --workers`), which cannot start others.

    Raises:
        UserError: The variable is not a number of processes.
    """
    if multiprocessing.current_process().daemon:
        return 0
    chosen = os.environ.get(VARIABLE)
    if chosen:
        if not (chosen.isascii() and chosen.isdigit()):
            raise UserError(f"${VARIABLE} must be a number of processes, 0 or more, but got {chosen!r}")
        return int(chosen)
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST, processors // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def in_order(prepare: Callable[[int], Batch], numbers: range, n_workers: int) -> Iterator[Batch]:
    """`prepare(number)` of every number, in order.

    Args:
        prepare: Returns tensors, or tuples of them, that depend only on the number. Must be picklable for platforms
            that do not fork.
        numbers: The batch numbers.
        n_workers: Worker processes; 0 prepares each batch in this process when it is needed.

    Raises:
        UserError: As raised by `prepare`.
        RunError: A worker process was killed.
    """
    n_workers = min(n_workers, len(numbers))
    if n_workers == 0:
        yield from map(prepare, numbers)
        return
    loader = DataLoader(
        _Prepared(prepare, numbers),
        batch_size=None,
        num_workers=n_workers,
        worker_init_fn=_leave_signals,
        generator=torch.Generator(),  # otherwise it draws from the global one
    )
    batches = iter(loader)
    while True:
        try:
            batch = next(batches, None)
        except RuntimeError as error:
            raise RunError(
                f"a process that prepares batches has failed ({str(error).splitlines()[0]}); if memory or /dev/shm is "
                f"short, set ${VARIABLE} to a smaller number"
            ) from error
        if batch is None:
            return
        if isinstance(batch, Exception):
            raise batch
        yield batch


class _Prepared(Dataset[Any], Generic[Batch]):
    """`prepare` as a dataset whose items are whole batches, or the error raised while preparing one."""

    def __init__(self, prepare: Callable[[int], Batch], numbers: range):
        self.prepare, self.numbers = prepare, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Batch | Exception:
        try:
            return self.prepare(self.numbers[index])
        except UserError as error:  # if raised here, its message would include a traceback
            return error
        except Exception as error:  # the traceback, which shows whose code failed, does not reach the other process
            return RunError(registry.explain(error))


def _leave_signals(_worker: int) -> None:
    """Ignore Ctrl-C, which reaches all processes; the training process ends the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

"""Applies a function to items in several processes of this machine, which end with the first process."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import torch

from ..errors import RunError
from ..utils.memory import keep_freed_memory
from ..utils.signals import StopRequest, ignored
from .base import Item, Result
from .scheduling import POLL_SECONDS


def map_in_processes(
    make: Callable[[], Callable[[Item], Result]],
    items: Sequence[Item],
    workers: int,
    threads: int,
    stop: StopRequest,
) -> Iterator[tuple[Item, Result]]:
    """See `Executor.map`; `workers` is the number of processes."""
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(items)), spawn, initializer=_start, initargs=(make, threads))
    with pool:
        with ignored(signal.SIGINT):  # Ctrl-C reaches the first process, which shuts the pool down
            running: dict[Future[Result], Item] = {pool.submit(_call, item): item for item in items}
        try:
            while running:
                done, _ = wait(running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
                for future in done:
                    yield running.pop(future), future.result()
                if stop.requested:
                    raise KeyboardInterrupt
        except BrokenProcessPool as error:
            raise RunError("a worker process ended unexpectedly, possibly out of memory; use fewer workers") from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_make: Callable[[], Callable[[Any], Any]]


def _start(make: Callable[[], Callable[[Any], Any]], threads: int) -> None:
    """Prepare a worker process."""
    global _make
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    keep_freed_memory()
    torch.set_num_threads(threads)
    _make = make


@functools.cache
def _function() -> Callable[[Any], Any]:
    """Created by the first call, so that an exception of `make` is raised by that call."""
    return _make()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _call(item: Any) -> Any:
    return _function()(item)

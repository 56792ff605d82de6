"""Applies a function to items in actors of a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch

from ..errors import RunError, error_message
from ..utils.memory import keep_freed_memory
from ..utils.signals import StopRequest
from .base import Item, Result
from .scheduling import POLL_SECONDS

RETRIES = 3
"""How many times Ray restarts a dead actor and repeats its call."""


class PoolActor:
    """Applies the function; see `Executor.map`."""

    def __init__(self, make: Callable[[], Callable[[Any], Any]], threads: int):
        keep_freed_memory()
        torch.set_num_threads(threads)
        self.make = make

    @cached_property
    def function(self) -> Callable[[Any], Any]:
        """Created by the first call, so that an exception of `make` is raised by that call."""
        return self.make()

    def call(self, item: Any) -> Any:
        """The result of one item."""
        return self.function(item)


def map_on_ray(
    make: Callable[[], Callable[[Item], Result]],
    items: Sequence[Item],
    workers: int,
    threads: int,
    requirements: Mapping[str, Any],
    stop: StopRequest,
) -> Iterator[tuple[Item, Result]]:
    """See `Executor.map`; each of up to `workers` actors has these requirements."""
    import ray

    actor_class: Any = ray.remote(max_restarts=RETRIES, max_task_retries=RETRIES, **requirements)(PoolActor)
    waiting, running = list(items), dict[Any, tuple[Any, Item]]()
    actors = [actor_class.remote(make, threads) for _ in range(workers)]
    starting = {actor.__ray_ready__.remote(): actor for actor in actors}  # there may not be room for all of them
    idle: list[Any] = []
    try:
        while waiting or running:
            while waiting and idle:
                actor, item = idle.pop(), waiting.pop(0)
                running[actor.call.remote(item)] = actor, item
            done, _ = ray.wait([*running, *starting], timeout=POLL_SECONDS)
            for reference in done:
                result = _result(reference)
                if reference in starting:
                    idle.append(starting.pop(reference))
                    continue
                actor, item = running.pop(reference)
                idle.append(actor)
                yield item, result
            if stop.requested:
                raise KeyboardInterrupt
    finally:
        for actor in actors:
            ray.kill(actor)


def _result(reference: Any) -> Any:
    """The result of a call. Raises its exception, or RunError if the actor is lost."""
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayError as error:
        raise RunError(f"a worker of the Ray cluster was lost: {error_message(error)}") from error

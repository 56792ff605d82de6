"""One process or many (torchrun): launches Fabric, exchanges values and failures between ranks.

Every rank draws the same subnets and takes its own part of each batch. Gradients are averaged once per optimizer
step, after all sampled subnets, not once per subnet.

Ranks wait for each other only in the functions of this module and in synchronized batch norms. The functions first
exchange whether a rank has failed (`synchronize`), so that a failure on one rank stops all ranks at the same point
(`failing_together`). This would be too slow for every batch norm; there, a failure ends all processes
(`ending_on_failure`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch import Tensor, nn

from ..errors import DiskError, ProcessGroupError, RankError, UserError, error_message

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")

Item = TypeVar("Item")
Result = TypeVar("Result")


def make_fabric(accelerator: str = "auto", precision: str = "32-true") -> Fabric:
    """A launched Fabric: a single device, or all processes that `torchrun` has started.

    Raises:
        UserError: The device or the precision does not exist here.
    """
    if precision not in PRECISIONS:
        raise UserError(f"--precision must be one of {', '.join(PRECISIONS)}, but got {precision!r}")
    devices, num_nodes, strategy = 1, 1, "auto"
    if TorchElasticEnvironment.detect():
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        num_nodes = int(os.environ["WORLD_SIZE"]) // devices
        strategy = "ddp" if devices * num_nodes > 1 else "auto"
    try:
        fabric = Fabric(
            accelerator=accelerator,
            devices=devices,
            num_nodes=num_nodes,
            strategy=strategy,
            precision=precision,  # type: ignore[arg-type]
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(f"--device {accelerator} --precision {precision} cannot be used here: {error}") from error
    fabric.launch()
    return fabric


def check_batch_size(fabric: Fabric, batch_size: int, n_images: int) -> None:
    """Raise UserError if the ranks would get parts of a batch of different sizes, or with only one image."""
    size, what = min((batch_size, "batch_size"), (n_images, "the number of training images, which is smaller,"))
    if size % fabric.world_size or size < 2 * fabric.world_size:
        raise UserError(
            f"{what} must be a multiple of the {fabric.world_size} processes with 2 images or more for each, "
            f"but got {size}; change it or the number of processes"
        )


def average_gradients(fabric: Fabric, net: nn.Module) -> None:
    """Average the gradients over ranks in one reduction; every rank has the same active parameters."""
    if fabric.world_size == 1:
        return
    gradients = [p.grad for p in net.parameters() if p.grad is not None]
    flat = average(fabric, torch.cat([g.reshape(-1) for g in gradients]))
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def average(fabric: Fabric, value: Tensor) -> Tensor:
    """The mean of a tensor over ranks."""
    if fabric.world_size == 1:
        return value
    synchronize(fabric)
    reduced = fabric.all_reduce(value, reduce_op="mean")
    assert isinstance(reduced, Tensor)
    return reduced


def any_rank(fabric: Fabric, flag: bool) -> bool:
    """Whether the flag is set on any rank; the result is the same on all ranks."""
    return synchronize(fabric, flag)


def from_rank_zero(fabric: Fabric, value: Result) -> Result:
    """The first rank's value, on every rank."""
    if fabric.world_size == 1:
        return value
    synchronize(fabric)
    values = [value]
    torch.distributed.broadcast_object_list(values, src=0)
    return values[0]


def map_over_ranks(fabric: Fabric, work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """The results of `work` in order, on every rank; each item is processed by one rank."""
    for start in range(0, len(items), fabric.world_size):
        mine = items[start + fabric.global_rank : start + fabric.global_rank + 1]
        yield from _gather(fabric, [work(item) for item in mine])


def _gather(fabric: Fabric, own: list[Result]) -> list[Result]:
    """The lists of all ranks, joined in the order of ranks."""
    if fabric.world_size == 1:
        return own
    synchronize(fabric)
    gathered: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(gathered, own)
    return [result for part in gathered for result in part]


def synchronize(fabric: Fabric, flag: bool = False) -> bool:
    """Wait for all ranks; returns whether any of them set the flag.

    Raises:
        RankError: A rank has failed since the last call.
    """
    if fabric.world_size == 1:
        return flag
    failures, flags = _count(fabric, False, flag)
    if failures:
        raise RankError("another process has failed")
    return flags > 0


def _count(fabric: Fabric, failed: bool, flag: bool) -> tuple[float, float]:
    status = fabric.all_reduce(torch.tensor([float(failed), float(flag)], device=fabric.device), reduce_op="sum")
    assert isinstance(status, Tensor)
    failures, flags = status.tolist()
    return failures, flags


@contextmanager
def failing_together(fabric: Fabric) -> Iterator[None]:
    """Within this context, an exception on one rank is raised on all ranks, at their next synchronization.

    The failed rank raises the original exception.

    Raises:
        DiskError: Another rank could not write.
        RankError: Another rank has failed for a different reason, given in the message.
    """
    if fabric.world_size == 1:
        yield
        return
    error: BaseException | None = None
    try:
        yield
        synchronize(fabric)  # a rank may have failed after its last reduction
        return
    except ProcessGroupError:
        raise  # the other ranks cannot exchange anything
    except RankError:
        pass
    except (Exception, SystemExit) as own:
        error = own
        _count(fabric, True, False)
    reason = None if error is None else (fabric.global_rank, isinstance(error, DiskError), error_message(error))
    reasons: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(reasons, reason)
    if error is not None:
        raise error
    rank, disk, message = next(each for each in reasons if each is not None)
    raise (DiskError if disk else RankError)(f"process {rank} has failed: {message}")


@contextmanager
def ending_on_failure(fabric: Fabric) -> Iterator[None]:
    """Within this context ranks do not exchange failures, so an exception on one rank must end all processes.

    The failed process exits, and torchrun ends the others.

    Raises:
        RankError: Another rank has failed before.
        ProcessGroupError: Replaces any exception raised within the context.
    """
    synchronize(fabric)
    try:
        yield
    except Exception as error:
        raise ProcessGroupError(f"all processes stop because one failed: {error_message(error)}") from error

"""One process or many (torchrun): the launched Fabric, and what all ranks must share or agree on.

Every rank draws the same subnets and takes its own part of each batch. Gradients are averaged once per optimiser
step, after all sampled subnets, not once per subnet.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import TorchElasticEnvironment
from torch import Tensor, nn

from ..errors import UserError

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")

Item = TypeVar("Item")
Result = TypeVar("Result")


def make_fabric(accelerator: str = "auto", precision: str = "32-true") -> Fabric:
    """A launched Fabric: a single device, or, under `torchrun`, as many processes as it has started.

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
    """Raises UserError where the ranks would get parts of a batch of different sizes, or of one image."""
    size, what = min((batch_size, "batch_size"), (n_images, "the number of training images, where it is the smaller,"))
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
    reduced = fabric.all_reduce(value, reduce_op="mean")
    assert isinstance(reduced, Tensor)
    return reduced


def any_rank(fabric: Fabric, flag: bool) -> bool:
    """Whether the flag is set on any rank: the same answer on all of them."""
    if fabric.world_size == 1:
        return flag
    return bool(fabric.all_reduce(torch.tensor(float(flag), device=fabric.device), reduce_op="sum"))


def map_over_ranks(fabric: Fabric, work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """The results of `work` in order, on every rank; each item is worked on by one rank."""
    for start in range(0, len(items), fabric.world_size):
        mine = items[start + fabric.global_rank : start + fabric.global_rank + 1]
        done: list[Any] = [work(item) for item in mine]
        if fabric.world_size > 1:
            gathered: list[Any] = [None] * fabric.world_size
            torch.distributed.all_gather_object(gathered, done)
            done = [result for part in gathered for result in part]
        yield from done

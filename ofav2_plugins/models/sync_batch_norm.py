"""Batch norms that use the statistics of the whole batch, over all processes, in training.

torch's `SyncBatchNorm` replaces the layers, which is not possible for upstream's elastic batch norms, and runs only on
GPUs. This module replaces the calls of `torch.nn.functional.batch_norm`, which also covers the layers of plugins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..utils.distributed import ending_on_failure
from .layers.normalization import torch_batch_norms


@contextmanager
def synchronized_batch_norms(fabric: Fabric, wanted: bool) -> Iterator[None]:
    """Context in which batch norms in training mode use and record statistics over all processes.

    The gradients are those of the sum of all processes' losses, so their average over processes is the gradient of the
    mean loss. All processes must run the same layers in the same order.

    Args:
        fabric: The processes; with a single process, nothing changes.
        wanted: Whether to synchronize; if False, nothing changes.

    Raises:
        RankError: Another process has failed.
        ProcessGroupError: This process failed within the context; see `ending_on_failure`.
    """
    if not wanted or fabric.world_size == 1:
        yield
        return
    with ending_on_failure(fabric), torch_batch_norms(), _SynchronizedBatchNorms(fabric.global_rank, fabric.world_size):
        yield


class _SynchronizedBatchNorms(TorchFunctionMode):
    def __init__(self, rank: int, world_size: int):
        super().__init__()
        self.rank, self.world_size = rank, world_size

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is not F.batch_norm:
            return func(*args, **kwargs)
        names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        if not given.pop("training", False):
            return func(*args, **kwargs)
        x = given.pop("input")
        return _batch_norm(x, self._statistics(x), **given)

    def _statistics(self, x: Tensor) -> Tensor:
        """Mean, biased variance and number of values per channel of each process's part, [world_size, 2 * C + 1]."""
        dims = [0, *range(2, x.ndim)]
        wide = x.to(torch.promote_types(x.dtype, torch.float32))  # half precision is not accurate enough
        variance, mean = torch.var_mean(wide, dims, correction=0)
        own = torch.cat([mean, variance, mean.new_tensor([x.numel() / x.shape[1]])])
        rows = [own if rank == self.rank else torch.zeros_like(own) for rank in range(self.world_size)]
        summed: Tensor = _SumOverRanks.apply(torch.stack(rows))
        return summed


def _batch_norm(
    x: Tensor,
    statistics: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`F.batch_norm` in training mode of x [N, C, ...], with the statistics [world_size, 2 * C + 1] of all parts."""
    means, variances, counts = statistics.split([x.shape[1], x.shape[1], 1], dim=1)
    n, share = counts.sum(), counts / counts.sum()
    mean = (share * means).sum(0)
    variance = (share * (variances + (means - mean) ** 2)).sum(0)
    with torch.no_grad():
        if running_mean is not None:
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        if running_var is not None:
            running_var.lerp_((variance * (n / (n - 1))).to(running_var.dtype), momentum)
    scale = torch.rsqrt(variance + eps) * (1 if weight is None else weight)
    shape = [1, -1, *[1] * (x.ndim - 2)]
    y: Tensor = (x - mean.view(shape)) * scale.view(shape)
    return (y if bias is None else y + bias.view(shape)).to(x.dtype)


class _SumOverRanks(torch.autograd.Function):
    """Sums a tensor over processes; its gradient is summed in the same way."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return _reduced(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _reduced(gradient)


def _reduced(value: Tensor) -> Tensor:
    total = value.contiguous().clone()
    torch.distributed.all_reduce(total)
    return total

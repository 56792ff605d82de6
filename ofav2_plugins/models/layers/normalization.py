"""Batch norm of channels-last maps with statistics as accurate as those of contiguous maps.

torch adds the values of a channel sequentially if the storage is channels-last. In float32, the mean of 65,000 values
then loses two digits, and later activations, which depend on signs, amplify this error in the gradients. Here the
positions are divided into groups with separate statistics, which the same kernel computes in the same time. The
statistics of all positions follow from those of the groups (Chan et al., 1979, "Updating formulae and a pairwise
algorithm").
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from ...upstream import DynamicBatchNorm2d
from .depthwise import fast_on

FEW = 256
"""Positions per channel up to which torch's own statistics are accurate enough."""

LARGEST = 2048
"""Largest number of partial sums: their buffers stay in the first-level cache."""

ROWS = 128
"""Values that are added sequentially for the gradients."""

_torch_only: ContextVar[bool] = ContextVar("torch_only", default=False)


@contextmanager
def torch_batch_norms() -> Iterator[None]:
    """Context in which, in this thread, batch norms call `torch.nn.functional.batch_norm`, which can be replaced."""
    token = _torch_only.set(True)
    try:
        yield
    finally:
        _torch_only.reset(token)


class FastBatchNorm2d(nn.BatchNorm2d):
    """torch's batch norm, with accurate statistics in training."""

    def forward(self, x: Tensor) -> Tensor:  # [N, C, H, W] -> [N, C, H, W]
        if not (self.training and _is_grouped(x, self)):
            return super().forward(x)
        return _train(x, self)


class FastDynamicBatchNorm2d(DynamicBatchNorm2d):
    """The supernet's batch norm, restricted to the active channels."""

    def forward(self, x: Tensor) -> Tensor:  # [N, C, H, W] -> [N, C, H, W]
        whole = x.size(1) == self.bn.num_features or DynamicBatchNorm2d.SET_RUNNING_STATISTICS
        if whole or not (self.bn.training and _is_grouped(x, self.bn)):
            y: Tensor = super().forward(x)
            return y
        return _train(x, self.bn)


def _is_grouped(x: Tensor, norm: nn.BatchNorm2d) -> bool:
    """Whether accurate statistics need groups and can be computed with them."""
    return (
        fast_on(x)
        and not _torch_only.get()
        and x.numel() > FEW * x.size(1)
        and x.is_contiguous(memory_format=torch.channels_last)
        and norm.affine
        and norm.track_running_stats
        and x.dtype == norm.weight.dtype
    )


def _train(x: Tensor, norm: Any) -> Tensor:
    """Normalize with the statistics of `x`, and update the running statistics of the active channels."""
    active = x.size(1)
    norm.num_batches_tracked += 1
    factor = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    weight, bias, running_mean, running_var = (
        tensor if active == norm.num_features else tensor[:active]
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    )
    y: Tensor
    y, mean, variance = _GroupedBatchNorm.apply(x, weight, bias, norm.eps)
    count = x.numel() // active
    running_mean.lerp_(mean, factor)
    running_var.lerp_(variance * (count / (count - 1)), factor)
    return y


def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [C] and biased variance [C] of channels-last maps x [N, C, H, W], over all other dimensions."""
    groups = _groups(x)
    means, variances = torch.batch_norm_update_stats(_grouped(x, groups), None, None, 0.0)
    between, mean = torch.var_mean(means.view(groups, -1), 0, correction=0)
    return mean, variances.view(groups, -1).mean(0) + between


def gradients(grad: Tensor, x: Tensor, weight: Tensor, mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of x [N, C, H, W], weight [C] and bias [C] of a batch norm in training.

    Args:
        grad: Of the output, [N, C, H, W].
        x: The input.
        weight: The weight.
        mean: The mean of each channel of `x`.
        scale: 1 / standard deviation of each channel.
    """
    groups, channels = _groups(x), x.size(1)
    pieces = [_grouped(tensor, groups).split(ROWS) for tensor in (grad, x)]
    means, ones = mean.repeat(groups), mean.new_ones(groups * channels)
    # Bias and weight have these gradients in evaluation with a variance of 1: the sums of grad and grad * (x - mean).
    sums = [
        torch.ops.aten.native_batch_norm_backward(g, r, ones, means, ones, None, None, False, 0.0, [False, True, True])
        for g, r in zip(*pieces, strict=True)
    ]
    products, totals = (torch.stack(parts).view(-1, channels).sum(0) for parts in list(zip(*sums, strict=True))[1:])
    grad_weight = products * scale
    # dx = slope * grad + (curve * x + offset), in pieces that stay in the cache
    slope, count = weight * scale, x.numel() // channels
    curve = -slope * scale * grad_weight / count
    offset = -slope * totals / count - curve * mean
    slope, curve, offset = torch.stack((slope, curve, offset)).repeat(1, groups)
    grad_x = torch.empty_like(x)
    for g, r, out in zip(*pieces, _grouped(grad_x, groups).split(ROWS), strict=True):
        torch.addcmul(offset, r, curve, out=out).addcmul_(g, slope)
    return grad_x, grad_weight, totals


def _groups(x: Tensor) -> int:
    """Number of groups into which the positions of `x` [N, C, H, W] are divided."""
    channels, groups = x.size(1), 1
    count = x.numel() // channels
    while count % (2 * groups) == 0 and 2 * groups * channels <= LARGEST:
        groups *= 2
    return groups


def _grouped(x: Tensor, groups: int) -> Tensor:
    """[N, C, H, W] as [N H W / groups, groups C]; a view if the storage is channels-last."""
    return x.permute(0, 2, 3, 1).reshape(-1, groups * x.size(1))


class _GroupedBatchNorm(torch.autograd.Function):
    """Batch norm in training: the normalized maps, and the statistics used to normalize them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        mean, variance = statistics(x)
        ctx.save_for_backward(x, weight, mean, (variance + eps).rsqrt())
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance)
        y = torch.native_batch_norm(x, weight, bias, mean, variance, False, 0.0, eps)[0]
        return y, mean, variance

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale = ctx.saved_tensors
        if not torch.is_grad_enabled():
            return (*gradients(grad, x, weight, mean, scale), None)
        wanted = list(ctx.needs_input_grad[:3])  # for double backward
        backward = torch.ops.aten.native_batch_norm_backward
        return (*backward(grad, x, weight, None, None, mean, scale, True, ctx.eps, wanted), None)

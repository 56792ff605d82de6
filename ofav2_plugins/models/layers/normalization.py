"""Batch norm of channels-last maps with statistics as accurate as those of contiguous maps.

torch adds the values of a channel one after the other if the storage is channels-last. In float32 the mean of 65,000
values then loses two digits, which later activations (a sign decides) amplify in the gradients. Here the positions are
viewed as groups with statistics of their own, which the same kernel computes in the same time; the statistics of all
positions follow from those of the groups (Chan et al., 1979, "Updating formulae and a pairwise algorithm").
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...upstream import DynamicBatchNorm2d
from .depthwise import fast_on

FEW = 512
"""Positions per channel up to which torch's own statistics are accurate enough."""

LARGEST = 4096
"""Largest number of partial statistics: their buffers stay in the first-level cache."""


class FastBatchNorm2d(nn.BatchNorm2d):
    """torch's batch norm, with accurate statistics in training."""

    def forward(self, x: Tensor) -> Tensor:  # [N, C, H, W] -> [N, C, H, W]
        if not (self.training and _is_grouped(x, self)):
            return super().forward(x)
        return _train(x, self)


class FastDynamicBatchNorm2d(DynamicBatchNorm2d):
    """The supernet's batch norm with as many of its channels as are active."""

    def forward(self, x: Tensor) -> Tensor:  # [N, C, H, W] -> [N, C, H, W]
        whole = x.size(1) == self.bn.num_features or DynamicBatchNorm2d.SET_RUNNING_STATISTICS
        if whole or not (self.bn.training and _is_grouped(x, self.bn)):
            return super().forward(x)
        return _train(x, self.bn)


def _is_grouped(x: Tensor, norm: nn.BatchNorm2d) -> bool:
    """Whether accurate statistics need groups, and can be computed by them."""
    return (
        fast_on(x)
        and x.numel() > FEW * x.size(1)
        and x.is_contiguous(memory_format=torch.channels_last)
        and norm.affine
        and norm.track_running_stats
        and x.dtype == norm.weight.dtype
    )


def _train(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """Normalize by the statistics of `x` and update the running ones, of the active channels only."""
    active = x.size(1)
    norm.num_batches_tracked += 1  # type: ignore[operator]
    factor = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum  # type: ignore[arg-type]
    weight, bias, running_mean, running_var = (
        tensor if active == norm.num_features else tensor[:active]
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    )
    y, mean, variance = _GroupedBatchNorm.apply(x, weight, bias, norm.eps)
    count = x.numel() // active
    running_mean.lerp_(mean, factor)
    running_var.lerp_(variance * (count / (count - 1)), factor)
    return y


def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [C] and biased variance [C] of channels-last maps x [N, C, H, W], over all but the channels."""
    channels = x.size(1)
    count, groups = x.numel() // channels, 1
    while count % (2 * groups) == 0 and 2 * groups * channels <= LARGEST:
        groups *= 2
    rows = x.permute(0, 2, 3, 1).reshape(count // groups, groups * channels)  # a view
    means, variances = torch.batch_norm_update_stats(rows, None, None, 0.0)
    between, mean = torch.var_mean(means.view(groups, channels), 0, correction=0)
    return mean, variances.view(groups, channels).mean(0) + between


class _GroupedBatchNorm(torch.autograd.Function):
    """Batch norm in training: the normalized maps, and the statistics that they were normalized by."""

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
        x, weight, mean, inverse_deviation = ctx.saved_tensors
        wanted = list(ctx.needs_input_grad[:3])
        gradients = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, None, None, mean, inverse_deviation, True, ctx.eps, wanted
        )
        return (*(found if want else None for found, want in zip(gradients, wanted, strict=True)), None)

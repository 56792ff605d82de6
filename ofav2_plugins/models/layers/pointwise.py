"""1x1 convolutions: matrix products for maps of one pixel, and a single slice of the weights.

The library's 1x1 convolution is fastest on larger maps, but not on one pixel. Upstream slices the active part of the
weights twice, and the gradients fill two full tensors with zeros; here a single operation does both.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...upstream import DynamicConv2d, MyConv2d
from .depthwise import fast_on


class FastPointwise(nn.Conv2d):
    """A 1x1 convolution without stride."""

    def forward(self, x: Tensor) -> Tensor:  # [N, C, H, W] -> [N, C', H, W]
        return pointwise_conv2d(x, self.weight, self.bias) if fast_on(x) else super().forward(x)


class FastDynamicPointwise(DynamicConv2d):
    """The supernet's 1x1 convolution, restricted to the active channels."""

    def forward(self, x: Tensor, out_channel: int | None = None) -> Tensor:  # [N, C, H, W] -> [N, C', H, W]
        if not fast_on(x) or isinstance(self.conv, MyConv2d):  # standardises its weights
            y: Tensor = super().forward(x, out_channel)
            return y
        return pointwise_conv2d(x, leading_part(self.conv.weight, out_channel or self.active_out_channel, x.size(1)))


def pointwise_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """1x1 convolution: x [N, C, H, W], weight [C', C, 1, 1], bias [C'] -> [N, C', H, W]."""
    if x.shape[2:] == (1, 1):
        return F.linear(x.flatten(1), weight.flatten(1), bias)[:, :, None, None]
    return F.conv2d(x, weight, bias)


def leading_part(weight: Tensor, n_out: int, n_in: int) -> Tensor:
    """The first `n_out` filters of a weight [C', C, k, k], and the first `n_in` input channels of these."""
    return weight if weight.shape[:2] == (n_out, n_in) else _Part.apply(weight, n_out, n_in)


class _Part(torch.autograd.Function):
    """The first rows and columns of a weight, as a separate tensor."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, n_out: int, n_in: int) -> Tensor:
        ctx.shape = weight.shape
        return weight[:n_out, :n_in].clone(memory_format=torch.contiguous_format)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        whole = grad.new_zeros(ctx.shape)
        whole[: grad.size(0), : grad.size(1)] = grad
        return whole, None, None

"""Activations and squeeze-and-excitation in one pass each; upstream's formulas take three to five passes."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ...upstream import DynamicSE, Hswish, MyNetwork, SEModule, make_divisible
from .depthwise import fast_on


class FastHswish(Hswish):
    """x * relu6(x + 3) / 6, fused."""

    def forward(self, x: Tensor) -> Tensor:
        return F.hardswish(x) if fast_on(x) else super().forward(x)


class FastSE(SEModule):
    """Squeeze-and-excitation of a static network: the mean in one pass, the 1x1 convolutions as matrix products."""

    def forward(self, x: Tensor) -> Tensor:  # [N, C, H, W] -> [N, C, H, W]
        if not fast_on(x):
            y: Tensor = super().forward(x)
            return y
        reduce, expand = self.fc.reduce, self.fc.expand
        return excite(x, reduce.weight, reduce.bias, expand.weight, expand.bias)


class FastDynamicSE(DynamicSE):
    """The elastic squeeze-and-excitation of the supernet, computed like `FastSE`."""

    def forward(self, x: Tensor, groups: int | None = None) -> Tensor:  # [N, C, H, W] -> [N, C, H, W]
        if not fast_on(x) or groups not in (None, 1):
            y: Tensor = super().forward(x, groups)
            return y
        channels = x.size(1)
        middle = make_divisible(channels // self.reduction, MyNetwork.CHANNEL_DIVISIBLE)
        return excite(
            x,
            self.get_active_reduce_weight(middle, channels),
            self.get_active_reduce_bias(middle),
            self.get_active_expand_weight(middle, channels),
            self.get_active_expand_bias(channels),
        )


def excite(x: Tensor, reduce: Tensor, reduce_bias: Tensor, expand: Tensor, expand_bias: Tensor) -> Tensor:
    """x [N, C, H, W] times the gate computed from its mean; `reduce` [M, C, 1, 1] and `expand` [C, M, 1, 1]."""
    mean = x.sum((2, 3)) / (x.size(2) * x.size(3))  # unlike for `mean`, the gradient is not divided per pixel
    squeezed = F.relu(F.linear(mean, reduce.flatten(1), reduce_bias))
    # Not torch's hardsigmoid: in float64, its gradient uses 1/6 in float32 precision.
    gate = F.relu6(F.linear(squeezed, expand.flatten(1), expand_bias) + 3) / 6
    return x * gate[:, :, None, None]

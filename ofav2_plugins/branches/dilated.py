"""Branch `dilated`: a dilated depthwise separable convolution (Yu and Koltun, arXiv 1511.07122).

A dilation of 2 gives a 3x3 filter the receptive field of a 5x5 filter with 9 instead of 25 weights.
"""

from __future__ import annotations

from torch import nn

from ..errors import UserError
from ..upstream import build_activation
from .base import Branch, BranchBlock


class Dilated(Branch):
    """Dilated 3x3 depthwise convolution with the position's stride, 1x1 convolution, batch norm, activation.

    Args:
        dilation: Distance between the taps of the depthwise convolution.

    Raises:
        UserError: `dilation` is below 1.
    """

    def __init__(self, dilation: int = 2):
        if dilation < 1:
            raise UserError(f"dilation must be at least 1, but got {dilation}")
        self.dilation = dilation

    def build(self, in_channels: int, out_channels: int, stride: int, act_func: str) -> nn.Module:
        return BranchBlock(
            {"in_channels": in_channels, "out_channels": out_channels, "stride": stride, "act_func": act_func},
            depthwise=nn.Conv2d(
                in_channels, in_channels, 3, stride, self.dilation, self.dilation, groups=in_channels, bias=False
            ),
            conv=nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False),
            bn=nn.BatchNorm2d(out_channels),
            act=build_activation(act_func),
        )

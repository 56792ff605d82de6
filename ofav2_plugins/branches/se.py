"""Branch `se`: 1x1 convolution with squeeze-and-excitation (Hu et al., arXiv 1709.01507).

As in the paper's SE-ResNet, the channels are scaled after the last batch norm and before the branch is added. The
default reduction is that of MobileNetV3 (4); the paper uses 16.
"""

from __future__ import annotations

from torch import nn
from torchvision.ops import SqueezeExcitation

from ..errors import UserError
from ..upstream import build_activation
from .base import Branch, BranchBlock


class SE(Branch):
    """1x1 convolution with the position's stride, batch norm, squeeze-and-excitation, activation.

    Args:
        reduction: Output channels per hidden channel of the squeeze-and-excitation.

    Raises:
        UserError: `reduction` is below 1.
    """

    def __init__(self, reduction: int = 4):
        if reduction < 1:
            raise UserError(f"reduction must be at least 1, but got {reduction}")
        self.reduction = reduction

    def build(self, in_channels: int, out_channels: int, stride: int, act_func: str) -> nn.Module:
        return BranchBlock(
            {"in_channels": in_channels, "out_channels": out_channels, "stride": stride, "act_func": act_func},
            conv=nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False),
            bn=nn.BatchNorm2d(out_channels),
            se=SqueezeExcitation(out_channels, max(1, out_channels // self.reduction)),
            act=build_activation(act_func),
        )

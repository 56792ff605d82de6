"""Branch `avg_pool`: average pooling, then a 1x1 convolution."""

from torch import nn

from ofav2_plugins.branches.base import Branch, BranchBlock
from ofav2_plugins.upstream import build_activation


class AvgPool(Branch):
    """3x3 average pooling at the position's stride, 1x1 convolution, batch norm, activation."""

    def build(self, in_channels: int, out_channels: int, stride: int, act_func: str) -> nn.Module:
        return BranchBlock(
            {"in_channels": in_channels, "out_channels": out_channels, "stride": stride, "act_func": act_func},
            pool=nn.AvgPool2d(3, stride, padding=1),
            conv=nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False),
            bn=nn.BatchNorm2d(out_channels),
            act=build_activation(act_func),
        )

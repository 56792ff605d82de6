"""Parallel block `conv1x1` (OFAv2 section 3.2): 1x1 convolution with the position's stride, BN, activation."""

from __future__ import annotations

from torch import nn

from ..upstream import build_activation
from .base import Branch, BranchBlock


class Conv1x1(Branch):
    """1x1 convolution with the position's stride, batch norm, the stage's activation."""

    def build(self, in_channels: int, out_channels: int, stride: int, act_func: str) -> nn.Module:
        return BranchBlock(
            {"in_channels": in_channels, "out_channels": out_channels, "stride": stride, "act_func": act_func},
            conv=nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False),
            bn=nn.BatchNorm2d(out_channels),
            act=build_activation(act_func),
        )

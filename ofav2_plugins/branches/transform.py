"""Parallel block `transform` (OFAv2 section 3.2): only the layers that the shapes require, then BN and activation."""

from __future__ import annotations

from torch import nn

from ..upstream import build_activation
from .base import Branch, BranchBlock


class Transform(Branch):
    """Max pool if the stride is above 1, 1x1 convolution if the channels change, batch norm, activation."""

    def build(self, in_channels: int, out_channels: int, stride: int, act_func: str) -> nn.Module:
        layers: dict[str, nn.Module] = {}
        if stride > 1:
            # ceil_mode: odd sizes must shrink as in the MB block's padded convolution.
            layers["pool"] = nn.MaxPool2d(kernel_size=stride, stride=stride, ceil_mode=True)
        if in_channels != out_channels:
            layers["conv"] = nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=True)
        return BranchBlock(
            {"in_channels": in_channels, "out_channels": out_channels, "stride": stride, "act_func": act_func},
            **layers,
            bn=nn.BatchNorm2d(out_channels),
            act=build_activation(act_func),
        )

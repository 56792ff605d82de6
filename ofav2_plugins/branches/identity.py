"""Branch `identity`: a shortcut without parameters (ResNet, arXiv 1512.03385, section 3.3, option A)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .base import Branch, BranchBlock


class FitChannels(nn.Module):
    """[N, C, H, W] to [N, `out_channels`, H, W]: channels of zeros are appended, or the last channels omitted."""

    def __init__(self, out_channels: int):
        super().__init__()
        self.out_channels = out_channels

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, 0, 0, max(0, self.out_channels - x.size(1))))[:, : self.out_channels]


class Identity(Branch):
    """The input itself: every stride-th row and column, with channels of zeros if there are more at the output."""

    def build(self, in_channels: int, out_channels: int, stride: int, act_func: str) -> nn.Module:
        return BranchBlock(
            {"in_channels": in_channels, "out_channels": out_channels, "stride": stride, "act_func": act_func},
            subsample=nn.AvgPool2d(kernel_size=1, stride=stride),
            channels=FitChannels(out_channels),
        )

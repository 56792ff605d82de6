"""Branch `ghost`: a Ghost module (Han et al., GhostNet, arXiv 1911.11907, section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..upstream import build_activation
from .base import Branch, BranchBlock


class GhostChannels(nn.Module):
    """[N, C, H, W] to [N, `out_channels`, H, W]: the input, and `copies` depthwise convolutions of each channel.

    The convolutions are followed by batch norm and activation, the input is passed on unchanged (as in the authors'
    code).
    """

    def __init__(self, channels: int, copies: int, out_channels: int, kernel_size: int, act_func: str):
        super().__init__()
        self.out_channels = out_channels
        self.cheap = nn.Conv2d(
            channels, channels * copies, kernel_size, padding=kernel_size // 2, groups=channels, bias=False
        )
        self.bn = nn.BatchNorm2d(channels * copies)
        self.act = build_activation(act_func)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.act(self.bn(self.cheap(x)))], dim=1)[:, : self.out_channels]


class Ghost(Branch):
    """1x1 convolution to some of the channels; cheap depthwise convolutions of these compute the others.

    Args:
        ratio: Output channels per channel of the 1x1 convolution.
        kernel_size: Of the depthwise convolutions; odd.

    Raises:
        UserError: `ratio` is below 2, or `kernel_size` is not an odd number of at least 1.
    """

    def __init__(self, ratio: int = 2, kernel_size: int = 3):
        if ratio < 2:
            raise UserError(f"ratio must be at least 2, but got {ratio}")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise UserError(f"kernel_size must be an odd number of at least 1, but got {kernel_size}")
        self.ratio = ratio
        self.kernel_size = kernel_size

    def build(self, in_channels: int, out_channels: int, stride: int, act_func: str) -> nn.Module:
        primary = -(-out_channels // self.ratio)
        return BranchBlock(
            {"in_channels": in_channels, "out_channels": out_channels, "stride": stride, "act_func": act_func},
            conv=nn.Conv2d(in_channels, primary, kernel_size=1, stride=stride, bias=False),
            bn=nn.BatchNorm2d(primary),
            act=build_activation(act_func),
            ghosts=GhostChannels(primary, self.ratio - 1, out_channels, self.kernel_size, act_func),
        )

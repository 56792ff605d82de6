"""Branch `eca`: 1x1 convolution with efficient channel attention (Wang et al., arXiv 1910.03151).

The kernel size is the same at all positions. The paper derives it from the channels (its equation 12): 3 up to
about 128 channels, 5 above.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import UserError
from ..upstream import build_activation
from .base import Branch, BranchBlock


class ChannelAttention(nn.Module):
    """x [N, C, H, W] times a gate per channel, computed from the means of `kernel_size` neighboring channels."""

    def __init__(self, kernel_size: int):
        super().__init__()
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.conv(x.mean((2, 3)).unsqueeze(1)).sigmoid()  # [N, 1, C]
        scaled: Tensor = x * gate.transpose(1, 2).unsqueeze(3)
        return scaled


class ECA(Branch):
    """1x1 convolution with the position's stride, batch norm, efficient channel attention, activation.

    Args:
        kernel_size: Channels that one gate depends on; odd.

    Raises:
        UserError: `kernel_size` is not an odd number of at least 1.
    """

    def __init__(self, kernel_size: int = 3):
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise UserError(f"kernel_size must be an odd number of at least 1, but got {kernel_size}")
        self.kernel_size = kernel_size

    def build(self, in_channels: int, out_channels: int, stride: int, act_func: str) -> nn.Module:
        return BranchBlock(
            {"in_channels": in_channels, "out_channels": out_channels, "stride": stride, "act_func": act_func},
            conv=nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False),
            bn=nn.BatchNorm2d(out_channels),
            attention=ChannelAttention(self.kernel_size),
            act=build_activation(act_func),
        )

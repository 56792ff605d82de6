"""Convolutions on maps of a few pixels as matrix products: the late stages of a ResNet at small resolutions.

The library's convolution is slow on such maps, mainly the gradient of its filters (5 times slower than a matrix product
on 2x2 maps). Taps that only overlap padding are skipped. All of this is exact.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ...upstream import DynamicConv2d, MyConv2d
from .depthwise import crop_to_map, fast_on
from .pointwise import leading_part, pointwise_conv2d

LARGEST = 4
"""Largest number of output pixels for which the matrix product is faster."""


class FastDynamicConv2d(DynamicConv2d):
    """The supernet's convolution with a kernel above 1, restricted to the active channels."""

    def forward(self, x: Tensor, out_channel: int | None = None) -> Tensor:  # [N, C, H, W] -> [N, C', H', W']
        if not fast_on(x) or isinstance(self.conv, MyConv2d):  # standardizes its weights
            y: Tensor = super().forward(x, out_channel)
            return y
        weight = leading_part(self.conv.weight, out_channel or self.active_out_channel, x.size(1))
        weight = crop_to_map(weight, x.size(2), x.size(3))
        if weight.shape[2:] == (1, 1) and self.stride == 1:
            return pointwise_conv2d(x, weight)
        height, width = (-(-size // self.stride) for size in x.shape[2:])
        padding = (weight.size(2) // 2, weight.size(3) // 2)
        if height * width > LARGEST:
            return F.conv2d(x, weight, None, self.stride, padding)
        columns = F.unfold(x, weight.shape[2:], padding=padding, stride=self.stride)  # [N, C k k, H' W']
        y = F.linear(columns.transpose(1, 2), weight.flatten(1))  # [N, H' W', C']
        maps: Tensor = y.transpose(1, 2).unflatten(2, (height, width))  # channels-last storage
        return maps

"""Which layers have a fast class, and networks turned to them and back. Parameters and their names stay."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ...upstream import DynamicBatchNorm2d, DynamicConv2d, DynamicSE, Hswish, SEModule
from .depthwise import depthwise_conv2d, fast_on
from .elementwise import FastDynamicSE, FastHswish, FastSE
from .normalization import FastBatchNorm2d, FastDynamicBatchNorm2d
from .pointwise import FastDynamicPointwise, FastPointwise
from .small_maps import FastDynamicConv2d

Net = TypeVar("Net", bound=nn.Module)


class FastDepthwise(nn.Conv2d):
    """A depthwise convolution of a static network with "same" padding, as in the supernet."""

    def forward(self, x: Tensor) -> Tensor:  # [N, C, H, W] -> [N, C, H', W']
        if self.bias is not None or not fast_on(x):  # a folded batch norm has given it a bias
            return super().forward(x)
        return depthwise_conv2d(x, self.weight, self.stride[0])


def always(_: nn.Module) -> bool:
    """Whatever its settings."""
    return True


def is_depthwise(conv: nn.Module) -> bool:
    """Whether a convolution is what `depthwise_conv2d` computes."""
    assert isinstance(conv, nn.Conv2d)
    height, width = conv.kernel_size
    return (
        conv.groups == conv.in_channels == conv.out_channels
        and height == width
        and height % 2 == 1
        and conv.padding == (height // 2, height // 2)
        and conv.stride[0] == conv.stride[1]
        and conv.dilation == (1, 1)
        and conv.bias is None
        and conv.padding_mode == "zeros"
    )


def is_pointwise(conv: Any) -> bool:
    """Whether a convolution, static or dynamic, is what `pointwise_conv2d` computes."""
    if isinstance(conv, nn.Conv2d):
        ones = conv.kernel_size == conv.stride == (1, 1)
        return ones and conv.groups == 1 and conv.padding == (0, 0) and conv.padding_mode == "zeros"
    return (conv.kernel_size, conv.stride) == (1, 1)


def is_square(conv: nn.Module) -> bool:
    """Whether an elastic convolution is one that `FastDynamicConv2d` computes."""
    assert isinstance(conv, DynamicConv2d)
    return isinstance(conv.kernel_size, int) and conv.kernel_size % 2 == 1 and conv.dilation == 1


FAST: list[tuple[type[nn.Module], Callable[[nn.Module], bool], type[nn.Module]]] = [
    (Hswish, always, FastHswish),
    (nn.BatchNorm2d, always, FastBatchNorm2d),
    (DynamicBatchNorm2d, always, FastDynamicBatchNorm2d),
    (SEModule, always, FastSE),
    (DynamicSE, always, FastDynamicSE),
    (DynamicConv2d, is_pointwise, FastDynamicPointwise),
    (DynamicConv2d, is_square, FastDynamicConv2d),
    (nn.Conv2d, is_pointwise, FastPointwise),
    (nn.Conv2d, is_depthwise, FastDepthwise),
]
"""Class of a layer, the condition under which it has a fast class, and the fast class."""

PLAIN = {fast: plain for plain, _, fast in FAST}


def accelerate(net: Net) -> Net:
    """Turn a network, in place, to the fast layers and channels-last storage, for training or running it in eager mode.

    The numbers are the same but for rounding, the state dict is the same. On other devices than a CPU, and within
    `reference_layers`, the layers compute as before. Export a network before, not after; hooks on the parts of a
    squeeze-and-excitation no longer see it, and counters that go by a layer's exact class no longer know it.

    Args:
        net: A supernet (has them already), a static subnet, or any network of upstream's layers.
    """
    use_fast_layers(net)
    return net.to(memory_format=torch.channels_last)


def use_fast_layers(net: nn.Module) -> None:
    """Give every layer that has one its fast class."""
    for module in net.modules():
        for plain, fits, fast in FAST:
            if type(module) is plain and fits(module):
                module.__class__ = fast


def plain_copy(module: Net) -> Net:
    """A copy of a part of a supernet, of plain layers again, for static networks."""
    copied = copy.deepcopy(module)
    for part in copied.modules():
        part.__class__ = PLAIN.get(type(part), type(part))
    return copied

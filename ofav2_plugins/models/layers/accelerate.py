"""Conversion of networks to fast layers and back. Parameters and their names do not change."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ...upstream import DynamicBatchNorm2d, DynamicConv2d, DynamicSE, Hswish, SEModule
from .depthwise import depthwise_conv2d, on_cpu
from .elementwise import FastDynamicSE, FastHswish, FastSE
from .normalization import FastBatchNorm2d, FastDynamicBatchNorm2d
from .pointwise import FastDynamicPointwise, FastPointwise
from .small_maps import FastDynamicConv2d

Net = TypeVar("Net", bound=nn.Module)


class FastDepthwise(nn.Conv2d):
    """A depthwise convolution of a static network with "same" padding, as in the supernet."""

    def forward(self, x: Tensor) -> Tensor:  # [N, C, H, W] -> [N, C, H', W']
        if self.bias is not None or not on_cpu(x):  # a folded batch norm adds a bias
            return super().forward(x)
        return depthwise_conv2d(x, self.weight, self.stride[0])


def always(_: nn.Module) -> bool:
    """True for all settings of a layer."""
    return True


def is_depthwise(conv: nn.Module) -> bool:
    """Whether `depthwise_conv2d` can compute a convolution."""
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
    """Whether `pointwise_conv2d` can compute a static or dynamic convolution."""
    if isinstance(conv, nn.Conv2d):
        ones = conv.kernel_size == conv.stride == (1, 1)
        return ones and conv.groups == 1 and conv.padding == (0, 0) and conv.padding_mode == "zeros"
    return (conv.kernel_size, conv.stride) == (1, 1)


def is_square(conv: nn.Module) -> bool:
    """Whether `FastDynamicConv2d` can compute an elastic convolution."""
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
    """Convert a network, in place, to fast layers and channels-last storage, for training or inference in eager mode.

    Results are the same up to rounding, and the state dict is unchanged. On devices other than a CPU, and within
    `reference_layers`, the layers compute as before. Export a network before the conversion, not after it. Hooks on the
    layers inside a squeeze-and-excitation are no longer called, and FLOP counters that match exact layer classes do not
    recognize the fast classes.

    Args:
        net: A supernet (already converted), a static subnet, or any network of upstream's layers.
    """
    use_fast_layers(net)
    return net.to(memory_format=torch.channels_last)


def use_fast_layers(net: nn.Module) -> None:
    """Change every layer that has a fast class to that class."""
    for module in net.modules():
        for plain, fits, fast in FAST:
            if type(module) is plain and fits(module):
                module.__class__ = fast


def plain_copy(module: Net) -> Net:
    """A copy of a part of a supernet with plain layers, for static networks."""
    copied = copy.deepcopy(module)
    for part in copied.modules():
        part.__class__ = PLAIN.get(type(part), type(part))
    return copied

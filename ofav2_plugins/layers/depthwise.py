"""The depthwise convolution of the MB block, computed fast on the small maps that small images end in.

On a map of a few pixels a depthwise convolution is slow on CPUs, most of all backwards, though it is a small
linear map per channel. Two exact reformulations: taps that can only meet the padding are cropped, and on small
maps the rest is written as one banded matrix per channel and multiplied for all channels at once.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..upstream import DynamicSeparableConv2d

BANDED_MAX_PIXELS = 36
"""Largest input map (height x width) for which the matrix product was measured to be faster."""

_plain: ContextVar[bool] = ContextVar("ofav2_plain_layers", default=False)


@contextmanager
def reference_layers() -> Iterator[None]:
    """Within it the supernet computes with upstream's own layers: the same numbers, bit for bit upstream's."""
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


class FastSeparableConv2d(DynamicSeparableConv2d):
    """Upstream's elastic depthwise convolution (same parameters, same result), by a faster algorithm."""

    def forward(self, x: Tensor, kernel_size: int | None = None) -> Tensor:  # [N, C, H, W] -> [N, C, H', W']
        if _plain.get() or x.device.type != "cpu" or self.dilation != 1:
            return super().forward(x, kernel_size)
        filters = self.get_active_filter(x.size(1), kernel_size or self.active_kernel_size)
        return depthwise_conv2d(x, filters, self.stride)


def depthwise_conv2d(x: Tensor, filters: Tensor, stride: int) -> Tensor:
    """Depthwise convolution with "same" padding: x [N, C, H, W], filters [C, 1, k, k] -> [N, C, H', W']."""
    filters = crop_to_map(filters, max(x.shape[2:]))
    if x.size(2) * x.size(3) <= BANDED_MAX_PIXELS:
        return _banded(x, filters, stride)
    return F.conv2d(x, filters.contiguous(), None, stride, filters.size(-1) // 2, 1, x.size(1))


def crop_to_map(filters: Tensor, size: int) -> Tensor:
    """Filters [C, 1, k, k] without the taps that on a map of `size` pixels a side can only meet padding."""
    margin = filters.size(-1) // 2 - (size - 1)
    return filters[..., margin:-margin, margin:-margin] if margin > 0 else filters


def _banded(x: Tensor, filters: Tensor, stride: int) -> Tensor:
    n, channels, height, width = x.shape
    kernel = filters.size(-1)
    taps = _taps(height, width, kernel, stride).to(filters)  # [k*k, HW * H'W']
    out_height, out_width = -(-height // stride), -(-width // stride)
    matrix = (filters.reshape(channels, kernel * kernel) @ taps).view(channels, height * width, -1)
    pixels = x.permute(1, 0, 2, 3).reshape(channels, n, height * width)  # [C, N, HW], contiguous for bmm
    y = torch.bmm(pixels, matrix)  # [C, N, H'W']
    return y.view(channels, n, out_height, out_width).permute(1, 0, 2, 3)


@functools.lru_cache(maxsize=256)
def _taps(height: int, width: int, kernel: int, stride: int) -> Tensor:
    """One-hot [k*k, HW * H'W']: which tap carries input pixel p to output pixel o (none: a zero column)."""
    rows, columns = _axis(height, kernel, stride), _axis(width, kernel, stride)
    # [k, H, H'] x [k, W, W'] -> [k, k, H, W, H', W']
    return torch.einsum("iac,jbd->ijabcd", rows, columns).reshape(kernel * kernel, -1)


def _axis(size: int, kernel: int, stride: int) -> Tensor:
    """One-hot [k, size, size'] along one axis."""
    taps = torch.arange(kernel).view(-1, 1, 1)
    inputs = torch.arange(size).view(1, -1, 1)
    outputs = torch.arange(0, size, stride).view(1, 1, -1)
    return (inputs - outputs + kernel // 2 == taps).double()

"""The depthwise convolution of the MB block, trained fast on CPUs.

What is slow there is the gradient of the filters: torch's library (oneDNN) has a fast kernel for filters at most 3
taps wide and no taller than the map, and a generic one, 5 to 20 times slower, for all others. The gradient of a
large filter is that of its tiles, each on a shifted input; so it is computed tile by tile. Taps that can only meet
padding are not computed at all. Both are exact.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..upstream import DynamicSeparableConv2d

TILE = 3
"""Widest filter for which the library's gradient is fast."""

STRIDED_MAX_SIDE = 8
"""Largest map, in pixels a side, on which tiles are faster than the library at stride 2, as measured."""

_plain: ContextVar[bool] = ContextVar("ofav2_plain_layers", default=False)


@contextmanager
def reference_layers() -> Iterator[None]:
    """Within it the supernet computes with upstream's own layers: the same numbers, bit for bit upstream's."""
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


def fast_on(x: Tensor) -> bool:
    """Whether the fast layers take `x`: on a CPU, outside `reference_layers` and autocast."""
    return x.device.type == "cpu" and not _plain.get() and not torch.is_autocast_enabled("cpu")


class FastSeparableConv2d(DynamicSeparableConv2d):
    """Upstream's elastic depthwise convolution (same parameters, same result), by a faster algorithm."""

    def forward(self, x: Tensor, kernel_size: int | None = None) -> Tensor:  # [N, C, H, W] -> [N, C, H', W']
        if not fast_on(x) or self.dilation != 1:
            return super().forward(x, kernel_size)
        filters = self.get_active_filter(x.size(1), kernel_size or self.active_kernel_size)
        return depthwise_conv2d(x, filters, self.stride)


def depthwise_conv2d(x: Tensor, filters: Tensor, stride: int) -> Tensor:
    """Depthwise convolution with "same" padding: x [N, C, H, W], filters [C, 1, k, k] -> [N, C, H', W']."""
    filters = crop_to_map(filters, x.size(2), x.size(3)).contiguous()
    if filters.requires_grad and torch.is_grad_enabled() and tiles_are_faster(x, filters, stride):
        return _TiledGradient.apply(x, filters, stride)
    return _plain_conv(x, filters, stride)


def crop_to_map(filters: Tensor, height: int, width: int) -> Tensor:
    """Filters [C, 1, k, k] without the rows and columns that on such a map can only meet padding."""
    for dim, size in ((2, height), (3, width)):
        margin = filters.size(dim) // 2 - (size - 1)
        if margin > 0:
            filters = filters.narrow(dim, margin, filters.size(dim) - 2 * margin)
    return filters


def tiles_are_faster(x: Tensor, filters: Tensor, stride: int) -> bool:
    """The selection: the library's own gradient is fast for small filters, and at stride 2 on larger maps."""
    if stride != 1 and max(x.shape[2:]) > STRIDED_MAX_SIDE:
        return False
    return filters.size(3) > TILE or filters.size(2) > min(x.size(2), TILE)


def _plain_conv(x: Tensor, filters: Tensor, stride: int) -> Tensor:
    return F.conv2d(x, filters, None, stride, (filters.size(2) // 2, filters.size(3) // 2), 1, x.size(1))


class _TiledGradient(torch.autograd.Function):
    """The convolution, with the filters' gradient by tiles."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, filters: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, filters)
        ctx.stride = stride
        return _plain_conv(x, filters, stride)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, filters = ctx.saved_tensors
        grad_x = _library_gradient(grad, x, filters, ctx.stride, 0) if ctx.needs_input_grad[0] else None
        grad_filters = None
        if ctx.needs_input_grad[1]:
            grad_filters = tiled_filter_gradient(grad, x, filters.size(2), filters.size(3), ctx.stride)
        return grad_x, grad_filters, None


def _library_gradient(grad: Tensor, x: Tensor, filters: Tensor, stride: int, which: int) -> Tensor:
    """torch's gradient of x (`which` 0) or of the filters (1)."""
    padding = [filters.size(2) // 2, filters.size(3) // 2]
    return torch.ops.aten.convolution_backward(
        grad,
        x,
        filters,
        None,
        [stride, stride],
        padding,
        [1, 1],
        False,
        [0, 0],
        x.size(1),
        [which == 0, which == 1, False],
    )[which]


class _Tile(NamedTuple):
    """Some taps along one axis: how far their centre is from the filter's, how many are computed, which are kept."""

    shift: int
    taps: int
    kept: slice


@functools.cache
def _tiles(kernel: int, widest: int) -> tuple[_Tile, ...]:
    """`kernel` taps (odd) as tiles of at most `widest` (odd), in order.

    A shifted input has lost what it was shifted out by, which the taps on the inner side of a tile's centre would
    need: only the centre and those outside of it are kept.
    """
    if kernel <= widest:
        return (_Tile(0, kernel, slice(0, kernel)),)
    half, step = kernel // 2, widest // 2 + 1
    right = []
    for centre in range(step, half + 1, step):
        kept = min(step, half + 1 - centre)
        right.append(_Tile(centre, 2 * kept - 1, slice(kept - 1, 2 * kept - 1)))
    left = [_Tile(-tile.shift, tile.taps, slice(0, tile.taps // 2 + 1)) for tile in reversed(right)]
    return (*left, _Tile(0, widest, slice(0, widest)), *right)


def tiled_filter_gradient(grad: Tensor, x: Tensor, height: int, width: int, stride: int) -> Tensor:
    """The gradient [C, 1, height, width] of a depthwise convolution's filters, by tiles that the library is fast for.

    Args:
        grad: Of the output, [N, C, H', W'].
        x: The input [N, C, H, W].
        height: Rows of the filters.
        width: Their columns.
        stride: Of the convolution.
    """
    tallest = height if stride == 1 and height <= x.size(2) else TILE if x.size(2) >= TILE else 1
    rows = []
    for row in _tiles(height, tallest):
        parts = []
        for column in _tiles(width, TILE):
            shifted = x
            if row.shift or column.shift:  # zeros come in where the map ends
                shifted = F.pad(x, (-column.shift, column.shift, -row.shift, row.shift))
            shape = x.new_empty(x.size(1), 1, row.taps, column.taps)
            part = _library_gradient(grad, shifted, shape, stride, 1)
            parts.append(part[:, :, row.kept, column.kept])
        rows.append(torch.cat(parts, 3))
    return torch.cat(rows, 2)

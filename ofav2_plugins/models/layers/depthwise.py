"""The depthwise convolution of the MB block, trained fast on CPUs.

The gradient of the filters is slow: torch's library (oneDNN) has a fast kernel for filters at most 3 taps wide and no
taller than the map, and a generic one, 5 to 20 times slower, for all others. The gradient of a large filter consists of
the gradients of its tiles, each on a shifted input, so it is computed tile by tile. At stride 2, this is done on each
of the four maps of every second row and column. Taps that only overlap padding are skipped. All of this is exact.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...upstream import DynamicSeparableConv2d, MyConv2d

TILE = 3
"""Widest filter for which the library's gradient is fast."""

_plain: ContextVar[bool] = ContextVar("ofav2_plain_layers", default=False)


@contextmanager
def reference_layers() -> Iterator[None]:
    """Context in which, in this thread, the supernet uses upstream's layers and gives bitwise identical results."""
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


def fast_on(x: Tensor) -> bool:
    """Whether the fast layers accept `x`: a batch of maps on a CPU, outside `reference_layers` and autocast."""
    return on_cpu(x) and not torch.is_autocast_enabled("cpu")


def on_cpu(x: Tensor) -> bool:
    """Whether `x` is a batch of maps on a CPU, outside `reference_layers`."""
    return x.dim() == 4 and x.device.type == "cpu" and not _plain.get()


class FastSeparableConv2d(DynamicSeparableConv2d):
    """Upstream's elastic depthwise convolution (same parameters, same result), by a faster algorithm."""

    def forward(self, x: Tensor, kernel_size: int | None = None) -> Tensor:  # [N, C, H, W] -> [N, C, H', W']
        if not on_cpu(x) or self.dilation != 1 or isinstance(self.conv, MyConv2d):
            y: Tensor = super().forward(x, kernel_size)
            return y
        filters = self.get_active_filter(x.size(1), kernel_size or self.active_kernel_size)
        return depthwise_conv2d(x, filters, self.stride)


def depthwise_conv2d(x: Tensor, filters: Tensor, stride: int) -> Tensor:
    """Depthwise convolution with "same" padding: x [N, C, H, W], filters [C, 1, k, k] -> [N, C, H', W'].

    Under autocast, torch computes the gradients. Its bfloat16 gradient of taps that only overlap padding contains
    uninitialized memory (torch 2.14, stride 2 on maps of one position), so these taps are skipped there, too.
    """
    filters = crop_to_map(filters, x.size(2), x.size(3)).contiguous()
    if torch.is_autocast_enabled("cpu"):
        return _plain_conv(x, filters, stride)
    if filters.requires_grad and torch.is_grad_enabled() and tiles_are_faster(x, filters):
        y: Tensor = _TiledGradient.apply(x, filters, stride)
        return y
    return _plain_conv(x, filters, stride)


def crop_to_map(filters: Tensor, height: int, width: int) -> Tensor:
    """Filters [C, 1, k, k] without the rows and columns that only overlap padding on a map of this size."""
    for dim, size in ((2, height), (3, width)):
        margin = filters.size(dim) // 2 - (size - 1)
        if margin > 0:
            filters = filters.narrow(dim, margin, filters.size(dim) - 2 * margin)
    return filters


def tiles_are_faster(x: Tensor, filters: Tensor) -> bool:
    """Whether tiles are faster: the library's own gradient is fast only for small filters."""
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
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, filters = ctx.saved_tensors
        grad_x = _library_gradient(grad, x, filters, ctx.stride, 0) if ctx.needs_input_grad[0] else None
        grad_filters = None
        if ctx.needs_input_grad[1]:
            grad_filters = filter_gradient(grad, x, filters, ctx.stride)
        return grad_x, grad_filters, None


def _library_gradient(grad: Tensor, x: Tensor, filters: Tensor, stride: int, which: int) -> Tensor:
    """torch's gradient of x (`which` 0) or of the filters (1)."""
    padding = [filters.size(2) // 2, filters.size(3) // 2]
    gradient: Tensor = torch.ops.aten.convolution_backward(
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
    return gradient


class _Tile(NamedTuple):
    """Some taps along one axis: the offset of their centre from the filter's, their number, and the ones to keep."""

    shift: int
    taps: int
    kept: slice


@functools.cache
def _tiles(first: int, last: int, widest: int) -> tuple[_Tile, ...]:
    """The taps `first`..`last` (0 is the centre) as tiles of at most `widest` (odd), in order.

    A shifted input lacks the values that were shifted out, which the taps on the inner side of a tile's centre need.
    Therefore only the centre and the taps on its outer side are kept.
    """
    reach = max(-first, last)
    half = min(reach, widest // 2)
    middle = _Tile(0, 2 * half + 1, slice(half + max(first, -half), half + min(last, half) + 1))
    step = half + 1
    right: list[_Tile] = []
    left: list[_Tile] = []
    for centre in range(step, reach + 1, step):
        for side, end, tiles in ((1, last, right), (-1, -first, left)):
            kept = min(step, end + 1 - centre)
            if kept > 0:
                outer = slice(kept - 1, 2 * kept - 1) if side > 0 else slice(0, kept)
                tiles.append(_Tile(side * centre, 2 * kept - 1, outer))
    return (*reversed(left), middle, *right)


def filter_gradient(grad: Tensor, x: Tensor, filters: Tensor, stride: int) -> Tensor:
    """The gradient [C, 1, k, k'] of a depthwise convolution's filters.

    With a stride, every tap reads only each stride-th row and column of the input. These form a smaller map, and the
    taps that read it are a filter with stride 1 on that map.

    Args:
        grad: Of the output, [N, C, H', W'].
        x: The input [N, C, H, W].
        filters: The filters; only their shape matters.
        stride: Of the convolution.
    """
    if stride == 1:
        rows, columns = ((-(size // 2), size // 2) for size in filters.shape[2:])
        return tiled_gradient(grad, x, rows, columns)
    gradient = torch.zeros_like(filters)
    for row, column in itertools.product(range(stride), repeat=2):
        part, taps, ranges = x[:, :, row::stride, column::stride], [], []
        for phase, size, limit in zip((row, column), filters.shape[2:], grad.shape[2:], strict=True):
            half = size // 2
            first, last = -((half + phase) // stride), (half - phase) // stride
            first, last = max(first, 1 - limit), min(last, limit - 1)  # only padding beyond it
            ranges.append((first, last))
            taps.append(slice(half + phase + first * stride, half + phase + last * stride + 1, stride))
        if part.numel() and all(first <= last for first, last in ranges):
            missing = [grad.size(dim) - part.size(dim) for dim in (3, 2)]
            part = F.pad(part, (0, missing[0], 0, missing[1])) if any(missing) else part
            part = part.contiguous(memory_format=torch.channels_last)
            gradient[:, :, taps[0], taps[1]] = tiled_gradient(grad, part, *ranges)
    return gradient


def tiled_gradient(grad: Tensor, x: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    """The gradient of taps of a filter at stride 1, by tiles for which the library is fast.

    Args:
        grad: Of the output, [N, C, H, W].
        x: The input [N, C, H, W].
        rows: The first and the last row of taps; 0 is the filter's centre.
        columns: The first and the last column.
    """
    height = 2 * max(-rows[0], rows[1]) + 1
    tallest = height if height <= x.size(2) else TILE if x.size(2) >= TILE else 1
    found = []
    for row in _tiles(*rows, tallest):
        parts = []
        for column in _tiles(*columns, TILE):
            shifted = x
            if row.shift or column.shift:  # zeros are shifted in at the borders
                shifted = F.pad(x, (-column.shift, column.shift, -row.shift, row.shift))
            shape = x.new_empty(x.size(1), 1, row.taps, column.taps)
            part = _library_gradient(grad, shifted, shape, 1, 1)
            parts.append(part[:, :, row.kept, column.kept])
        found.append(torch.cat(parts, 3))
    return torch.cat(found, 2)

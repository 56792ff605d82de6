"""A lower bound of the time of a pass: bytes and FLOPs of each kind of layer, against the machine's peaks.

The bound of a layer is the larger of its FLOPs at the peak and its bytes at the memory bandwidth. Bytes are those of
a pass that computes layer by layer and keeps no activation in a cache between two passes; a layer that reads the
result of the previous one from the cache can be faster than its bound.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

from ofav2_plugins.upstream import (
    DynamicBatchNorm2d,
    DynamicConv2d,
    DynamicSE,
    DynamicSeparableConv2d,
    Hswish,
    ResidualBlock,
)

DEPTHWISE, POINTWISE, STEM = "depthwise convolutions", "1x1 convolutions", "stem"
NORM, ACTIVATION, OTHER = "batch norms", "activations", "copies, slices, sums, dispatch"
SQUEEZE, SUM = "squeeze-and-excitation", "residual sums"

Cost = tuple[str, float, float]
"""Kind, bytes, FLOPs."""


PASSES = {
    "training": {NORM: 8, ACTIVATION: 5, SQUEEZE: 8, SUM: 6},
    "recalibration": {NORM: 3, ACTIVATION: 2, SQUEEZE: 3, SUM: 3},
    "evaluation": {NORM: 0, ACTIVATION: 0, SQUEEZE: 3, SUM: 3},
}
"""How often a kind of layer reads or writes its map: forward and backward; forward only; and with batch norms folded
into the convolutions and activations applied to their results.

Training: batch norm: statistics (1), normalization (2); sums (2), gradient of the input (3). Activation: 2; 3.
Squeeze-and-excitation: mean (1), product (2); gradient of the gate (2), of the input (3). Residual sum: 3; 3.
"""


def layer_costs(module: nn.Module, x: Tensor, y: Tensor, mode: str) -> list[Cost]:
    """The costs of one layer, forward and backward apart where they are reported apart.

    Args:
        module: A layer of a supernet with fast layers.
        x: Its input.
        y: Its output.
        mode: A key of `PASSES`.
    """
    passes, size = PASSES[mode], 4.0 * y.numel()
    if isinstance(module, (nn.BatchNorm2d, DynamicBatchNorm2d)):
        return [(NORM, passes[NORM] * size, 0)]
    if isinstance(module, (nn.ReLU, nn.ReLU6, Hswish)):
        return [(ACTIVATION, passes[ACTIVATION] * size, 0)]
    if isinstance(module, DynamicSE):
        return [(OTHER, passes[SQUEEZE] * size, 0)]
    if isinstance(module, ResidualBlock) and module.shortcut is not None:
        return [(OTHER, passes[SUM] * size, 0)]
    if isinstance(module, (nn.Conv2d, DynamicConv2d, DynamicSeparableConv2d)):
        kind, flop = convolution(module, x, y)
        names = (STEM, STEM) if kind == STEM else (f"{kind}, forward", f"{kind}, backward")
        read = 4.0 * x.numel()
        forward, backward = (names[0], read + size, flop), (names[1], 2 * read + 2 * size, 2 * flop)
        return [forward, backward] if mode == "training" else [forward]
    return []


def convolution(module: Any, x: Tensor, y: Tensor) -> tuple[str, float]:
    """The kind of a convolution, and the FLOPs of its forward pass."""
    if isinstance(module, DynamicSeparableConv2d):
        return DEPTHWISE, 2.0 * y.numel() * module.active_kernel_size**2
    size = module.kernel_size if isinstance(module.kernel_size, int) else module.kernel_size[0]
    if getattr(module, "groups", 1) > 1:
        return DEPTHWISE, 2.0 * y.numel() * size**2
    return (POINTWISE if size == 1 else STEM), 2.0 * y.numel() * x.size(1) * size**2


def minimum_milliseconds(
    net: nn.Module, images: Tensor, peak: dict[str, float], mode: str = "training"
) -> dict[str, dict[str, float]]:
    """Kind -> bytes (GB), FLOPs (GFLOP) and bound (ms) of one pass of the active subnet.

    Args:
        net: A supernet with fast layers, in training mode.
        images: [N, 3, R, R].
        peak: "matrix_gflops" and "copy_gb_per_second".
        mode: A key of `PASSES`.
    """
    kinds: dict[str, dict[str, float]] = defaultdict(lambda: {"gbyte": 0.0, "gflop": 0.0, "bound_ms": 0.0})
    costs: list[Cost] = []
    nested = {id(module.bn) for module in net.modules() if isinstance(module, DynamicBatchNorm2d)}
    hooks = [
        module.register_forward_hook(lambda module, x, y: costs.extend(layer_costs(module, x[0], y, mode)))
        for module in net.modules()
        if id(module) not in nested
    ]
    try:
        with torch.no_grad():
            net(images)
    finally:
        for hook in hooks:
            hook.remove()
    for kind, n_bytes, flop in costs:
        row = kinds[kind]
        row["gbyte"] += n_bytes / 1e9
        row["gflop"] += flop / 1e9
        row["bound_ms"] += max(n_bytes / 1e9 / peak["copy_gb_per_second"], flop / 1e9 / peak["matrix_gflops"]) * 1e3
    return dict(kinds)

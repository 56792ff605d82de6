"""Latency of a network on this machine."""

from __future__ import annotations

import statistics
import time

import torch
from torch import nn

LATENCY_RUNS = 7
"""Timed runs of each network."""


@torch.no_grad()
def latency_ms(net: nn.Module, batch_size: int, resolution: int) -> float:
    """Median time in milliseconds of a batch [batch_size, 3, resolution, resolution], after two warm-up runs."""
    images = torch.zeros(batch_size, 3, resolution, resolution, device=next(net.parameters()).device)
    times = []
    for _ in range(2 + LATENCY_RUNS):
        started = time.perf_counter()
        net(images).sum().item()  # waits for an asynchronous device
        times.append(time.perf_counter() - started)
    return 1e3 * statistics.median(times[2:])

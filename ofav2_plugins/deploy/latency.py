"""Measured time of a bundle's network: percentiles, and early exits against the full network. No torch here."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Latency:
    """Times of a batch in milliseconds.

    Args:
        batch_size: Images in the batch.
        runs: How many times were taken.
        mean_ms: Their mean.
        p50_ms: Their median, and so on.
        images_per_second: At the median.
    """

    batch_size: int
    runs: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    images_per_second: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)


def measure_latency(
    run: Callable[[np.ndarray], object], images: np.ndarray, batch_size: int, warmup: int = 10, runs: int = 100
) -> Latency:
    """The time of `run` on batches of `images`, which are taken in order, again from the start after the last one.

    Args:
        run: The network.
        images: [N, 3, r, r] with N >= 1.
        batch_size: Images in a batch.
        warmup: Batches that are run first without being timed.
        runs: Batches that are timed.
    """
    rows = np.arange(max(1, len(images) // batch_size) * batch_size) % len(images)
    batches = [images[part] for part in rows.reshape(-1, batch_size)]
    times = []
    for i in range(warmup + runs):
        batch = batches[i % len(batches)]
        started = time.perf_counter()
        run(batch)
        times.append(time.perf_counter() - started)
    milliseconds = 1e3 * np.array(times[warmup:])
    p50, p90, p95, p99 = np.percentile(milliseconds, (50, 90, 95, 99)).tolist()
    return Latency(batch_size, runs, float(milliseconds.mean()), p50, p90, p95, p99, 1e3 * batch_size / p50)


def compare_speed(
    first: Callable[[np.ndarray], object],
    second: Callable[[np.ndarray], object],
    images: np.ndarray,
    batch_size: int,
    warmup: int = 3,
) -> tuple[float, float]:
    """Milliseconds per image of two networks on the same images, alternating batch by batch.

    Args:
        first: A network.
        second: Another one.
        images: [N, 3, r, r], each of which is run once.
        batch_size: Images in a batch.
        warmup: Batches that are run first without being timed.
    """
    batches = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
    for batch in batches[:warmup]:
        first(batch), second(batch)
    totals = [0.0, 0.0]
    for batch in batches:
        for i, run in enumerate((first, second)):
            started = time.perf_counter()
            run(batch)
            totals[i] += time.perf_counter() - started
    return 1e3 * totals[0] / len(images), 1e3 * totals[1] / len(images)

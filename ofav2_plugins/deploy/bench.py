"""Latency of a bundle on this machine: of the full network, up to each exit, and with early exits on given images."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .bundle import Bundle, BundleRunner

FULL, EARLY = "full network", "early exits"


@dataclass(frozen=True)
class Latency:
    """Times of a batch in milliseconds.

    Args:
        batch_size: Images in the batch.
        runs: Number of timed batches.
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
    """The time of `run` on batches of `images`, which are taken in order and cyclically.

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
        first: The first network.
        second: The second network.
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


@dataclass(frozen=True)
class BenchOptions:
    """Options of the latency measurement.

    Args:
        formats: Formats of the bundle.
        batch_sizes: Images in a batch.
        threads: CPU threads.
        warmup: Batches that are run first without being timed.
        runs: Batches that are timed.
    """

    formats: Sequence[str]
    batch_sizes: Sequence[int] = (1, 64)
    threads: int = 1
    warmup: int = 10
    runs: int = 100


@dataclass(frozen=True)
class BenchRow:
    """One measurement of a part of the network in one format."""

    format: str
    part: str
    latency: Latency

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {"format": self.format, "part": self.part, **self.latency.to_dict()}


def bench(bundle: Bundle, options: BenchOptions, files: Sequence[Path] = ()) -> Iterator[BenchRow]:
    """Measure a bundle.

    Args:
        bundle: The bundle.
        options: Formats, batch sizes, and so on.
        files: Images on which early exits are timed, because the share of early answers depends on the images. Without
            any, the parts of the network up to each exit are timed.
    """
    config = bundle.config
    if files:
        images = np.stack([config.preprocessing(path) for path in files])
    else:
        shape = (max(options.batch_sizes), 3, config.resolution, config.resolution)
        images = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    for name in options.formats:
        runner = bundle.runner(name, options.threads)
        for part, run in _parts(runner, bool(files)).items():
            for size in options.batch_sizes:
                yield BenchRow(name, part, measure_latency(run, images, size, options.warmup, options.runs))


def _parts(runner: BundleRunner, real_images: bool) -> dict[str, Callable[[np.ndarray], object]]:
    parts: dict[str, Callable[[np.ndarray], object]] = {FULL: runner.whole}
    exits = runner.bundle.config.exits
    if len(exits) > 1 and real_images:
        parts[EARLY] = runner.answer
    elif len(exits) > 1:
        parts |= {f"up to exit {exit.number}": _up_to(runner, i) for i, exit in enumerate(exits)}
    return parts


def _up_to(runner: BundleRunner, position: int) -> Callable[[np.ndarray], object]:
    def run(x: np.ndarray) -> np.ndarray:
        for segment in runner.chain[: position + 1]:
            outputs = segment(x)
            x = outputs[0]
        logits: np.ndarray = outputs[-1]
        return logits

    return run

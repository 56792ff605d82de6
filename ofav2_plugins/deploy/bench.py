"""Latency of a bundle on this machine: the full network, up to each exit, and with early exits on given images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .bundle import Bundle, BundleRunner
from .latency import Latency, measure_latency

FULL, EARLY = "full network", "early exits"


@dataclass(frozen=True)
class BenchOptions:
    """How latency is measured.

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
    """One measurement: which part of the network, in which format."""

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
        files: Images on which early exits are timed: how many leave early depends on them. Without any, the parts of
            the network up to each exit are timed.
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

"""Accuracy and latency of the files of a bundle, as its card states them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from ..execution.provenance import environment
from .bundle import Bundle, BundleRunner, sha256
from .bundle_config import BundleConfig
from .decision import Decision
from .latency import compare_speed, measure_latency
from .quantization import float_operators
from .source import Source
from .verification import measured_top1, test_images

BATCH_SIZES = (1, 64)
SPEED_IMAGES = {1: 256, 64: 1024}
"""By batch size, on how many test images early exits are timed."""


def measure_bundle(
    config: BundleConfig,
    folder: Path,
    source: Source,
    decision: Decision,
    threads: int,
    int8: str,
    max_int8_loss: float | None,
) -> tuple[dict[str, Any], str | None]:
    """What the card states, and why int8 is rejected (None if it is not).

    Args:
        config: The configuration, with all formats.
        folder: Where their files are.
        source: The network and its data.
        decision: How it answers.
        threads: CPU threads.
        int8: Name of the quantised format.
        max_int8_loss: The most accuracy in points, on the validation images, that it may cost.
    """
    bundle = Bundle(folder, config, {}, {path.name: sha256(path) for path in folder.iterdir()})
    runners = {name: bundle.runner(name, threads) for name in bundle.formats}
    images = test_images(source.data, source.resolution, max(SPEED_IMAGES.values()))
    measured: dict[str, Any] = {
        "decision": decision.figures,
        "macs": decision.figures.get("macs", decision.macs),
        "params": sum(parameter.numel() for parameter in bundle.network.parameters()),
        "top1": {name: decision.figures["top1"] for name in runners if name != int8},
    }
    rejected = None
    if int8 in runners:
        measured["int8"], rejected = _int8_figures(bundle, runners, source, int8, max_int8_loss)
        if rejected:
            del runners[int8]
        else:
            measured["top1"][int8] = measured_top1(runners[int8], source.data, source.data.test)
    measured["latency"] = {name: _latency(runner, images) for name, runner in runners.items()}
    if len(config.exits) > 1:
        measured["early_exit_speed"] = {name: _speed(runner, images) for name, runner in runners.items()}
    measured["environment"] = {"date": time.strftime("%Y-%m-%d"), "threads": threads, **machine(source)}
    return measured, rejected


def machine(source: Source) -> dict[str, Any]:
    """The machine and the versions of everything that the measurements depend on."""
    return {k: v for k, v in environment(source.evaluator.fabric).items() if k not in ("date", "threads")}


def _int8_figures(
    bundle: Bundle, runners: dict[str, BundleRunner], source: Source, int8: str, limit: float | None
) -> tuple[dict[str, Any], str | None]:
    data = source.data
    before, after = (measured_top1(runners[name], data, data.validation) for name in ("onnx", int8))
    figures = {
        "val_top1": after,
        "fp32_val_top1": before,
        "loss": before - after,
        "float_operators": float_operators(bundle.folder / bundle.config.models[int8].file),
    }
    if limit is not None and before - after > limit:
        return figures, (
            f"int8 loses {before - after:.2f} points on the validation images ({before:.2f} to {after:.2f}), more than "
            f"--max-int8-loss {limit:g}"
        )
    return figures, None


def _latency(runner: BundleRunner, images: np.ndarray) -> list[dict[str, Any]]:
    """The time of the network that never leaves early."""
    return [measure_latency(runner.whole, images, size, warmup=5, runs=50).to_dict() for size in BATCH_SIZES]


def _speed(runner: BundleRunner, images: np.ndarray) -> list[dict[str, Any]]:
    """The time per image with early exits and without, on test images."""
    rows = []
    for size in BATCH_SIZES:
        early, full = compare_speed(runner.answer, runner.whole, images[: SPEED_IMAGES[size]], size)
        rows.append({"batch_size": size, "early_ms": early, "full_ms": full, "speedup": full / early})
    return rows

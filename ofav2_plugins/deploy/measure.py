"""Accuracy and latency of the files of a bundle, for its card."""

from __future__ import annotations

import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ..execution.provenance import environment
from .bench import compare_speed, measure_latency
from .bundle import Bundle, BundleRunner, exporter_of, sha256
from .bundle_config import INT8, BundleConfig
from .decision import Decision
from .quantization import float_operators
from .source import Source
from .verification import measured_top1, test_images

BATCH_SIZES = (1, 64)
SPEED_IMAGES = {1: 256, 64: 1024}
"""Batch size -> number of test images on which early exits are timed."""


def measure_bundle(
    config: BundleConfig, folder: Path, source: Source, decision: Decision, threads: int, max_int8_loss: float | None
) -> dict[str, Any]:
    """The figures of the card. `["int8"]["rejected"]` is the reason why int8 is rejected, or None.

    Args:
        config: The configuration, with all formats.
        folder: The folder with their files.
        source: The network and its data.
        decision: The choice of its output.
        threads: CPU threads.
        max_int8_loss: Maximum loss of accuracy by int8, in points on the validation images.
    """
    bundle = Bundle(folder, config, {}, {path.name: sha256(path) for path in folder.iterdir()})
    runners = {name: bundle.runner(name, threads) for name in bundle.formats}
    images = test_images(source.data, source.resolution, max(SPEED_IMAGES.values()))
    measured: dict[str, Any] = {
        "decision": decision.figures,
        "macs": decision.figures.get("macs", decision.macs),
        "params": sum(parameter.numel() for parameter in bundle.network.parameters()),
        "top1": {name: decision.figures["top1"] for name in runners if name != INT8},
    }
    if INT8 in runners:
        measured["int8"] = _int8_figures(bundle, runners, source, max_int8_loss)
        if measured["int8"]["rejected"]:
            del runners[INT8]
        else:
            measured["top1"][INT8] = measured_top1(runners[INT8], source.data, source.data.test)
    measured["latency"] = {name: _latency(runner, images) for name, runner in runners.items()}
    if len(config.exits) > 1:
        measured["early_exit_speed"] = {name: _speed(runner, images) for name, runner in runners.items()}
    measured["environment"] = {
        **environment(source.evaluator.fabric),
        **_runtime_versions(config),
        "date": time.strftime("%Y-%m-%d"),
        "threads": threads,
    }
    return measured


def _runtime_versions(config: BundleConfig) -> dict[str, str]:
    """The versions of the packages that wrote and run the files."""
    modules = {module for model in config.models.values() for module in exporter_of(model).requires}
    return {module: version(module) for module in sorted(modules)}


def _int8_figures(
    bundle: Bundle, runners: dict[str, BundleRunner], source: Source, limit: float | None
) -> dict[str, Any]:
    data = source.data
    before, after = (measured_top1(runners[name], data, data.validation) for name in ("onnx", INT8))
    rejected = None
    if limit is not None and before - after > limit:
        rejected = (
            f"int8 loses {before - after:.2f} points on the validation images ({before:.2f} to {after:.2f}), more than "
            f"--max-int8-loss {limit:g}"
        )
    return {
        "val_top1": after,
        "fp32_val_top1": before,
        "loss": before - after,
        "rejected": rejected,
        "float_operators": float_operators(bundle.folder / bundle.config.models[INT8].file),
    }


def _latency(runner: BundleRunner, images: np.ndarray) -> list[dict[str, Any]]:
    """The time of the whole network, without leaving early."""
    return [measure_latency(runner.whole, images, size, warmup=5, runs=50).to_dict() for size in BATCH_SIZES]


def _speed(runner: BundleRunner, images: np.ndarray) -> list[dict[str, Any]]:
    """The time per image with early exits and without, on test images."""
    rows = []
    for size in BATCH_SIZES:
        early, full = compare_speed(runner.answer, runner.whole, images[: SPEED_IMAGES[size]], size)
        rows.append({"batch_size": size, "early_ms": early, "full_ms": full, "speedup": full / early})
    return rows

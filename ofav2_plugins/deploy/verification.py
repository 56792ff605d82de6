"""Verification of a bundle in a fresh process, from its files only: every format, the preprocessing, the accuracy."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data.base import DataSplits, Split
from ..data.batches import eval_batches
from ..errors import RunError
from .bundle import EAGER, Bundle, BundleRunner
from .bundle_config import CONFIG, BundleConfig

TOLERANCE = 1e-4
"""Largest allowed difference of a logit, relative to the largest logit if that is above 1."""

IMAGES = 64
"""Test images on which logits are compared."""

BATCH_SIZES = (1, 3)
"""Tested in addition to all images at once: a format must accept any batch size."""


@dataclass(frozen=True)
class VerificationRequest:
    """The input of the fresh process.

    Args:
        folder: The bundle.
        sha256: Digest of each of its files.
        dataset: Reference to the dataset plugin.
        root: The folder of the dataset.
        validation_fraction: Validation fraction of the training.
        fingerprint: Fingerprint of the data.
        reference: A .npy file with the logits of the network before it was written, on the first test
            images: [exits, n, n_classes].
        top1: The accuracy in percent that the card states, by format.
        threads: CPU threads.
    """

    folder: str
    sha256: dict[str, str]
    dataset: Any
    root: str | None
    validation_fraction: float
    fingerprint: str
    reference: str
    top1: dict[str, float]
    threads: int


def verify_in_fresh_process(request: VerificationRequest) -> dict[str, Any]:
    """Run `verify` in a new Python process. Raises RunError, with the first difference, if there is one."""
    command = [sys.executable, "-m", "ofav2_plugins.deploy.verification"]
    done = subprocess.run(command, input=json.dumps(asdict(request)), capture_output=True, text=True)
    lines = done.stdout.strip().splitlines()
    try:
        answer: dict[str, Any] = json.loads(lines[-1])
    except (IndexError, ValueError):
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise RunError(f"the verification of the bundle could not run: {reason}") from None
    if "error" in answer:
        raise RunError(f"the bundle differs from the trained network: {answer['error']}; nothing was written")
    return answer


def verify(request: VerificationRequest) -> dict[str, Any]:
    """Compare every format with the exported in-memory network, and measure the accuracy again.

    Raises:
        RunError: A file, a logit, the preprocessing or an accuracy differs.
    """
    import torch

    from ..execution.training_run import load_data

    torch.set_num_threads(request.threads)
    folder = Path(request.folder)
    config = BundleConfig.model_validate_json((folder / CONFIG).read_bytes())
    bundle = Bundle(folder, config, {}, request.sha256)
    for name in request.sha256:
        bundle.checked(name)
    data = load_data(request.dataset, Path(request.root) if request.root else None, request.validation_fraction)
    if data.fingerprint != request.fingerprint:
        raise RunError(
            f"the data has changed: its fingerprint must be {request.fingerprint}, but got {data.fingerprint}"
        )
    images = test_images(data, config.resolution, IMAGES)
    results: dict[str, Any] = {"images": len(images), "preprocessing": _check_preprocessing(config, data, images)}
    reference = np.load(request.reference)
    eager = _all_exits(bundle.runner(EAGER), images)
    results["formats"] = {EAGER: {"max_difference": _difference(EAGER, eager, reference)}}
    for name in config.models:
        runner = bundle.runner(name, request.threads)
        results["formats"][name] = {}
        if not config.models[name].quantized:
            results["formats"][name]["max_difference"] = max(
                _difference(f"{name} in batches of {size}", _in_batches(runner, images, size), eager)
                for size in (*BATCH_SIZES, len(images))
            )
    for name in bundle.formats:
        measured = measured_top1(bundle.runner(name, request.threads), data, data.test)
        _check_top1(name, measured, request.top1[name], len(data.test))
        results["formats"][name]["top1"] = measured
    return results


def test_images(data: DataSplits, resolution: int, n: int) -> np.ndarray:
    """The first `n` test images as a network's input [n, 3, r, r], by the evaluation transform of the training."""
    first = data.test.take(np.arange(min(n, len(data.test))))
    return np.concatenate([images.numpy() for images, _ in eval_batches(data, first, resolution, n)])


def _check_preprocessing(config: BundleConfig, data: DataSplits, images: np.ndarray) -> float:
    stored = data.test.pixels(np.arange(len(images)))
    ours = np.stack([config.preprocessing.transform(image) for image in stored])
    difference = float(np.abs(ours - images).max())
    if difference > 10 * TOLERANCE:
        raise RunError(f"the preprocessing differs from the evaluation transform by {difference:.2g}")
    return difference


def _all_exits(runner: BundleRunner, images: np.ndarray) -> np.ndarray:
    """The logits of every exit of the chain, and of the whole network, [exits + 1, N, n_classes]."""
    x, logits = images, []
    for segment in runner.chain:
        *features, exit_logits = segment(x)
        logits.append(exit_logits)
        x = features[0] if features else x
    [whole] = runner.whole(images)
    return np.stack([*logits, whole])


def _in_batches(runner: BundleRunner, images: np.ndarray, size: int) -> np.ndarray:
    parts = [_all_exits(runner, images[start : start + size]) for start in range(0, len(images), size)]
    return np.concatenate(parts, axis=1)


def _difference(name: str, logits: np.ndarray, expected: np.ndarray) -> float:
    difference = float(np.abs(logits - expected).max()) / max(1.0, float(np.abs(expected).max()))
    if not difference <= TOLERANCE:  # also if it is NaN
        raise RunError(f"format {name!r}: logits must differ by at most {TOLERANCE:g}, but differ by {difference:.2g}")
    return difference


def measured_top1(runner: BundleRunner, data: DataSplits, split: Split, batch_size: int = 200) -> float:
    """Accuracy in percent of a bundle's answers on a split."""
    right = 0
    for images, labels in eval_batches(data, split, runner.bundle.config.resolution, batch_size):
        answers = runner.answer(images.numpy())
        right += int((answers.logits.argmax(axis=1) == labels.numpy()).sum())
    return 100 * right / len(split)


def _check_top1(name: str, measured: float, stated: float, n: int) -> None:
    """Rounding may change the class of images at a tie or a threshold: one image, or 0.1 % of them, may differ."""
    allowed = 100 * max(1, n // 1000) / n
    if not abs(measured - stated) <= allowed + 1e-9:
        raise RunError(
            f"format {name!r}: accuracy must be {stated:.2f} %, as the card states, but got {measured:.2f} %"
        )


def main() -> None:
    """The fresh process: a request on standard input, results or an error on standard output, as JSON."""
    request = VerificationRequest(**json.load(sys.stdin))
    try:
        answer: dict[str, Any] = verify(request)
    except Exception as error:
        answer = {"error": str(error) if isinstance(error, RunError) else f"{type(error).__name__}: {error}"}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()

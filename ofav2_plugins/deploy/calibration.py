"""Calibration of confidences: temperature scaling and the expected calibration error. No torch here.

Source: Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

BINS = 15
TEMPERATURES = (0.05, 20.0)


def probabilities(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Logits [N, n_classes] to class probabilities [N, n_classes] at a temperature, in double precision."""
    scaled = logits.astype(np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))  # scipy's softmax is slow for a single image
    probabilities: np.ndarray = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature that minimises the negative log-likelihood of labels [N] under logits [N, n_classes]."""
    scores, rows = logits.astype(np.float64), np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        mean: float = -log_softmax(scores / np.exp(log_temperature), axis=1)[rows, labels].mean()
        return mean

    return float(np.exp(minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded").x))


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error in [0, 1]: mean of |accuracy - confidence| over bins of equal width, weighted by size.

    Args:
        probabilities: [N, n_classes].
        labels: [N].
        bins: Number of bins of the confidence (the largest probability).
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    number = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(number, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))

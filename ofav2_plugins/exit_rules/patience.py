"""Exit rule `patience` (PABEE, arXiv 2006.04152): the number of consecutive exits that predict the same class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .base import ExitRule


class Patience(ExitRule):
    """The number of exits directly before the newest one that predict the same class."""

    def confidence(self, probabilities: Sequence[np.ndarray]) -> np.ndarray:
        predictions = np.stack([exit_probabilities.argmax(axis=1) for exit_probabilities in probabilities])  # [E, N]
        agrees = predictions[-2::-1] == predictions[-1]  # the newest of the earlier ones first
        agreeing: np.ndarray = np.logical_and.accumulate(agrees, axis=0).sum(axis=0).astype(np.float64)
        return agreeing

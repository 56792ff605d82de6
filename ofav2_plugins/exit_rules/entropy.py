"""Exit rule `entropy` (BranchyNet, arXiv 1709.01686): the distance of the class probabilities from uniform."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .base import ExitRule


class Entropy(ExitRule):
    """One minus the entropy of the class probabilities relative to its maximum, in [0, 1]."""

    def confidence(self, probabilities: Sequence[np.ndarray]) -> np.ndarray:
        newest = probabilities[-1]
        logs = np.log(newest, out=np.zeros_like(newest), where=newest > 0)  # 0 * log 0 counts as 0
        confidence: np.ndarray = 1 + (newest * logs).sum(axis=1) / np.log(newest.shape[1])
        return confidence

"""Exit rule `max_prob` (MSDNet, arXiv 1703.09844): the probability of the predicted class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .base import ExitRule


class MaxProbability(ExitRule):
    """The probability of the predicted class, in [1 / n_classes, 1]."""

    def confidence(self, probabilities: Sequence[np.ndarray]) -> np.ndarray:
        highest: np.ndarray = probabilities[-1].max(axis=1)
        return highest

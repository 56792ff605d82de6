"""Exit rule `margin`: the difference between the two largest class probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .base import ExitRule


class Margin(ExitRule):
    """The difference between the two largest class probabilities, in [0, 1]."""

    def confidence(self, probabilities: Sequence[np.ndarray]) -> np.ndarray:
        second, first = np.partition(probabilities[-1], -2, axis=1)[:, -2:].T
        margin: np.ndarray = first - second
        return margin

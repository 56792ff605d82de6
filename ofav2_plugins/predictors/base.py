"""Contract of `ofav2.predictors` (OFA section 3.4, accuracy predictor). No torch here."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from ..plugin import Plugin


class Predictor(Plugin, ABC):
    """A regression from encoded architectures to a score such as top-1 in percent.

    Settings are constructor arguments; each call of `fit` starts from scratch.
    """

    @abstractmethod
    def fit(self, codes: np.ndarray, scores: np.ndarray) -> None:
        """Fit the regression on measured architectures.

        Args:
            codes: Features [N, F]: one or more columns per entry of the architecture (-1: not part of the network),
                then logarithms of its costs. N may be as small as 8.
            scores: Measured scores [N].
        """

    @abstractmethod
    def predict(self, codes: np.ndarray) -> np.ndarray:
        """Predicted scores [N] of features [N, F]."""

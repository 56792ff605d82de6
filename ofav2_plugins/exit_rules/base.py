"""Contract of `ofav2.exit_rules`: the confidence of an early exit. No torch here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from ..plugin import Plugin


class ExitRule(Plugin, ABC):
    """The confidence of an early exit; a sample leaves the network at the first exit that reaches its threshold."""

    @abstractmethod
    def confidence(self, probabilities: Sequence[np.ndarray]) -> np.ndarray:
        """The confidence of the newest exit in each sample, [N]; higher is more confident.

        Args:
            probabilities: Class probabilities [N, n_classes] of the exits that have seen the samples, the newest last.
        """

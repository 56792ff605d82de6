"""Contract of `ofav2.skips` (OFAv2 section 3.1, skip connections)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from torch import Tensor

from ..plugin import Plugin


class Skip(Plugin, ABC):
    """The wiring of a stage; the blocks given are the active ones, in order."""

    training: bool = False
    """Whether the network trains; set before each pass, for wirings that behave differently in training."""

    @abstractmethod
    def run(self, blocks: Sequence[Callable[[Tensor], Tensor]], x: Tensor) -> Tensor:
        """The stage's output [N, C', H', W'] from its input x [N, C, H, W]; never changes a tensor in place.

        Random numbers are drawn from torch's global generator, which the training seeds for every pass.
        """

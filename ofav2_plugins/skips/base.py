"""Contract of `ofav2.skips` (OFAv2 section 3.1, skip connections)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from torch import Tensor

from ..plugin import Plugin


class Skip(Plugin, ABC):
    """The wiring of a stage; it receives the active blocks in order."""

    training: bool = False
    """Whether the network is in training mode; set before each pass, for wirings that change in training."""

    @abstractmethod
    def run(self, blocks: Sequence[Callable[[Tensor], Tensor]], x: Tensor) -> Tensor:
        """The stage's output [N, C', H', W'] from its input x [N, C, H, W]; must not change a tensor in place.

        Random numbers are drawn from torch's global generator, which the trainer seeds for every pass.
        """

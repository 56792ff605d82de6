"""Skip `stochastic`: stochastic depth (Huang et al., arXiv 1603.09382).

The rate is the same for all blocks (the paper's uniform rule). Residuals are scaled in training instead of evaluation,
as in torchvision, so that static networks need no change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor
from torchvision.ops import stochastic_depth

from ..errors import UserError
from .base import Skip


class Stochastic(Skip):
    """Upstream's wiring; training randomly drops the residual part of blocks that keep the shape.

    Args:
        rate: Probability that a block is dropped; the residual of a kept block is divided by 1 - rate.
        mode: "row" drops the block for each image independently, "batch" for the whole batch.

    Raises:
        UserError: `rate` is not in [0, 1).
    """

    def __init__(self, rate: float = 0.1, mode: Literal["row", "batch"] = "row"):
        if not 0 <= rate < 1:
            raise UserError(f"rate must be in [0, 1), but got {rate}")
        self.rate = rate
        self.mode = mode

    def run(self, blocks: Sequence[Callable[[Tensor], Tensor]], x: Tensor) -> Tensor:
        for block in blocks:
            y = block(x)
            if self.training and self.rate > 0 and y.shape == x.shape:
                y = x + stochastic_depth(y - x, self.rate, self.mode, training=True)
            x = y
        return x

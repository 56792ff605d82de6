"""Skip `residual`: upstream's wiring; the blocks keep their own residual shortcut. The null object."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from .base import Skip


class Residual(Skip):
    """One block after the other, each with its own residual shortcut (upstream's wiring)."""

    def run(self, blocks: Sequence[Callable[[Tensor], Tensor]], x: Tensor) -> Tensor:
        for block in blocks:
            x = block(x)
        return x

"""Skip `dense` (OFAv2 section 3.1): each block also receives the outputs of earlier blocks of its stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from .base import Skip


class Dense(Skip):
    """Adds the outputs of all earlier blocks of the stage, except the last, whose residual already carries it."""

    def run(self, blocks: Sequence[Callable[[Tensor], Tensor]], x: Tensor) -> Tensor:
        outputs: list[Tensor] = []  # y_1 .. y_n, each [N, C', H', W']
        skipped: Tensor | None = None  # y_1 + .. + y_(d-2); y_0 is excluded: its shape differs
        for block in blocks:
            outputs.append(block(x))
            if len(outputs) > 2:
                skipped = outputs[-3] if skipped is None else skipped + outputs[-3]
            x = outputs[-1] if skipped is None else outputs[-1] + skipped
        return x

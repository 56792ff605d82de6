"""Running the stages of a network, the same for supernets and static networks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor

from ..skips.base import Skip


def stage_outputs(skip: Skip, stages: Iterable[Any], x: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield the number (from 1) and output of each stage in order; the caller can stop after any stage.

    Args:
        skip: The wiring of the blocks.
        stages: The active blocks of each stage.
        x: The stem's output [N, C, H, W].
    """
    for number, blocks in enumerate(stages, start=1):
        x = skip.run(blocks, x)
        yield number, x

"""Peak activation memory of many architectures at once, from the peaks of their parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ..skips.base import Skip
from .liveness import Recorder, live_bytes
from .parts import Layout


def places(parts: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Indices [S, B, M] of parts in the list of all parts, by stage, position and place, and which of them exist."""
    blocks = max(len(stage) for stage in parts.stages)
    most = max(len(position) for stage in parts.stages for position in stage)
    places, number = np.full((len(parts.stages), blocks, most), -1), len(parts.stem)
    for s, stage in enumerate(parts.stages):
        for b, position in enumerate(stage):
            places[s, b, : len(position)] = np.arange(number, number + len(position))
            number += len(position)
    return places, places >= 0


def side_by_side(
    present: np.ndarray, freed: np.ndarray, kept: np.ndarray, out: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The peaks [N, S, B] of positions whose parts [N, S, B, M] run one after the other on the same input.

    Returns:
        The peak if the position's input is freed after its last use, and if it is needed afterwards.
    """
    count = np.cumsum(present, axis=3)
    keeps = np.where(present, (count - 1) * out + kept, 0)  # earlier outputs wait to be summed
    frees = np.where(present & (count == count[..., -1:]), (count - 1) * out + freed, keeps)
    return frees.max(axis=3), keeps.max(axis=3)


class Wiring:
    """The tensors that a skip keeps in memory while the blocks of a stage run, for every number of blocks.

    Args:
        skip: The wiring.
        most: Largest number of blocks of a stage.
    """

    def __init__(self, skip: Skip, most: int):
        steps = [_wiring_steps(skip, n) if n else [] for n in range(most + 1)]
        # [numbers of blocks, operations of a stage]
        shape = len(steps), max(len(row) for row in steps)
        self._inputs, self._outputs = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        self._block, self._frees = np.full(shape, -1), np.zeros(shape, dtype=bool)
        for n, row in enumerate(steps):
            for k, step in enumerate(row):
                self._inputs[n, k], self._outputs[n, k] = step.inputs, step.outputs
                self._block[n, k], self._frees[n, k] = step.block, step.frees

    def peak(
        self, depth: np.ndarray, frees: np.ndarray, keeps: np.ndarray, first: np.ndarray, last: np.ndarray
    ) -> np.ndarray:
        """The peak bytes [N, S] of each stage.

        Args:
            depth: Active blocks [N, S]; 0 for a stage that is not part of the network.
            frees: Peak of each block [N, S, B] if its input is freed after its last use.
            keeps: The same if its input is needed afterwards.
            first: Bytes of the stage's input [N, S].
            last: Bytes of the output of each of its blocks [N, S].
        """
        block = self._block[depth]  # [N, S, operations]
        own = np.where(
            self._frees[depth], np.take_along_axis(frees, block, axis=2), np.take_along_axis(keeps, block, axis=2)
        )
        live = self._inputs[depth] * first[..., None] + self._outputs[depth] * last[..., None]
        peak: np.ndarray = (live + np.where(block >= 0, own, 0)).max(axis=2)
        return peak


@dataclass(frozen=True)
class _WiringStep:
    """One operation of a stage: a block or an operation of the wiring.

    Args:
        block: Number of the block, or -1.
        frees: Whether the block's input is read for the last time.
        inputs: Live tensors of the size of the stage's input, in addition to the block's own input and output.
        outputs: Live tensors of the size of the blocks' output, in addition to the block's own input and output.
    """

    block: int
    frees: bool
    inputs: int
    outputs: int


@torch.no_grad()
def _wiring_steps(skip: Skip, n: int) -> list[_WiringStep]:
    """The operations of a stage of `n` blocks."""
    x, results = torch.zeros(1, 1, 2, 2), [torch.zeros(1, 1, 1, 1) for _ in range(n)]
    recorder, calls = Recorder(), dict[int, int]()

    def block(number: int) -> Callable[[torch.Tensor], torch.Tensor]:
        def run(given: torch.Tensor) -> torch.Tensor:
            calls[len(recorder.operations)] = number
            recorder.record("block", [given], [results[number]])
            return results[number]

        return run

    given = recorder.numbers([x])
    with recorder:
        output = skip.run([block(number) for number in range(n)], x)
    needed = recorder.numbers([output])
    sizes = [1 if i == 0 else 1000 for i in range(len(recorder.sizes))]  # separable by divmod
    steps = []
    for i, live in enumerate(live_bytes(recorder.operations, sizes, given, needed)):
        operation, frees = recorder.operations[i], False
        if i in calls:
            read = operation.reads[0]
            frees = not any(read in later.reads for later in recorder.operations[i + 1 :]) and read not in needed
            live -= sum(sizes[number] for number in {*operation.reads, *operation.produces})
        outputs, inputs = divmod(round(live), 1000)
        steps.append(_WiringStep(calls.get(i, -1), frees, inputs, outputs))
    return steps

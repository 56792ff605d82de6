"""Peak activation memory: the most memory that the activations of one image use while a network runs.

It is defined on the operations that torch executes, in order. An activation is live from the operation that produces it
to the last one that reads it. An elementwise operation (activation, addition, batch norm) reuses the memory of an input
of the same size that is read for the last time, as in deployed networks. Weights are not counted; the input image is.
The peak is the largest sum of live bytes over all operations.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

BATCH_NORMS = {torch.ops.aten.native_batch_norm.default, torch.ops.aten._native_batch_norm_legit_no_training.default}
"""Elementwise in evaluation mode, although torch does not tag them as such."""


@dataclass(frozen=True)
class Operation:
    """One executed operation, with the numbers of the activations that it reads and produces."""

    name: str
    reads: tuple[int, ...]
    produces: tuple[int, ...]
    elementwise: bool = False


class Recorder(TorchDispatchMode):
    """Records the operations that run within it, and the activations between them.

    Views and in-place operations refer to the activation whose memory they share.

    Args:
        weights: Tensors that are not activations.
    """

    def __init__(self, weights: Iterable[Tensor] = ()):
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[Operation] = []
        self.sizes: list[int] = []
        """Bytes of each activation, by its number."""
        self._weights = {_memory(weight) for weight in weights}
        self._numbers: dict[int, int] = {}
        self._kept: list[Tensor] = []  # so that no address is used twice

    def number(self, tensor: Tensor) -> int | None:
        """The number of a tensor's activation, or of the activation whose memory it shares; None for a weight."""
        address = _memory(tensor)
        if address in self._weights or tensor.numel() == 0:
            return None
        if address not in self._numbers:
            self._numbers[address] = len(self.sizes)
            self.sizes.append(tensor.untyped_storage().nbytes())
            self._kept.append(tensor)
        return self._numbers[address]

    def record(self, name: str, reads: Iterable[Tensor], results: Iterable[Tensor], elementwise: bool = False) -> None:
        """Add an operation; results that share memory with an input do not count as produced."""
        read = self.numbers(reads)
        produced = tuple(number for number in self.numbers(results) if number not in read)
        self.operations.append(Operation(name, read, produced, elementwise))

    def numbers(self, tensors: Iterable[Tensor]) -> tuple[int, ...]:
        """The distinct numbers of the tensors that are activations."""
        return tuple(dict.fromkeys(n for tensor in tensors if (n := self.number(tensor)) is not None))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        reads, results = (
            [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)] for tree in ((args, kwargs), result)
        )
        self.record(str(func), reads, results, torch.Tag.pointwise in func.tags or func in BATCH_NORMS)
        return result


def _memory(tensor: Tensor) -> int:
    address: int = tensor.untyped_storage()._cdata
    return address


def live_bytes(
    operations: Sequence[Operation], sizes: Sequence[float], given: Iterable[int], needed: Iterable[int]
) -> Iterator[float]:
    """Bytes of live activations during each operation.

    Args:
        operations: In the order of execution.
        sizes: Bytes of each activation.
        given: Activations that exist before the first operation.
        needed: Activations that are read after the last operation.
    """
    last = {number: i for i, operation in enumerate(operations) for number in (*operation.produces, *operation.reads)}
    last.update(dict.fromkeys(needed, len(operations)))
    live = set(given)
    for i, operation in enumerate(operations):
        live.update(operation.produces)
        total = sum(sizes[number] for number in live)
        if operation.elementwise:
            dying = (sizes[number] for number in operation.reads if last[number] == i)
            total -= next((size for size in dying if [size] == [sizes[n] for n in operation.produces]), 0)
        yield total
        live = {number for number in live if last.get(number, -1) > i}


@torch.no_grad()
def peak_bytes(net: nn.Module, image: Tensor) -> tuple[int, int]:
    """Peak activation memory of a network in evaluation mode, in bytes.

    Args:
        net: Static network or a part of one.
        image: Its input.

    Returns:
        The peak if the input is freed after its last use, and the peak if it is still needed afterwards.
    """
    recorder = Recorder(itertools.chain(net.parameters(), net.buffers()))
    with recorder:
        output = net(image)
    given, needed = recorder.numbers([image]), recorder.numbers(tree_leaves(output))

    def peak(needed: tuple[int, ...]) -> int:
        return round(max(live_bytes(recorder.operations, recorder.sizes, given, needed), default=0))

    return peak(needed), peak((*needed, *given))

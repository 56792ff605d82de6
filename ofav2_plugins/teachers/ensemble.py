"""The exit ensemble (ENS-KD, OFAv2 section 3.4; prediction of a multi-exit network in AEP)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..models.subnet import Subnet
from ..models.supernet import Supernet


class ExitEnsemble(nn.Module):
    """A network whose output is the weighted sum of its exits' logits.

    Args:
        net: A static network or a supernet; its exits in ascending order.
        weights: One weight per exit.
    """

    def __init__(self, net: Subnet | Supernet, weights: Sequence[float]):
        super().__init__()
        self.net = net
        self.weights = tuple(weights)

    def forward(self, x: Tensor) -> Tensor:  # [N, 3, R, R] -> [N, n_classes]
        return weighted_sum(self.net.forward_exits(x), self.weights)


def weighted_sum(values: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The sum of weight * value; a single value with weight 1 is returned unchanged."""
    if len(values) == 1 and weights[0] == 1:
        return values[0]
    total = weights[0] * values[0]
    for weight, value in zip(weights[1:], values[1:], strict=True):
        total = total + weight * value
    return total

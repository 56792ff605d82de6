"""A block position of the supernet: the MB block and the branches beside it (OFAv2 section 3.2)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ...space import MBCONV
from ...upstream import ResidualBlock


class ParallelBlock(ResidualBlock):
    """Upstream's residual MB block plus branches on the same input; the outputs of the active ones are summed.

    `conv` and `shortcut` keep upstream's names in the state dict, the branches are `branches.<name>`.
    """

    def __init__(self, block: ResidualBlock, branches: Mapping[str, nn.Module]):
        super().__init__(block.conv, block.shortcut)
        self.branches = nn.ModuleDict(branches)
        self.active: tuple[str, ...] = (MBCONV, *branches)

    def forward(self, x: Tensor) -> Tensor:  # [N, C, H, W] -> [N, C', H', W']
        outputs = [super().forward(x) if MBCONV in self.active else None]
        outputs += [branch(x) for name, branch in self.branches.items() if name in self.active]
        return sum_outputs([y for y in outputs if y is not None])


def sum_outputs(outputs: list[Tensor]) -> Tensor:
    """The sum of one or more tensors of one shape, out of place, from the first to the last."""
    total = outputs[0]
    for y in outputs[1:]:
        total = total + y
    return total

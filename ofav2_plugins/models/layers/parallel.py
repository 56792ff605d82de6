"""A block position of the supernet: the backbone's block and the branches in parallel with it (OFAv2 section 3.2)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ...upstream import extended
from .narrow import run_narrow


class ParallelBlock(nn.Module):
    """A mixin for the class of a backbone's block, which sums the outputs of the active parts.

    The block's own parameters keep their names in the state dict; the branches are `branches.<name>`.
    """

    main: str
    branches: nn.ModuleDict
    active: tuple[str, ...]
    """Names of the active parts."""
    narrow: Mapping[str, nn.Module]
    """Branch -> its form at the active widths, if these are not the largest."""

    def forward(self, x: Tensor) -> Tensor:  # [N, C, H, W] -> [N, C', H', W']
        outputs = [super().forward(x)] if self.main in self.active else []
        for name, branch in self.branches.items():
            if name in self.active:
                outputs.append(run_narrow(branch, self.narrow[name], x) if name in self.narrow else branch(x))
        return sum_outputs(outputs)


def make_parallel(block: Any, main: str, branches: Mapping[str, nn.Module]) -> None:
    """Convert a backbone's block, in place, to a `ParallelBlock`; `main` is the block's own name in `level`."""
    block.__class__ = extended(ParallelBlock, type(block))
    block.main = main
    block.branches = nn.ModuleDict(branches)
    block.active = (main, *branches)
    block.narrow = {}


def without_branches(block: ParallelBlock) -> nn.Module:
    """The backbone's own block, with the same parameters."""
    own = copy.copy(block)
    own.__class__ = type(block).__bases__[1]
    own._modules = {name: module for name, module in block._modules.items() if name != "branches"}
    return own


def sum_outputs(outputs: list[Tensor]) -> Tensor:
    """The sum of one or more tensors of the same shape, out of place, in order."""
    total = outputs[0]
    for y in outputs[1:]:
        total = total + y
    return total

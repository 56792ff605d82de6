"""Contract of `ofav2.branches` (OFAv2 section 3.2, parallel blocks)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import nn

from ..plugin import Plugin


class Branch(Plugin, ABC):
    """A block in parallel with the backbone's block; the outputs of the active ones are summed."""

    @abstractmethod
    def build(self, in_channels: int, out_channels: int, stride: int, act_func: str) -> nn.Module:
        """A module of plain torch layers: [N, in_channels, H, W] -> [N, out_channels, ceil(H/stride), ceil(W/stride)].

        The module has an attribute `config`: a JSON-able dictionary of this method's arguments, from which
        `build(**config)` rebuilds the same module.

        Args:
            in_channels: Channels of the position's input.
            out_channels: Channels of the MB block's output.
            stride: The position's stride.
            act_func: The stage's activation, by upstream's name ("relu", "h_swish").
        """


class BranchBlock(nn.Sequential):
    """A branch of sequential layers that stores the arguments it was built from."""

    def __init__(self, config: dict[str, Any], **layers: nn.Module):
        super().__init__()
        self.config = config
        for name, layer in layers.items():
            self.add_module(name, layer)

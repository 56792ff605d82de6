"""Exits `final`: the network ends with its own tail. The null object."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from .base import Exits


class Final(Exits):
    """No early exit: the network ends with its own tail."""

    def heads(self, stage_widths: Sequence[int], n_classes: int, dropout: float) -> nn.ModuleDict:
        return nn.ModuleDict()

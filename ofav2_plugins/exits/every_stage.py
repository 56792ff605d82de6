"""Exits `every_stage` (OFAv2 section 3.3): a copy of the tail after each stage except the last."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from .base import Exits


class EveryStage(Exits):
    """An exit after every stage, like the tail but scaled to the stage's width; the last one is the tail itself."""

    def heads(self, stage_widths: Sequence[int], n_classes: int, dropout: float) -> nn.ModuleDict:
        return nn.ModuleDict(
            {
                str(number): self.backbone.head(width, n_classes, dropout)
                for number, width in enumerate(stage_widths[:-1], start=1)
            }
        )

"""Exits `every_stage` (OFAv2 section 3.3): a copy of the tail after each stage but the last."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from .base import ExitHead, Exits


class EveryStage(Exits):
    """An exit after every stage, scaled to the stage's width; the last one is upstream's own tail."""

    def heads(self, stage_widths: Sequence[int], n_classes: int, dropout: float) -> nn.ModuleDict:
        return nn.ModuleDict(
            {
                str(number): ExitHead.build(width, n_classes, dropout)
                for number, width in enumerate(stage_widths[:-1], start=1)
            }
        )

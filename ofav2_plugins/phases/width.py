"""Phase `width`: Elastic Width (OFA section 3.3): the expand ratios of the blocks and the widths of the stages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..space import SearchSpace
from .base import Phase, PhaseStep, StepSettings, one_by_one

if TYPE_CHECKING:
    from ..models.supernet import Supernet

EXPAND = "e"
DIMS = (EXPAND, "w")
"""Expand ratios, and the width multipliers of OFA's ResNet."""


class Width(Phase):
    """Unlocks expand ratios and stage widths one by one from the largest, and sorts channels by importance."""

    after = ("full", "kernel", "level", "height", "depth")

    def supports(self, space: SearchSpace) -> bool:
        return any(map(space.is_elastic, DIMS))

    def steps(self, space: SearchSpace) -> list[PhaseStep]:
        unlocked = {dim: one_by_one(space[dim].values) for dim in DIMS if space.is_elastic(dim)}
        first = StepSettings(epochs=25, lr=0.0025, subnets_per_step=4)
        later = StepSettings(epochs=120, lr=0.0075, warmup_epochs=5, subnets_per_step=4)
        return [
            PhaseStep(
                {dim: values[i] for dim, values in unlocked.items() if i < len(values)}, first if i == 0 else later
            )
            for i in range(max(map(len, unlocked.values())))
        ]

    def prepare(self, net: Supernet, step: int) -> None:
        # Stage 0 ranks all channels; later stages keep the groups of channels that earlier steps have trained.
        if net.space.is_elastic(EXPAND) and step < len(net.space[EXPAND].values):
            net.re_organize_middle_weights(expand_ratio_stage=step - 1)

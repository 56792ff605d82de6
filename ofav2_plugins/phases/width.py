"""Phase `width`: Elastic Width (OFA section 3.3), the expand ratio of the MB blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..space import SearchSpace
from .base import Phase, PhaseStep, StepSettings, one_by_one, phase_steps

if TYPE_CHECKING:
    from ..models.supernet import Supernet


class Width(Phase):
    """Unlocks the expand ratios one by one from the largest, the most important channels first."""

    after = ("full", "kernel", "level", "height", "depth")

    def supports(self, space: SearchSpace) -> bool:
        return len(space["e"].values) > 1

    def steps(self, space: SearchSpace) -> list[PhaseStep]:
        return phase_steps(
            "e",
            one_by_one(space["e"].values),
            [
                StepSettings(epochs=25, lr=0.0025, subnets_per_step=4),
                StepSettings(epochs=120, lr=0.0075, warmup_epochs=5, subnets_per_step=4),
            ],
        )

    def prepare(self, net: Supernet, step: int) -> None:
        # Stage 0 ranks all channels; later stages keep the groups that earlier steps have trained as they are.
        net.re_organize_middle_weights(expand_ratio_stage=step - 1)
